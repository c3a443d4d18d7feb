"""Hugging Face's layouts: one file or shards with an index, as safetensors or as ``.bin``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from selfee_cli.errors import MismatchError, NotFoundError, SelfeeError
from selfee_cli.weights.bounds import MAX_TENSORS, is_name, shown
from selfee_cli.weights.corrections import CORRECTION_NAME
from selfee_cli.weights.dtypes import DType
from selfee_cli.weights.pickle_file import read_torch_zip
from selfee_cli.weights.safetensors_file import parse_json_object, read_safetensors_header
from selfee_cli.weights.storage import DataFile, RowSource, StoredRows, StoredTensor, truncated

SAFETENSORS = re.compile(
    rf"(?!{re.escape(CORRECTION_NAME)})[^.].*\.safetensors|[^.].*\.safetensors\.index\.json"
)
BIN = re.compile(r"pytorch_model.*\.bin|[^.].*\.bin\.index\.json")
MAX_JSON = 8 << 20
"""Bytes of an index or a configuration; the index of the largest LLaMA has 60 kB."""
MAX_ROW = 1 << 20
"""Elements of a tensor's row, which is read whole; the largest LLaMA has 22,016."""

_SHARD = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.(safetensors|bin)")
_NOT_WEIGHTS = re.compile(r".*rotary_emb\.inv_freq")  # recomputed from the configuration

_COUNTS = {
    "hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads",
    "num_hidden_layers", "num_key_value_heads", "vocab_size",
}  # fmt: skip
_NUMBERS = {"rms_norm_eps": 1.0, "rope_theta": 1e12}  # and the most they may be

OpenFile = Callable[[str], DataFile]


def open_hf_tensors(
    path: Path, names: Sequence[str], layout: Literal["safetensors", "bin"], open_file: OpenFile
) -> dict[str, RowSource]:
    """Give the row source of every tensor, having checked shards against each other and the index.

    Args:
        path: The directory.
        names: The files of ``layout`` in it, indexes included.
        layout: Which reader they need.
        open_file: Opens a file of the directory by name.
    """
    indexes = [name for name in names if name.endswith(".index.json")]
    files = [name for name in names if name not in indexes]
    if len(indexes) > 1:
        raise _ambiguous(path, indexes)
    weight_map = _read_index(path, indexes[0]) if indexes else None
    shards = _shards(path, files, weight_map, indexes)
    read_header = read_safetensors_header if layout == "safetensors" else read_torch_zip
    sources: dict[str, RowSource] = {}
    homes: dict[str, str] = {}
    for shard in shards:
        file = open_file(shard)
        for name, stored in read_header(file).items():
            if _NOT_WEIGHTS.fullmatch(name):
                continue
            if name in homes:
                raise SelfeeError(
                    f"{path}: {name} stands in both {homes[name]} and {shard}",
                    hint="keep the files of one of them",
                )
            homes[name] = shard
            if len(sources) >= MAX_TENSORS:
                raise SelfeeError(
                    f"{path} holds more than {MAX_TENSORS:,} tensors",
                    hint="download it again, or give the weights of a LLaMA",
                )
            sources[name] = StoredRows(file, stored, supported_dtype(file.path, stored))
    if weight_map is not None:
        _compare_index(path / indexes[0], weight_map, homes)
    if not sources:
        raise NotFoundError(f"{path} holds no tensors")
    return sources


def supported_dtype(path: Path, stored: StoredTensor) -> DType:
    """Give a stored tensor's type; refuse what no LLaMA has: other types, or endless rows."""
    if not stored.nbytes:
        raise SelfeeError(
            f"{path}: {stored.name} has no elements",
            hint="download it again, or give the weights of a LLaMA",
        )
    if math.prod(stored.shape[1:]) > MAX_ROW:
        raise SelfeeError(
            f"{path}: {stored.name} is {list(stored.shape)}: its rows are too long",
            hint="download it again, or give the weights of a LLaMA",
        )
    try:
        return DType(stored.dtype)
    except ValueError:
        raise SelfeeError(
            f"{path}: {stored.name} is stored as {stored.dtype}; weights are F16, BF16 or F32",
            hint="get the weights that are not quantised",
        ) from None


def read_json_file(path: Path) -> dict[str, Any]:
    """Read a JSON object of bounded size from a file."""
    with DataFile(path) as file:
        if file.size > MAX_JSON:
            raise SelfeeError(
                f"{path} has {file.size:,} bytes, over {MAX_JSON:,}", hint="download it again"
            )
        if not file.size:
            raise truncated(path, "it is empty")
        return parse_json_object(file.read_bytes(0, file.size), str(path))


