"""A LLaMA forward pass of our own over a static key/value cache.

It covers every checkpoint whose ``config.json`` says ``llama`` in the forms found in the wild:
grouped-query heads, tied or untied head, scaled rotary embedding. Tensors go from their shards
straight to the device, one at a time; transformers is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812

from selfee_cli.engine.base import Engine
from selfee_cli.engine.rope import SUPPORTED, RopeConfig, rope_tables, rotate
from selfee_cli.errors import SelfeeError

if TYPE_CHECKING:
    from selfee_cli.weights.checkpoint import Checkpoint

_FIRST_CAPACITY = 512
_PREFILL_CHUNK = 512


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
class _Layer:
    """One layer's weights, each (out, in); projections that share an input are one matrix."""

    input_norm: torch.Tensor
    qkv: torch.Tensor
    o: torch.Tensor
    post_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


class NativeEngine(Engine):
    """LLaMA on one device, batch one."""

    name = "native"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device,
        dtype: torch.dtype,
        context_length: int | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Load ``checkpoint``; ``progress`` is called with the bytes of every tensor loaded."""
        super().__init__()
        self.config = config = LlamaConfig.parse(checkpoint.config)
        self.context_length = context_length or config.rope.trained_length
        self.vocab_size = config.vocab_size
        self.device, self.dtype = str(device), str(dtype).removeprefix("torch.")
        self._device, self._dtype = device, dtype
        load = _Loader(checkpoint, device, dtype, progress)
        self._embedding = load("model.embed_tokens.weight", (config.vocab_size, config.hidden))
        self._layers = [_load_layer(load, config, index) for index in range(config.layers)]
        self._norm = load("model.norm.weight", (config.hidden,))
        self._head = (
            self._embedding
            if config.tied
            else load("lm_head.weight", (config.vocab_size, config.hidden))
        )
        self.parameters = load.parameters
        rope = config.rope.stretched(self.context_length)
        self._cos, self._sin = rope_tables(rope, self.context_length, dtype=dtype, device=device)
        self._cache = self._new_cache(min(_FIRST_CAPACITY, self.context_length))

    def _new_cache(self, capacity: int) -> torch.Tensor:
        c = self.config
        shape = (c.layers, 2, c.kv_heads, capacity, c.head_dim)
        return torch.zeros(shape, dtype=self._dtype, device=self._device)

    def _reserve(self, total: int) -> None:
        """Make the cache hold ``total`` tokens, keeping what it holds."""
        capacity = self._cache.shape[3]
        if total > capacity:
            grown = self._new_cache(min(self.context_length, max(total, 2 * capacity)))
            grown[:, :, :, :capacity] = self._cache
            self._cache = grown

    def _truncate(self, length: int) -> None:
        pass  # the length is all there is to it: later writes go over the rest

    @torch.inference_mode()
    def _forward(self, ids: Sequence[int], last: int) -> torch.Tensor:
        past = len(self.ids)
        self._reserve(past + len(ids))
        tokens = torch.tensor(ids, device=self._device)
        hidden: list[torch.Tensor] = []
        for start in range(0, len(ids), _PREFILL_CHUNK):
            chunk = tokens[start : start + _PREFILL_CHUNK]
            hidden.append(self._hidden(chunk, past + start))
        tail = torch.cat(hidden)[-last:] if len(hidden) > 1 else hidden[0][-last:]
        tail = F.rms_norm(tail, (self.config.hidden,), self._norm, self.config.eps)
        return F.linear(tail, self._head)

    def _hidden(self, tokens: torch.Tensor, past: int) -> torch.Tensor:
        """Run the layers over (tokens,) ids that follow ``past`` cached ones: (tokens, hidden)."""
        c, n = self.config, len(tokens)
        cos, sin = self._cos[past : past + n], self._sin[past : past + n]
        mask = None
        if n > 1 and past:
            mask = torch.ones(n, past + n, dtype=torch.bool, device=self._device).tril(past)
        x = F.embedding(tokens, self._embedding)
        for layer, cache in zip(self._layers, self._cache, strict=True):
            normed = F.rms_norm(x, (c.hidden,), layer.input_norm, c.eps)
            x = x + self._attend(normed, layer, cache, cos, sin, past, mask)
            normed = F.rms_norm(x, (c.hidden,), layer.post_norm, c.eps)
            gate, up = F.linear(normed, layer.gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        return x

    def _attend(
        self,
        x: torch.Tensor,
        layer: _Layer,
        cache: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        past: int,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        c, n = self.config, len(x)
        fused = F.linear(x, layer.qkv).view(n, c.heads + 2 * c.kv_heads, c.head_dim)
        turned, v = fused.transpose(0, 1).split((c.heads + c.kv_heads, c.kv_heads))
        q, k = rotate(turned, cos, sin).split((c.heads, c.kv_heads))
        cache[0, :, past : past + n] = k
        cache[1, :, past : past + n] = v
        keys, values = cache[:, :, : past + n]  # (kv_heads, past + n, head_dim) each
        out = F.scaled_dot_product_attention(
            q[None],
            keys[None],
            values[None],
            attn_mask=mask,
            is_causal=mask is None and n > 1,
            enable_gqa=c.heads != c.kv_heads,
        )
        return F.linear(out[0].transpose(0, 1).reshape(n, -1), layer.o)


class _Loader:
    """Brings tensors from a checkpoint to the device, checked against the config."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        progress: Callable[[int], None],
    ) -> None:
        self._checkpoint, self._device, self._dtype = checkpoint, device, dtype
        self._progress = progress
        self.parameters = 0

    def __call__(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Return one tensor of the given shape."""
        out = torch.empty(shape, dtype=self._dtype, device=self._device)
        self.into(out, name)
        return out

    def into(self, out: torch.Tensor, name: str) -> None:
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
        raw = torch.from_numpy(self._checkpoint.read(name))
        out.copy_(raw.view(getattr(torch, info.dtype.torch_name)))
        self.parameters += out.numel()
        self._progress(raw.nbytes)


def _load_layer(load: _Loader, c: LlamaConfig, index: int) -> _Layer:
    at = f"model.layers.{index}."
    q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim

    def fused(names: Sequence[str], rows: Sequence[int]) -> torch.Tensor:
        out = torch.empty(sum(rows), c.hidden, dtype=load._dtype, device=load._device)
        for name, part in zip(names, out.split(list(rows)), strict=True):
            load.into(part, f"{at}{name}.weight")
        return out

    return _Layer(
        input_norm=load(f"{at}input_layernorm.weight", (c.hidden,)),
        qkv=fused(
            ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            (q, kv, kv),
        ),
        o=load(f"{at}self_attn.o_proj.weight", (c.hidden, q)),
        post_norm=load(f"{at}post_attention_layernorm.weight", (c.hidden,)),
        gate_up=fused(("mlp.gate_proj", "mlp.up_proj"), (c.mlp, c.mlp)),
        down=load(f"{at}mlp.down_proj.weight", (c.hidden, c.mlp)),
    )
