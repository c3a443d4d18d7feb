"""The weight readers on generated files: refused with one line, or read as everybody reads them.

``SELFEE_FUZZ_SECONDS=600 pytest tests/weights/test_fuzz.py -s`` goes on for that long in each test
and prints the counts; ``SELFEE_FUZZ_SEED`` begins elsewhere.
"""

from __future__ import annotations

import io
import json
import os
import pickletools
import random
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import damage
import hostile
import numpy as np
import pytest
import safetensors
import torch
from makers import SMALL, random_tensors, raw, write_checkpoint

from selfee_cli.errors import SelfeeError
from selfee_cli.weights.checkpoint import open_checkpoint
from selfee_cli.weights.pickle_file import read_torch_zip
from selfee_cli.weights.safetensors_file import read_safetensors_header
from selfee_cli.weights.storage import DataFile, StoredTensor

SECONDS = float(os.environ.get("SELFEE_FUZZ_SECONDS", "0"))
SEED = os.environ.get("SELFEE_FUZZ_SEED", "0")

Found = dict[str, tuple[str, tuple[int, ...], bytes]]
"""Name to type, shape and bytes of a tensor."""


def rounds(count: int) -> Iterator[int]:
    """``count`` rounds, or as many as fit in the seconds asked for."""
    stop = time.monotonic() + SECONDS
    number = 0
    while time.monotonic() < stop if SECONDS else number < count:
        yield number
        number += 1


def check_refusal(error: SelfeeError) -> str:
    for line in (error.message, error.hint or ""):
        assert line.isprintable(), line
        assert len(line) < 1000, line
    return type(error).__name__