def read_config(path: Path) -> dict[str, Any]:
    """Give ``config.json`` of a directory, or an empty dictionary where it has none."""
    file = path / "config.json"
    if not is_there(file):
        return {}
    config = read_json_file(file)
    for key in _COUNTS & config.keys():
        if config[key] is not None and not _is_sound_count(config[key]):
            raise SelfeeError(
                f"{file} gives no sound {key!r}", hint="download it again, or correct it"
            )
    for key, most in _NUMBERS.items():
        if config.get(key) is not None and not is_number(config[key], most):
            raise SelfeeError(
                f"{file} gives no sound {key!r}", hint="download it again, or correct it"
            )
    classes = config.get("architectures")
    if classes is not None and not (isinstance(classes, list) and all(map(is_name, classes))):
        raise SelfeeError(
            f"{file} gives no sound 'architectures'", hint="download it again, or correct it"
        )
    return config


def _is_sound_count(value: object) -> bool:
    return type(value) is int and 0 < value <= 10_000_000


def is_number(value: object, most: float) -> bool:
    """Whether a value of a configuration is a number over 0, at most ``most``."""
    return type(value) in (int, float) and 0 < value <= most  # type: ignore[operator]


def is_there(path: Path) -> bool:
    """Whether a file exists; an error of ours where the system cannot even say."""
    try:
        return path.exists()
    except (OSError, ValueError) as error:
        raise SelfeeError(
            f"cannot read {path}: {error}",
            hint="check that it is a file that you may read, and its disk",
        ) from None


def _read_index(path: Path, name: str) -> dict[str, str]:
    index = read_json_file(path / name)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise SelfeeError(f"{path / name} has no weight_map", hint="download it again")
    for tensor, shard in weight_map.items():
        if not is_name(tensor):
            raise SelfeeError(
                f"{path / name}: {shown(tensor)} is no name for a tensor", hint="download it again"
            )
        if not is_name(shard) or len(shard.encode()) > 255:
            raise SelfeeError(
                f"{path / name} gives no file name for {tensor}", hint="download it again"
            )
        if shard in (".", "..") or re.search(r"[/\\]", shard):
            raise SelfeeError(
                f"{path / name} points outside its directory: {tensor} is said to be in {shard!r}",
                hint="get the weights from a source you trust",
            )
    return weight_map


def _shards(
    path: Path, files: Sequence[str], weight_map: dict[str, str] | None, indexes: Sequence[str]
) -> list[str]:
    if weight_map is not None:
        shards = sorted(set(weight_map.values()))
        whole = [name for name in files if name not in shards and not _SHARD.fullmatch(name)]
        if whole:
            raise _ambiguous(path, [*indexes, *whole])
        _require(path, shards)
        return shards
    if len(files) == 1 and not _SHARD.fullmatch(files[0]):
        return list(files)
    matches = [_SHARD.fullmatch(name) for name in files]
    sets = {(match[1], match[3], match[4]) for match in matches if match}
    if None in matches or len(sets) != 1:
        raise _ambiguous(path, files)
    stem, count, suffix = sets.pop()
    shards = [f"{stem}-{n:05d}-of-{count}.{suffix}" for n in range(1, int(count) + 1)]
    _require(path, shards)
    return shards


def _require(path: Path, shards: Iterable[str]) -> None:
    for shard in shards:
        if not is_there(path / shard):
            raise NotFoundError(f"{path / shard} is missing", hint="download it again")


def _compare_index(index: Path, weight_map: dict[str, str], homes: dict[str, str]) -> None:
    for name, shard in weight_map.items():
        if _NOT_WEIGHTS.fullmatch(name):
            continue
        if homes.get(name) != shard:
            where = f"it is in {homes[name]}" if name in homes else "it is not there"
            raise MismatchError(
                f"{index} says that {name} is in {shard}, but {where}", hint="download it again"
            )
    for name, shard in homes.items():
        if name not in weight_map:
            raise MismatchError(
                f"{shard} has {name}, which {index} does not know", hint="download it again"
            )


def _ambiguous(path: Path, names: Iterable[str]) -> SelfeeError:
    return SelfeeError(
        f"{path} holds more than one set of weights: {', '.join(list(names)[:4])}",
        hint="move all but one set to another directory",
    )
