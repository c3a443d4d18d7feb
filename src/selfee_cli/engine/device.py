"""Which device and which number format a model runs in."""

from __future__ import annotations

import torch

from selfee_cli.engine.memory import available_memory, total_memory
from selfee_cli.engine.quant import bytes_per_weight
from selfee_cli.errors import SelfeeError, UsageError

DTYPES = ("auto", "float16", "bfloat16", "float32")


def pick_device(name: str) -> torch.device:
    """Return the device that ``--device`` names; ``auto`` prefers CUDA, then Apple, then CPU.

    Raises:
        UsageError: no device has that name.
        SelfeeError: this machine, or this build of torch, does not have it.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name} is unknown", hint="cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            found = f"{count} CUDA device{'s' * (count > 1)}" if count else "no CUDA device"
            hint = "--device cpu works everywhere"
            if torch.version.cuda is None:
                hint = "this torch is built without CUDA; see pytorch.org for one with it"
            raise SelfeeError(f"--device {name}: torch finds {found}", hint=hint)
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SelfeeError("--device mps: this machine has no Apple GPU", hint="--device cpu")
    if device.type not in ("cpu", "mps"):
        raise UsageError(f"--device {name} is not supported", hint="cpu, cuda, cuda:1 or mps")
    return device


def pick_dtype(
    name: str, device: torch.device, *, stored: str, parameters: int, quant: str = "none"
) -> torch.dtype:
    """Return the format that ``--dtype`` names.

    ``auto`` on a GPU is the stored format, float16 where that is float32; on a CPU float32, which
    is exact and fastest there, or bfloat16 where float32 would take most of the memory, or nearly
    all that is free.
    """
    if name not in DTYPES:
        raise UsageError(f"--dtype {name} is unknown", hint=", ".join(DTYPES))
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if device.type != "cpu":
        return torch.bfloat16 if stored == "bfloat16" else torch.float16
    needed = bytes_per_weight(quant, torch.float32) * parameters
    memory, free = total_memory(), available_memory()
    fits = memory is None or needed < 0.7 * memory
    fits = fits and (free is None or needed < 0.9 * free)  # keys and values stand beside them
    return torch.float32 if fits else torch.bfloat16