def read_as_we_do(
    path: Path, content: bytes, reader: Callable[[DataFile], dict[str, StoredTensor]]
) -> Found | str:
    """What a reader of ours makes of a file, or the kind of its refusal."""
    path.write_bytes(content)
    try:
        with DataFile(path) as file:
            found = {}
            for name, stored in reader(file).items():
                data = file.read_bytes(stored.offset, stored.nbytes)
                if stored.byteswapped:
                    size = max(len(data) // max(int(np.prod(stored.shape)), 1), 1)
                    data = np.frombuffer(data, f"V{size}").tobytes()
                    data = np.frombuffer(data, f"u{size}").byteswap().tobytes()
                found[name] = (stored.dtype, stored.shape, data)
            return found
    except SelfeeError as error:
        return check_refusal(error)


# Headers of safetensors.


def read_as_safetensors_does(content: bytes) -> Found | None:
    try:
        entries = safetensors.deserialize(content)
    except safetensors.SafetensorError:
        return None
    return {
        name: (value["dtype"], tuple(value["shape"]), bytes(value["data"]))
        for name, value in entries
    }


def sound_header(rng: random.Random) -> tuple[dict[str, Any], bytes]:
    header: dict[str, Any] = {}
    if rng.random() < 0.5:
        header["__metadata__"] = {"format": "pt"}
    at = 0
    for number in range(rng.randint(1, 4)):
        shape = [rng.randint(0, 3) for _ in range(rng.randint(0, 3))]
        dtype = rng.choice(["F16", "BF16", "F32", "I64", "BOOL"])
        size = {"I64": 8, "F32": 4, "BOOL": 1}.get(dtype, 2)
        end = at + int(np.prod(shape)) * size
        header[f"w.{number}"] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    return header, rng.randbytes(at)


TOKENS = [
    b"NaN", b"-Infinity", b"1e400", b"1e5", b"-0", b"1.0", b"9" * 30, b"9" * 5000, b"null", b"true",
    b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b'"\\u001b[2J"', '"\u202e"'.encode(), b"{}",
    b"[]", b"[[[[", b'{"a":', b",", b" ", b"\xef\xbb\xbf", b"\xff", b"[0," + b"0," * 50 + b"0]",
    b"[" * 200 + b"]" * 200, b"[" * 30 + b"]" * 30, b"//", b"'", b'"w.0"', b'"__metadata__"',
]  # fmt: skip


def change_text(text: bytes, rng: random.Random) -> bytes:
    """Put a token in the place of a number, a string, a value or anything else."""
    start = rng.randrange(len(text))
    stop = min(len(text), start + rng.choice([0, 0, 1, 1, 2, 5]))
    if rng.random() < 0.6:  # in the place of a whole token
        while start and text[start - 1] not in b'[]{},:"':
            start -= 1
        while stop < len(text) and text[stop] not in b'[]{},:"':
            stop += 1
    return text[:start] + rng.choice(TOKENS) + text[stop:]


def hostile_safetensors(rng: random.Random) -> bytes:
    header, data = sound_header(rng)
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
        if header:
            damage.change_json(header, rng)
    text = json.dumps(header).encode() + b" " * rng.choice([0, 0, 3])
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        text = change_text(text, rng)
    length = rng.choice([len(text)] * 12 + [0, 1, len(text) - 1, len(text) + 1, 2**40, 2**63])
    data = rng.choice([data] * 8 + [data + b"\0", data[:-1], b""])
    content = length.to_bytes(8, "little") + text + data
    return rng.choice([content] * 20 + [rng.randbytes(40), content[: rng.randrange(len(content))]])


def test_safetensors_headers(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for number in rounds(600):
        rng = random.Random(f"safetensors {SEED} {number}")
        content = hostile_safetensors(rng)
        ours = read_as_we_do(tmp_path / "f", content, read_safetensors_header)
        if isinstance(ours, str):
            outcomes[ours] += 1
            continue
        theirs = read_as_safetensors_does(content)
        outcomes["accepted by both" if theirs is not None else "accepted by us"] += 1
        assert theirs is None or ours == theirs, f"round {number}"
    print(dict(outcomes))
    assert outcomes["accepted by both"] > 0.02 * outcomes.total()
    assert outcomes["SelfeeError"] > 0.2 * outcomes.total()


# Archives of torch.save.

TYPES = {
    torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64",
    torch.int8: "I8", torch.uint8: "U8", torch.int16: "I16", torch.int32: "I32",
    torch.int64: "I64", torch.bool: "BOOL", torch.complex64: "C64",
}  # fmt: skip


def read_as_torch_does(path: Path) -> Found | None:
    """What torch's own careful reader makes of a file; ``None`` where it refuses it.

    Mapped, for its other road gives memory that was never written where an entry is marked as a
    folder.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            state = torch.load(path, weights_only=True, mmap=True)
        except Exception:  # it has no error of its own for a damaged file
            return None
        found = {}
        for name, tensor in state.items():
            plain = torch.empty(tensor.shape, dtype=tensor.dtype)  # without odd strides
            plain.copy_(tensor.detach())
            data = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
            found[name] = (TYPES[tensor.dtype], tuple(tensor.shape), data)
        return found


def real_pickles() -> list[tuple[list[bytes], dict[str, bytes]]]:
    """Opcodes and storages of files of torch.save."""
    whole = torch.arange(6.0)
    states: list[Any] = [
        {"w0": torch.ones(2, 3), "w1": torch.ones(4, dtype=torch.float16)},
        {"w0": whole[:4].view(2, 2), "w1": whole[4:], "w2": torch.nn.Parameter(torch.zeros(2))},
        torch.nn.Linear(2, 3).state_dict(),
    ]
    found = []
    for state in states:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with zipfile.ZipFile(buffer) as archive:
            storages = {
                name.removeprefix("archive/data/"): archive.read(name)
                for name in archive.namelist()
                if name.startswith("archive/data/")
            }
            data = archive.read("archive/data.pkl")
        starts = [at for _, _, at in pickletools.genops(data)] + [len(data)]
        ops = [data[a:b] for a, b in pairwise(starts)]
        found.append((ops, storages))
    return found


def hostile_archive(rng: random.Random, real: list[tuple[list[bytes], dict[str, bytes]]]) -> bytes:
    ops, storages = rng.choice([*real, hostile.sound_archive(rng), hostile.sound_archive(rng)])
    more: dict[str, Any] = {}
    kind = rng.randrange(3)
    for _ in range(rng.choice([1, 1, 1, 2, 3]) if kind != 1 else 0):
        ops = hostile.change_ops(ops, rng)
    entries = hostile.archive_entries(b"".join(ops), storages)
    if kind != 0:
        more = hostile.change_entries(entries, rng)
    content = bytearray(hostile.zip_bytes(entries, **more))
    if rng.random() < 0.1:
        content[-rng.randrange(1, 300)] = rng.randrange(256)
    return bytes(content)


def test_archives_of_torch_save(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    real = real_pickles()
    for number in rounds(600):
        rng = random.Random(f"pickle {SEED} {number}")
        content = hostile_archive(rng, real)
        ours = read_as_we_do(tmp_path / "f.bin", content, read_torch_zip)
        if isinstance(ours, str):
            outcomes[ours] += 1
            continue
        theirs = read_as_torch_does(tmp_path / "f.bin")
        outcomes["accepted by both" if theirs is not None else "accepted by us"] += 1
        assert theirs is None or ours == theirs, f"round {number}"
    print(dict(outcomes))
    assert outcomes["accepted by both"] > 0.02 * outcomes.total()
    assert outcomes["SelfeeError"] > 0.2 * outcomes.total()


# Indexes and configurations.


@pytest.mark.parametrize("layout", ["safetensors", "bin", "meta"])
def test_json_files(tmp_path: Path, layout: str) -> None:
    tensors = random_tensors(SMALL, seed=1)
    path = write_checkpoint(tmp_path / "m", tensors, SMALL, layout, shards=2)
    texts = {file: file.read_bytes() for file in sorted(path.glob("*.json"))}
    outcomes: Counter[str] = Counter()
    for number in rounds(60):
        rng = random.Random(f"{layout} {SEED} {number}")
        file = rng.choice(list(texts))
        text = texts[file]
        if rng.random() < 0.5:
            text = json.dumps(damage.change_json(json.loads(text), rng)).encode()
        if rng.random() < 0.5:
            text = change_text(text, rng)
        file.write_bytes(text)
        try:
            with open_checkpoint(path) as checkpoint:
                found = {name: checkpoint.read(name) for name in checkpoint.tensors}
                config = checkpoint.config
        except SelfeeError as error:
            outcomes[check_refusal(error)] += 1
        else:
            outcomes["accepted"] += 1
            assert found.keys() == tensors.keys(), f"round {number}"
            for name, tensor in tensors.items():
                np.testing.assert_array_equal(found[name], raw(tensor), err_msg=f"round {number}")
            if layout != "meta":
                assert config == json.loads((path / "config.json").read_text()), f"round {number}"
            json.dumps(config, indent=2).encode()
        file.write_bytes(texts[file])
    print(layout, dict(outcomes))
    assert 0.02 < outcomes["accepted"] / outcomes.total() < 0.8
