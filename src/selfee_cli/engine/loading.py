"""From a directory to a model that runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from selfee_cli.engine.base import Engine, is_out_of_memory
from selfee_cli.engine.device import pick_device, pick_dtype
from selfee_cli.engine.llama import LlamaConfig, reading_config, unsupported
from selfee_cli.engine.native import NativeEngine
from selfee_cli.engine.options import LEAST_CONTEXT
from selfee_cli.engine.placement import Placement, does_not_fit, footprint, free_memory, place
from selfee_cli.engine.quant import bytes_per_weight, check_quant
from selfee_cli.engine.tokenizer import Tokenizer, load_tokenizer
from selfee_cli.errors import ResourceError, SelfeeError, UsageError
from selfee_cli.weights.checkpoint import Checkpoint, open_checkpoint
from selfee_cli.weights.fingerprint import sampled_fingerprint
from selfee_cli.weights.identity import describe_delta

# A small network's matrices may be done before a second thread has woken up.
_SMALL = 20_000_000
_TRIALS = 8
_threads_before: int | None = None
"""How many threads there were before a small network took fewer."""

ENGINES = ("auto", "native", "transformers")


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How to load a model; every ``auto`` is decided by the machine and the checkpoint."""

    engine: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    quant: str = "none"
    context_length: int | None = None
    stretch: bool = True
    """Whether positions are scaled where the context is longer than the model was trained for."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """An engine, its tokenizer and where they came from."""

    engine: Engine
    tokenizer: Tokenizer
    path: Path
    fingerprint: str
    load_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the ``model`` object of ``ask --json``."""
        return {
            "path": str(self.path),
            "parameters": self.engine.parameters,
            "dtype": self.engine.dtype,
            "quant": self.engine.quant,
            "device": self.engine.device,
            "engine": self.engine.name,
            "context": self.engine.context_length,
            "fingerprint": self.fingerprint,
        }


