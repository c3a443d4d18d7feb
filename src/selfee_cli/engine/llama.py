"""LLaMA's shapes, as ``config.json`` tells them, and its weights, brought to a device.

Tensors go from their shards straight to the device, one at a time, and are quantised there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from selfee_cli.engine.quant import Matrix, Quantiser
from selfee_cli.engine.rope import SUPPORTED, RopeConfig, rope_tables
from selfee_cli.errors import SelfeeError

if TYPE_CHECKING:
    from selfee_cli.weights.checkpoint import Checkpoint


_HEAD = "lm_head.weight"
_RECOMPUTED = "rotary_emb.inv_freq"
"""Ends the names of buffers that checkpoints of 2023 hold, though the config says the same."""


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """The shapes of a LLaMA network."""

    vocab_size: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    eps: float
    tied: bool
    rope: RopeConfig

    @staticmethod
    def of(checkpoint: Checkpoint) -> LlamaConfig:
        """Return the shapes of a checkpoint. A head that is stored is used, tied or not.

        Raises:
            SelfeeError: ``config.json`` does not describe a LLaMA.
        """
        with reading_config(checkpoint.path):
            config = LlamaConfig.parse(checkpoint.config)
            # The numbers of a scaling are read only here: a missing one is told before loading.
            rope_tables(config.rope, 1, dtype=torch.float32, device=torch.device("cpu"))
        return replace(config, tied=config.tied and _HEAD not in checkpoint.tensors)

    @staticmethod
    def parse(config: Mapping[str, Any]) -> LlamaConfig:
        """Read the keys of a Hugging Face ``config.json``."""
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        head_dim = int(config.get("head_dim") or hidden // heads)
        return LlamaConfig(
            vocab_size=int(config["vocab_size"]),
            hidden=hidden,
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=head_dim,
            mlp=int(config["intermediate_size"]),
            eps=float(config.get("rms_norm_eps", 1e-6)),
            tied=bool(config.get("tie_word_embeddings", False)),
            rope=RopeConfig.parse(config, head_dim),
        )


@contextmanager
def reading_config(path: Path) -> Iterator[None]:
    """Turn what goes wrong while values of ``config.json`` are read into an error for people."""
    try:
        yield
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        what = f"it lacks {error.args[0]}" if isinstance(error, KeyError) else str(error)
        raise SelfeeError(
            f"{path / 'config.json'} does not describe a model: {what}", hint="download it again"
        ) from error


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Return why the native engine cannot run a model with this config, or None when it can."""
    kind = config.get("model_type")
    if kind != "llama":
        return f"its model type is {kind or 'not stated'}, not llama"
    if config.get("attention_bias") or config.get("mlp_bias"):
        return "its layers have biases"
    if config.get("quantization_config"):
        return "its weights are quantised"
    if config.get("hidden_act", "silu") != "silu":
        return f"its activation is {config['hidden_act']}"
    rope = RopeConfig.parse(config, 2)
    if rope.kind not in SUPPORTED:
        return f"its rotary scaling is {rope.kind}"
    return None


@dataclass(frozen=True)
class Layer:
    """One layer's weights; projections that share an input are one matrix."""

    input_norm: torch.Tensor
    qkv: Matrix
    o: Matrix
    post_norm: torch.Tensor
    gate_up: Matrix
    down: Matrix


class Loader:
    """Brings tensors from a checkpoint to a device, checked against the config."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        quant: str,
        progress: Callable[[int], None],
    ) -> None:
        self.device, self.dtype = device, dtype
        self.parameters = 0
        self._checkpoint, self._progress = checkpoint, progress
        self._quantise = Quantiser(quant)
        self._unread = {name for name in checkpoint.tensors if name.startswith("model.")}

    def finish(self) -> None:
        """Refuse a network of which only a part was loaded."""
        unread = sorted(name for name in self._unread if not name.endswith(_RECOMPUTED))
        if unread:
            raise SelfeeError(
                f"{self._checkpoint.path} has tensors its config knows nothing of: {len(unread)}, "
                f"among them {unread[0]}",
                hint="config.json and the weights are not of the same model",
            )

    def __call__(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Return one tensor of the given shape."""
        out = torch.empty(shape, dtype=self.dtype, device=self.device)
        self._into(out, name)
        return out

    def layer(self, c: LlamaConfig, index: int) -> Layer:
        """Return the layer ``index``, quantised."""
        at = f"model.layers.{index}."
        q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
        attention = {"q_proj": q, "k_proj": kv, "v_proj": kv}
        return Layer(
            input_norm=self(f"{at}input_layernorm.weight", (c.hidden,)),
            qkv=self._matrix(f"{at}self_attn", attention, c.hidden),
            o=self._matrix(f"{at}self_attn", {"o_proj": c.hidden}, q),
            post_norm=self(f"{at}post_attention_layernorm.weight", (c.hidden,)),
            gate_up=self._matrix(f"{at}mlp", {"gate_proj": c.mlp, "up_proj": c.mlp}, c.hidden),
            down=self._matrix(f"{at}mlp", {"down_proj": c.hidden}, c.mlp),
        )

    def _matrix(self, at: str, rows: Mapping[str, int], columns: int) -> Matrix:
        """Return projections of one input, stacked: rows by name."""
        out = torch.empty(sum(rows.values()), columns, dtype=self.dtype, device=self.device)
        for name, part in zip(rows, out.split(list(rows.values())), strict=True):
            self._into(part, f"{at}.{name}.weight")
        return self._quantise(out)

    def _into(self, out: torch.Tensor, name: str) -> None:
        """Fill ``out``, a contiguous tensor on the device, with the tensor ``name``."""
        info = self._checkpoint.tensors.get(name)
        if info is None:
            raise SelfeeError(
                f"{self._checkpoint.path} has no tensor {name}",
                hint="is the download complete? `selfee inspect` lists what is there",
            )
        if tuple(info.shape) != tuple(out.shape):
            raise SelfeeError(
                f"{name} has shape {list(info.shape)}, its config says {list(out.shape)}",
                hint="config.json and the weights are not of the same model",
            )
        self._unread.discard(name)
        raw = torch.from_numpy(self._checkpoint.read(name))
        out.copy_(raw.view(getattr(torch, info.dtype.torch_name)))
        self.parameters += out.numel()
        self._progress(raw.nbytes)
