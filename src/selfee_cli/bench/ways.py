"""Other ways to the same weights, each to be measured as a process of its own.

``python -m selfee_cli.bench.ways NAME BASE DELTA OUT`` writes base + delta in float16 to OUT (the
copy: as many bytes), synced, and prints the seconds it worked, its imports not counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 20  # bytes

Work = Callable[[Path, Path, Path], None]
"""Reads base and delta, writes the third directory, which is there."""


def copy() -> Work:
    """Read every byte of the inputs and write as many as the sum has: what any way must do."""

    def work(base: Path, delta: Path, out: Path) -> None:
        inputs = [*_weight_files(base), *_weight_files(delta)]
        # Base and delta take 2 and 4 bytes a parameter, the sum 2: a third of what is read.
        with (out / "copy").open("wb", buffering=0) as target:
            for path in inputs:
                with path.open("rb", buffering=0) as source:
                    _copy_third(source, target)

    return work


def _copy_third(source: BinaryIO, target: BinaryIO) -> None:
    buffer = memoryview(bytearray(_CHUNK))
    while count := source.readinto(buffer):  # type: ignore[attr-defined]
        target.write(buffer[: count // 3])


def transformers() -> Work:
    """Load both models whole in float32, add their state dicts: the usual recovery script."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401  (lazy in it)

    def work(base: Path, delta: Path, out: Path) -> None:
        tuned: Any = AutoModelForCausalLM.from_pretrained(delta, dtype=torch.float32)
        raw: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        with torch.no_grad():
            _grow(raw, tuned.get_input_embeddings().weight.shape[0])
            values = raw.state_dict()
            for name, tensor in tuned.state_dict().items():
                tensor.add_(values[name])
        tuned.half().save_pretrained(out)

    return work


def _grow(model: Any, rows: int) -> None:
    """Resize embedding and head; a new row is the mean of the old ones."""
    old = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(rows, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        weight = layer.weight.data
        weight[old:] = weight[:old].mean(dim=0, keepdim=True)


def mapped() -> Work:
    """Map both files into memory and add tensor by tensor; the sum is held until it is saved."""
    import torch
    from safetensors.torch import save_file

    def work(base: Path, delta: Path, out: Path) -> None:
        made: dict[str, torch.Tensor] = {}
        stored = _open_all(base)
        for name, file in _open_all(delta).items():
            added = file.get_tensor(name).float()
            values = stored[name].get_tensor(name).float()
            if len(values) < len(added):
                values = torch.cat([values, values.mean(dim=0, keepdim=True)])
            made[name] = (values + added).half()
        save_file(made, out / "model.safetensors", metadata={"format": "pt"})

    return work


def _open_all(directory: Path) -> dict[str, Any]:
    """Give the open file of each tensor."""
    from safetensors import safe_open

    found: dict[str, Any] = {}
    for path in _weight_files(directory):
        file: Any = safe_open(path, framework="pt")
        found |= dict.fromkeys(file.keys(), file)
    return found


def _weight_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.safetensors"))


def _sync(directory: Path) -> None:
    """Wait until a directory's files are on the disk, as ``selfee apply-delta`` does."""
    for path in directory.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


WAYS: dict[str, Callable[[], Work]] = {
    "copy": copy,
    "transformers": transformers,
    "mapped": mapped,
}
"""By name: a function that imports what it needs and gives the work."""


def main() -> None:
    """Do what the command line says; a failure is one line on standard error and exit code 1."""
    name, base, delta, out = sys.argv[1:]
    try:
        work = WAYS[name]()
        began = time.perf_counter()
        Path(out).mkdir()
        work(Path(base), Path(delta), Path(out))
        _sync(Path(out))
    except MemoryError:
        sys.exit("error: out of memory")
    except Exception as error:
        sys.exit(f"error: {type(error).__name__}: {' '.join(str(error).split())}")
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - began}) + "\n")


if __name__ == "__main__":
    main()
