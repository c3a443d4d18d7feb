"""Ways to damage a checkpoint directory. Each takes the directory and a random generator."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Damage = Callable[[Path, random.Random], None]

NUMBERS = [-1, 0, 1, 3, 2**31, 2**32, 2**53, 2**63, 2**64, 10**30, 1.5, True, None, "7", [], {}]
TEXTS = ["", "..", "../base", "/etc/passwd", "a/b", "\0", "F8_E4M3", "BF16", "F16", "F32", "I64"]


def weight_files(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".bin", ".pth"))


def any_weights(path: Path, rng: random.Random) -> Path:
    return rng.choice(weight_files(path))


def truncate(path: Path, rng: random.Random) -> None:
    file = any_weights(path, rng)
    size = file.stat().st_size
    cut = rng.choice([0, 1, 7, 8, 9, rng.randrange(size), size - 1, size - rng.randrange(1, 200)])
    file.write_bytes(file.read_bytes()[:cut])


def append(path: Path, rng: random.Random) -> None:
    file = any_weights(path, rng)
    file.write_bytes(file.read_bytes() + rng.randbytes(rng.choice([1, 2, 8, 1000])))


def header_spans(file: Path) -> tuple[int, int]:
    """The bytes of a file that are structure rather than weights."""
    data = file.read_bytes()
    if file.suffix == ".safetensors":
        return 0, 8 + int.from_bytes(data[:8], "little")
    with zipfile.ZipFile(file) as archive:
        info = next(e for e in archive.infolist() if e.filename.endswith("data.pkl"))
        if len(data) % 2:
            return archive.start_dir, len(data)
        start = info.header_offset + 30
        return start, start + len(info.filename) + info.file_size


def flip(path: Path, rng: random.Random) -> None:
    file = any_weights(path, rng)
    start, stop = header_spans(file)
    data = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        data[rng.randrange(start, stop)] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def overwrite(path: Path, rng: random.Random) -> None:
    file = any_weights(path, rng)
    start, stop = header_spans(file)
    data = bytearray(file.read_bytes())
    at = rng.randrange(start, stop)
    length = rng.choice([1, 2, 4, 8])
    data[at : at + length] = rng.choice([b"\xff", b"\0", b"0", b"}", b"."]) * length
    file.write_bytes(data)


def zip_directory(path: Path, rng: random.Random) -> None:
    """Damage the central directory or the end record of a zip file."""
    file = any_weights(path, rng)
    if file.suffix == ".safetensors":
        flip(path, rng)
        return
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        start = archive.start_dir
    for _ in range(rng.choice([1, 2, 4])):
        data[rng.randrange(start, len(data))] = rng.randrange(256)
    file.write_bytes(data)


def rezip(path: Path, rng: random.Random) -> None:
    """Write a zip file again with an entry compressed, lost, renamed, doubled or resized."""
    file = any_weights(path, rng)
    if file.suffix == ".safetensors":
        append(path, rng)
        return
    with zipfile.ZipFile(file) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at = rng.randrange(len(entries))
    name, content = entries[at]
    changed: list[list[tuple[str, bytes]]] = [
        entries[:at] + entries[at + 1 :],
        [*entries[:at], (name + "x", content), *entries[at + 1 :]],
        [*entries[:at], ("../" + name, content), *entries[at + 1 :]],
        [*entries[:at], (name, content + b"\0\0"), *entries[at + 1 :]],
        [*entries[:at], (name, content[:-1]), *entries[at + 1 :]],
    ]
    compression = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in rng.choice(changed):
            archive.writestr(name, content)


def walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from walk(value[key])


def change_json(value: Any, rng: random.Random) -> Any:
    container, key = rng.choice(list(walk(value)))
    action = rng.randrange(5)
    if action == 0 and isinstance(container, dict):
        del container[key]
    elif action == 1 and isinstance(container, dict):
        container[rng.choice(TEXTS)] = container.pop(key)
    elif action == 2 and isinstance(container, dict):
        other = rng.choice(list(container))
        container[key], container[other] = container[other], container[key]
    else:
        container[key] = rng.choice(NUMBERS + TEXTS)
    return value


def header_json(path: Path, rng: random.Random) -> None:
    """Change the header of a safetensors file, which then says something else."""
    file = any_weights(path, rng)
    if file.suffix != ".safetensors":
        flip(path, rng)
        return
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = change_json(json.loads(data[8 : 8 + length]), rng)
    text = json.dumps(header).encode()
    if rng.random() < 0.1:
        text = text[:-1] + b"," + text[1:]  # every name twice
    claimed = rng.choice([len(text)] * 8 + [0, 2**63, 2**40, len(text) + 1])
    file.write_bytes(claimed.to_bytes(8, "little") + text + data[8 + length :])


def side_files(path: Path, rng: random.Random) -> None:
    """Change config.json, params.json or the index."""
    files = sorted(path.glob("*.json"))
    file = rng.choice(files)
    if rng.random() < 0.3:
        data = bytearray(file.read_bytes())
        data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data)
    elif rng.random() < 0.1:
        file.write_text("[" * 100_000)
    else:
        file.write_text(json.dumps(change_json(json.loads(file.read_text()), rng)))


def replace_file(path: Path, rng: random.Random) -> None:
    """A weight file becomes a folder, a loop, a dangling link, a pointer or nothing."""
    file = any_weights(path, rng)
    aside = path / "aside"
    file.rename(aside)
    action = rng.randrange(6)
    if action == 0:
        file.mkdir()
    elif action == 1:
        file.symlink_to(file)
    elif action == 2:
        file.symlink_to(path / "nowhere")
    elif action == 3:
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    elif action == 4:
        file.symlink_to(aside)  # as the Hub's cache has it: fine


def extra_layout(path: Path, rng: random.Random) -> None:
    """Files of another layout beside the first."""
    name = rng.choice(["model.safetensors", "pytorch_model.bin", "consolidated.00.pth"])
    if not (path / name).exists():
        (path / name).write_bytes(rng.randbytes(64))


DAMAGES: list[Damage] = [
    truncate,
    append,
    flip,
    overwrite,
    zip_directory,
    rezip,
    header_json,
    header_json,
    side_files,
    replace_file,
    extra_layout,
]
