"""One interface for checkpoints in three layouts.

========== =============================================== ==========================
layout     files                                           described by
========== =============================================== ==========================
safetensors ``model.safetensors`` or shards with an index  ``config.json``
bin        ``pytorch_model.bin`` or shards with an index   ``config.json``
meta       ``consolidated.NN.pth``                         ``params.json``
========== =============================================== ==========================

Whatever the layout, names, shapes, row order and configuration are Hugging Face's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from selfee_cli.errors import NotFoundError, SelfeeError
from selfee_cli.weights.dtypes import Raw
from selfee_cli.weights.hf_layout import BIN, SAFETENSORS, open_hf_tensors, read_config
from selfee_cli.weights.meta_layout import META_FILE, open_meta_tensors, read_meta_config
from selfee_cli.weights.storage import DataFile, RowSource, TensorInfo

__all__ = ["Checkpoint", "Layout", "TensorInfo", "open_checkpoint"]

Layout = Literal["safetensors", "bin", "meta"]


class Checkpoint:
    """An open checkpoint. Opening reads headers only; tensors are read from disk when asked for.

    A context manager: leaving it closes the files. Reading is safe from several threads.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        sources: Mapping[str, RowSource],
        config: dict[str, Any],
        files: Sequence[DataFile],
    ) -> None:
        self.path = path
        self.layout: Layout = layout
        self.config = config
        """``config.json``; for Meta's layout its equivalent; empty where there is none."""
        self.files = [file.path for file in files]
        """The files that hold tensors."""
        self.tensors: Mapping[str, TensorInfo] = {n: source.info for n, source in sources.items()}
        """In canonical order: embedding, layers by number, norm, head."""
        self._sources = sources
        self._open_files = files

    def read(self, name: str) -> Raw:
        """Give a whole tensor as raw storage (``uint16`` bit patterns, or ``float32``)."""
        info = self.tensors[name]
        return self.read_rows(name, 0, info.rows).reshape(info.shape)

    def read_rows(self, name: str, start: int, stop: int) -> Raw:
        """Give rows ``start`` to ``stop`` along axis 0, raw, as ``read(name)[start:stop]`` would.

        A tensor of one dimension therefore has rows of one element each.
        """
        info = self.tensors[name]
        out: Raw = np.empty((stop - start, info.row_size), info.dtype.raw)
        self.read_rows_into(name, start, stop, out)
        return out.reshape(stop - start, *info.shape[1:])

    def read_rows_into(self, name: str, start: int, stop: int, out: Raw) -> None:
        """Fill ``out``, of shape (stop - start, row size) and the tensor's raw type, with rows."""
        info = self.tensors[name]
        if not 0 <= start <= stop <= info.rows:
            raise IndexError(f"rows {start} to {stop} of {name}, which has {info.rows}")
        if out.shape != (stop - start, info.row_size) or out.dtype != info.dtype.raw:
            raise ValueError(f"a buffer of {out.shape} {out.dtype} for rows of {name}")
        self._sources[name].read_rows(start, stop, out)

    def file_of(self, name: str) -> str:
        """Give the name of the file a tensor begins in."""
        return self._sources[name].path.name

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(info.size for info in self.tensors.values())

    def close(self) -> None:
        """Close the files; a second time does nothing."""
        for file in self._open_files:
            file.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open the checkpoint in a directory, whichever layout it has.

    :class:`~selfee_cli.errors.NotFoundError` where the directory, its weights or a shard are not
    there; :class:`~selfee_cli.errors.MismatchError` where a file is truncated, a git-LFS pointer or
    disagrees with its index; :class:`~selfee_cli.errors.SelfeeError` where the directory is
    ambiguous or a file is not sound or not safe.
    """
    path = Path(path)
    layout, names = find_layout(path)
    with ExitStack() as stack:
        opened: list[DataFile] = []

        def open_file(name: str) -> DataFile:
            file = DataFile(path / name)
            stack.callback(file.close)
            opened.append(file)
            return file

        if layout == "meta":
            config = read_meta_config(path)
            sources = open_meta_tensors(path, names, config, open_file)
        else:
            config = read_config(path)
            sources = open_hf_tensors(path, names, layout, open_file)
        ordered = {name: sources[name] for name in sorted(sources, key=canonical_order)}
        checkpoint = Checkpoint(path, layout, ordered, config, opened)
        stack.pop_all()
    return checkpoint


def find_layout(path: Path) -> tuple[Layout, list[str]]:
    """Give the layout of a directory and the names of the files that belong to it."""
    if not path.exists():
        raise NotFoundError(
            f"there is no {path}",
            hint=f"download it first: hf download {_repo_id(path)} --local-dir DIR",
        )
    if not path.is_dir():
        raise NotFoundError(f"{path} is no directory", hint="give the directory of the weights")
    names = sorted(entry.name for entry in path.iterdir())
    found: dict[Layout, list[str]] = {
        "safetensors": [name for name in names if SAFETENSORS.fullmatch(name)],
        "bin": [name for name in names if BIN.fullmatch(name)],
        "meta": [name for name in names if META_FILE.fullmatch(name)],
    }
    present = [layout for layout, files in found.items() if files]
    if not present:
        raise NotFoundError(f"{path} holds no weights", hint=_where_else(path))
    if len(present) > 1:
        listed = " and ".join(f"{layout} ({found[layout][0]})" for layout in present)
        raise SelfeeError(
            f"{path} holds weights in more than one layout: {listed}",
            hint="move the files of all but one layout, indexes included, to another directory",
        )
    return present[0], found[present[0]]


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights, in any of the layouts, or is their index."""
    return any(pattern.fullmatch(name) for pattern in (SAFETENSORS, BIN, META_FILE))


def _repo_id(path: Path) -> str:
    """Give the Hub repository that a path looks like, else one that there is."""
    is_id = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", path.as_posix())
    return path.as_posix() if is_id else "kaist-ai/selfee-7b-delta"


def _where_else(path: Path) -> str:
    for child in sorted(path.iterdir()):
        if child.is_dir() and any(META_FILE.fullmatch(entry.name) for entry in child.iterdir()):
            return f"there are weights in {child}"
    return "it needs model*.safetensors, pytorch_model*.bin or consolidated.NN.pth"


def canonical_order(name: str) -> tuple[int, list[tuple[int, int, str]]]:
    """Sort key for Hugging Face names: embedding, layers by number, norm, head."""
    rank = 0 if "embed_tokens" in name else 3 if name.startswith("lm_head") else 1
    rank = 2 if name == "model.norm.weight" else rank
    parts = re.findall(r"\d+|[^\d]+", name)
    return rank, [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]
