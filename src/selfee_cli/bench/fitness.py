"""What this machine has, which models fit on it, and about how fast they should write."""

from __future__ import annotations

import importlib.metadata
import math
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfee_cli import __version__
from selfee_cli.bench.bandwidth import bandwidth
from selfee_cli.bench.machine import this_machine
from selfee_cli.bench.random_weights import RandomCheckpoint

if TYPE_CHECKING:
    import torch

    from selfee_cli.engine.placement import Footprint

MODELS = {"SelFee-7B": "7b", "SelFee-13B": "13b"}
CONTEXT = 2048
"""Tokens of context whose cache must fit too: what the models were trained for."""
_PACKAGES = ("torch", "transformers", "huggingface_hub", "safetensors", "sentencepiece")
_RESULT = 26_100_000_000  # bytes of SelFee-13B as float16


@dataclass(frozen=True, kw_only=True)
class Device:
    """A place where a model can run."""

    name: str
    """As ``--device`` takes it."""
    title: str
    memory: int
    """Bytes that are free there."""
    bandwidth: float
    """Bytes a second that were read in a short measurement; 0 where there was no room for it."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Whether a model fits, and what to expect."""

    model: str
    device: str
    """Its name, or those of several joined by ``+``."""
    form: str
    """Of its weights: a ``--dtype`` or a ``--quant``."""
    needed: int
    """Bytes of weights, cache and runtime."""
    fits: bool
    tokens_per_second: float
    """At the memory's bandwidth, one token a pass; lookup goes beyond it."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Something that is missing, and the command or step that mends it."""

    problem: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Fitness:
    """All of it."""

    machine: str
    versions: dict[str, str]
    devices: tuple[Device, ...]
    disk_free: int
    """Bytes, where the command was called."""
    fits: tuple[Fit, ...]
    advice: tuple[Advice, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "schema": "selfee.doctor/1",
            "machine": self.machine,
            "versions": self.versions,
            "devices": [vars(device) for device in self.devices],
            "disk_free": self.disk_free,
            "fits": [vars(fit) for fit in self.fits],
            "advice": [vars(advice) for advice in self.advice],
        }


def examine(directory: Path) -> Fitness:
    """Look at the machine; takes a second or two, most of it importing torch."""
    devices = tuple(_devices())
    disk = shutil.disk_usage(directory).free
    fits = tuple(fit for model in MODELS for fit in _fits(model, devices))
    return Fitness(
        machine=str(this_machine()),
        versions=_versions(),
        devices=devices,
        disk_free=disk,
        fits=fits,
        advice=tuple(_advice(devices, fits, disk)),
    )


def _versions() -> dict[str, str]:
    found = {"selfee": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _devices() -> list[Device]:
    import torch

    places = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        places.append(torch.device("mps"))
    return [_device(place) for place in [*places, torch.device("cpu")]]


def _device(place: torch.device) -> Device:
    import torch

    from selfee_cli.engine.placement import free_memory

    title = this_machine().processor
    if place.type != "cpu":
        title = torch.cuda.get_device_name(place) if place.type == "cuda" else "Apple GPU"
    try:
        memory = free_memory(place) or 0
    except RuntimeError:  # a GPU may be too full even to be asked
        memory = 0
    return Device(name=str(place), title=title, memory=memory, bandwidth=bandwidth(place))


def _forms(device: Device) -> tuple[str, ...]:
    plain = ("float32", "bfloat16") if device.name == "cpu" else ("float16",)
    return (*plain, "int8", "int4")


def _fits(model: str, devices: tuple[Device, ...]) -> Iterator[Fit]:
    """Give the model in each form on each device, and on several GPUs where it takes several."""
    for device in devices:
        for form in _forms(device):
            needs = _needs(model, form, on_cpu=device.name == "cpu")
            yield Fit(
                model=model,
                device=device.name,
                form=form,
                needed=needs.total,
                fits=needs.total <= device.memory,
                tokens_per_second=device.bandwidth / needs.read,
            )
    gpus = [device for device in devices if device.name.startswith("cuda")]
    for form in _forms(gpus[0]) if gpus else ():
        yield from _spread(model, gpus, form)


def _spread(model: str, gpus: Sequence[Device], form: str) -> Iterator[Fit]:
    """Give the model laid over several GPUs, where no single one holds it and together they do."""
    import torch

    from selfee_cli.engine.placement import RUNTIME, place

    needs = _needs(model, form, on_cpu=False)
    by_name = {gpu.name: gpu for gpu in gpus}
    placed = place(needs, [torch.device(name) for name in by_name], [gpu.memory for gpu in gpus])
    if len(placed) < 2:
        return
    used = [(by_name[str(device)], layers / needs.layers) for device, layers in placed]
    measured = all(gpu.bandwidth for gpu, _ in used)
    yield Fit(
        model=model,
        device="+".join(gpu.name for gpu, _ in used),
        form=form,
        needed=needs.total + (len(used) - 1) * RUNTIME,
        fits=True,
        tokens_per_second=1 / sum(needs.read * share / gpu.bandwidth for gpu, share in used)
        if measured
        else 0.0,
    )


def _needs(model: str, form: str, *, on_cpu: bool) -> Footprint:
    import torch

    from selfee_cli.engine.llama import LlamaConfig
    from selfee_cli.engine.placement import footprint
    from selfee_cli.engine.quant import QUANTS

    quant = form if form in QUANTS else "none"
    plain = torch.float32 if on_cpu else torch.float16
    dtype = plain if quant != "none" else getattr(torch, form)
    config = LlamaConfig.parse(RandomCheckpoint(MODELS[model]).config)
    return footprint(config, dtype, quant, CONTEXT)


def _room(form: str) -> float:
    """Give the gigabytes of a GPU that SelFee-13B takes in this form, a tenth rounded up."""
    return math.ceil(_needs("SelFee-13B", form, on_cpu=False).total / 1e8) / 10


def _advice(devices: tuple[Device, ...], fits: tuple[Fit, ...], disk: int) -> list[Advice]:
    import torch

    found = []
    if torch.version.cuda is None and shutil.which("nvidia-smi"):
        found.append(
            Advice(
                problem="there is an NVIDIA driver, but this torch is built without CUDA",
                remedy="pip install --force-reinstall torch (see pytorch.org for your CUDA)",
            )
        )
    if all(device.name == "cpu" for device in devices):
        found.append(
            Advice(
                problem="no GPU: models run on the CPU, slowly",
                remedy=f"a GPU with {_room('int4')} GB free runs SelFee-13B as int4, "
                f"one with {_room('int8')} GB as int8",
            )
        )
    for model in MODELS:
        if not any(fit.fits for fit in fits if fit.model == model):
            least = min(fit.needed for fit in fits if fit.model == model)
            found.append(
                Advice(
                    problem=f"{model} does not fit anywhere here: it needs {least / 1e9:.1f} GB",
                    remedy="close other programs, or take the smaller model",
                )
            )
    if disk < _RESULT:
        found.append(
            Advice(
                problem=f"{disk / 1e9:.0f} GB are free on this disk; SelFee-13B takes 26 GB, "
                "SelFee-7B 13.5 GB, the downloads beside them",
                remedy="selfee apply-delta --out DIR on a larger disk (--dry-run tells the need)",
            )
        )
    return found