def load_model(
    path: Path,
    options: LoadOptions | None = None,
    *,
    started: Callable[[int], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> LoadedModel:
    """Load the checkpoint directory ``path``.

    ``started`` is called once with the bytes to load, ``progress`` with the bytes of each step.

    Raises:
        NotFoundError: no checkpoint or no tokenizer is there.
        SelfeeError: the directory holds a delta, or a model that no engine can run.
        ResourceError: the model does not fit into the device's memory.
    """
    options = options or LoadOptions()
    began = time.perf_counter()
    if options.engine not in ENGINES:
        raise UsageError(f"--engine {options.engine} is unknown", hint=", ".join(ENGINES))
    check_quant(options.quant)
    if options.context_length is not None and options.context_length < LEAST_CONTEXT:
        raise UsageError(
            f"--context is {options.context_length}; it must be at least {LEAST_CONTEXT}"
        )
    restore_threads()
    with open_checkpoint(path) as checkpoint:
        _refuse_delta(checkpoint)
        tokenizer = load_tokenizer(path)
        _refuse_foreign(tokenizer, checkpoint)
        kind = _engine_for(checkpoint, options)
        device = pick_device(options.device)
        if options.quant == "fp8" and device.type == "mps":
            raise UsageError("--quant fp8 does not run on Apple's GPUs", hint="--quant int8")
        parameters = checkpoint.parameters
        dtype = pick_dtype(
            options.dtype,
            device,
            stored=_stored(checkpoint),
            parameters=parameters,
            quant=options.quant,
        )
        fingerprint = sampled_fingerprint(checkpoint)
        started(checkpoint.nbytes)
        try:
            engine: Engine
            if kind == "native":
                engine = load_native(checkpoint, options, device, dtype, progress)
            else:
                from selfee_cli.engine.hf import TransformersEngine

                engine = TransformersEngine(
                    path, device=device, dtype=dtype, context_length=options.context_length
                )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(device, parameters, dtype, options.quant) from error
    if device.type == "cpu" and parameters < _SMALL:
        _choose_threads(engine)
    return LoadedModel(
        engine=engine,
        tokenizer=tokenizer,
        path=path,
        fingerprint=fingerprint,
        load_seconds=time.perf_counter() - began,
    )


def _choose_threads(engine: Engine) -> None:
    """Compute with one thread where more are no faster: it depends on the machine."""
    global _threads_before
    many, seconds = torch.get_num_threads(), {}
    for threads in (many, 1):
        torch.set_num_threads(threads)
        times = []
        for _ in range(_TRIALS):
            began = time.perf_counter()
            engine.forward([0])
            times.append(time.perf_counter() - began)
        engine.truncate(0)
        seconds[threads] = min(times)
    chosen = min(seconds, key=lambda threads: seconds[threads])
    torch.set_num_threads(chosen)
    if chosen < many:
        _threads_before = many


def restore_threads() -> None:
    """Give the next model the threads that there were before a small one took a single one."""
    global _threads_before
    if _threads_before is not None and torch.get_num_threads() == 1:
        torch.set_num_threads(_threads_before)
    _threads_before = None


def load_native(
    checkpoint: Checkpoint,
    options: LoadOptions,
    device: torch.device,
    dtype: torch.dtype,
    progress: Callable[[int], None] = lambda _: None,
) -> NativeEngine:
    """Load a LLaMA where there is room for it: on ``device``, or laid over several.

    Raises:
        ResourceError: there is none.
    """
    placement = _place(checkpoint, options, device, dtype)
    return NativeEngine(
        checkpoint,
        device=placement[0][0],
        dtype=dtype,
        quant=options.quant,
        placement=placement,
        context_length=options.context_length,
        stretch=options.stretch,
        progress=progress,
    )


def out_of_memory(
    device: torch.device, parameters: int, dtype: torch.dtype, quant: str
) -> ResourceError:
    """Return the error that says what did not fit where."""
    gigabytes = parameters * bytes_per_weight(quant, dtype) / 1e9
    smaller = {"none": "--quant int8", "int8": "--quant int4"}.get(quant, "--device cpu")
    return ResourceError(
        f"{gigabytes:.1f} GB of weights and the context do not fit into the memory of {device}",
        hint=f"try {smaller}, or a shorter --context",
    )


def _refuse_delta(checkpoint: Checkpoint) -> None:
    reason = describe_delta(checkpoint)
    if reason is not None:
        raise SelfeeError(
            f"{checkpoint.path} is a delta, not a model: {reason}",
            hint=f"selfee apply-delta --base BASE --delta {checkpoint.path} --out DIR",
        )


def _refuse_foreign(tokenizer: Tokenizer, checkpoint: Checkpoint) -> None:
    """Refuse a tokenizer with more pieces than the embedding has rows; fewer are padded."""
    embedding = checkpoint.tensors.get("model.embed_tokens.weight")
    if embedding is not None and tokenizer.size > embedding.shape[0]:
        raise SelfeeError(
            f"the tokenizer in {checkpoint.path} has {tokenizer.size} pieces, "
            f"the model's vocabulary {embedding.shape[0]}",
            hint="copy the tokenizer files that belong to the model",
        )


def _place(
    checkpoint: Checkpoint, options: LoadOptions, device: torch.device, dtype: torch.dtype
) -> Placement:
    """Choose the devices of the layers: one where it holds them, else all that were not excluded.

    Raises:
        ResourceError: they hold less than the model needs.
    """
    config = LlamaConfig.of(checkpoint)
    context = options.context_length or config.rope.trained_length
    devices = [device]
    if device.type == "cuda" and options.device in ("auto", "cuda"):
        devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    rooms = [free_memory(each) for each in devices]
    free = [room for room in rooms if room is not None]
    if len(free) < len(devices):  # the system does not tell: loading will
        return [(device, config.layers)]
    placement = place(footprint(config, dtype, options.quant, context), devices, free)
    if not placement:
        where = str(device) if len(devices) == 1 else f"all {len(devices)} GPUs"
        raise does_not_fit(config, dtype, options.quant, context, where, sum(free))
    return placement


def _engine_for(checkpoint: Checkpoint, options: LoadOptions) -> str:
    with reading_config(checkpoint.path):
        wanted, reason = options.engine, unsupported(checkpoint.config)
    if options.quant != "none":
        if wanted == "transformers" or reason is not None:
            raise UsageError(
                f"--quant {options.quant} needs the native engine",
                hint=reason or "leave out --engine transformers",
            )
        return "native"
    if wanted == "native" and reason is not None:
        raise SelfeeError(
            f"the native engine cannot run {checkpoint.path}: {reason}",
            hint="--engine transformers",
        )
    return wanted if wanted != "auto" else "transformers" if reason else "native"


def _stored(checkpoint: Checkpoint) -> str:
    """The format that most weights are stored in."""
    counts: Counter[str] = Counter()
    for info in checkpoint.tensors.values():
        counts[info.dtype.torch_name] += info.size
    return max(counts, key=lambda name: counts[name])
