"""A LLaMA forward pass of our own over a static key/value cache.

It covers every checkpoint whose ``config.json`` says ``llama`` in the forms found in the wild:
grouped-query heads, tied or untied head, scaled rotary embedding. transformers is not imported.
Layers may lie on several devices: the activations, a few kilobytes, go from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812

from selfee_cli.engine.base import Engine
from selfee_cli.engine.llama import Layer, LlamaConfig, Loader
from selfee_cli.engine.quant import Quantiser, head_quant
from selfee_cli.engine.rope import RopeConfig, rope_tables, rotate
from selfee_cli.engine.static import StaticPasses

if TYPE_CHECKING:
    from selfee_cli.weights.checkpoint import Checkpoint

# Tokens a pass over a prompt; between two layers a CPU should take a second at most.
_PREFILL_CHUNK = {"cpu": 128}
_WIDE_CHUNK = 512


@dataclass(frozen=True)
class _Place:
    """Where the tokens of a pass stand: in a row after what is cached, or at given positions."""

    at: slice | torch.Tensor
    span: int
    """Cached tokens that are looked at, those of the pass included."""
    mask: torch.Tensor | None
    """(tokens, span), true where a token looks; None where all it may look at is there."""

    @staticmethod
    def after(past: int, count: int, device: torch.device) -> _Place:
        mask = None
        if count > 1 and past:
            mask = torch.ones(count, past + count, dtype=torch.bool, device=device).tril(past)
        return _Place(slice(past, past + count), past + count, mask)

    @staticmethod
    def fixed(positions: torch.Tensor, span: int) -> _Place:
        columns = torch.arange(span, device=positions.device)
        return _Place(positions, span, columns <= positions[:, None])

    def store(self, cache: torch.Tensor, values: torch.Tensor) -> None:
        """Write (heads, tokens, head_dim) where they belong in (heads, capacity, head_dim)."""
        if isinstance(self.at, slice):
            cache[:, self.at] = values
        else:
            cache.index_copy_(1, self.at, values.to(cache.dtype))


class NativeEngine(Engine):
    """LLaMA, batch one."""

    name = "native"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device,
        dtype: torch.dtype,
        quant: str = "none",
        placement: Sequence[tuple[torch.device, int]] | None = None,
        context_length: int | None = None,
        stretch: bool = True,
        static: bool | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Load ``checkpoint``.

        Args:
            checkpoint: A LLaMA that ``unsupported`` has nothing against.
            device: Where the embedding and the head lie.
            dtype: Of activations, cache and what is not quantised.
            quant: One of :data:`~selfee_cli.engine.quant.QUANTS`.
            placement: Devices and how many layers each has, in order; None: all on ``device``.
            context_length: Tokens; None: as trained.
            stretch: Whether positions are scaled where that is longer than trained.
            static: Whether narrow passes have fixed shapes; None: on one CUDA device, where they
                are captured as graphs.
            progress: Is called with the bytes of every tensor loaded.
        """
        super().__init__()
        self.config = config = LlamaConfig.of(checkpoint)
        self.context_length = context_length or config.rope.trained_length
        self.vocab_size = config.vocab_size
        placement = placement or [(device, config.layers)]
        self.device = "+".join(dict.fromkeys(str(place) for place, _ in placement))
        self.dtype, self.quant = str(dtype).removeprefix("torch."), quant
        self._device = device
        load = Loader(checkpoint, device, dtype, quant, progress)
        ends = (config.vocab_size, config.hidden)
        self._embedding = load("model.embed_tokens.weight", ends)
        first, self._blocks = 0, []
        for place, count in placement:
            load.device = place
            self._blocks.append(_Block(load, config, range(first, first + count)))
            first += count
        load.device = device
        self._norm = load("model.norm.weight", (config.hidden,))
        head = self._embedding if config.tied else load("lm_head.weight", ends)
        self._head = Quantiser(head_quant(quant))(head)
        load.finish()
        self.parameters = load.parameters
        self.weight_bytes = self._head.nbytes + sum(block.nbytes for block in self._blocks)
        rope = config.rope.stretched(self.context_length) if stretch else config.rope
        if static is None:
            static = device.type == "cuda" and len(self._blocks) == 1
        for block in self._blocks:
            block.open(rope, self.context_length)
        self._static = StaticPasses(device, self.context_length) if static else None
        self._forget()

    def _truncate(self, length: int) -> None:
        pass  # the length is all there is to it: later writes go over the rest

    def _forget(self) -> None:
        if self._static is not None:  # masked, but looked at: what is no number spreads by sums
            for block in self._blocks:
                block.clear()

    @torch.inference_mode()
    def _forward(self, ids: Sequence[int], last: int) -> torch.Tensor:
        past = len(self.ids)
        if self._static is not None and self._static.takes(past, len(ids)):
            logits = self._static(self._fixed, ids, past)
            return logits[-last:].clone()  # the next pass writes over it
        tokens = torch.tensor(ids, device=self._device)
        hidden: list[torch.Tensor] = []
        width = _PREFILL_CHUNK.get(self._device.type, _WIDE_CHUNK)
        for start in range(0, len(ids), width):
            chunk = tokens[start : start + width]
            x = F.embedding(chunk, self._embedding)
            for block in self._blocks:
                place = _Place.after(past + start, len(chunk), block.device)
                x = block(x.to(block.device), place, self._check)
            hidden.append(x.to(self._device))
        return self._logits(torch.cat(hidden)[-last:] if len(hidden) > 1 else hidden[0][-last:])

    def _fixed(self, tokens: torch.Tensor, positions: torch.Tensor, span: int) -> torch.Tensor:
        """Return the logits of every token of a pass of fixed shape."""
        x = F.embedding(tokens, self._embedding)
        place = _Place.fixed(positions, span)
        for block in self._blocks:
            x = block(x, place)
        return self._logits(x)

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        return self._head(F.rms_norm(x, (self.config.hidden,), self._norm, self.config.eps))


class _Block:
    """Layers in a row on one device, with their keys and values."""

    def __init__(self, load: Loader, config: LlamaConfig, layers: range) -> None:
        self.device, self._dtype = load.device, load.dtype
        self._config = config
        self._layers = [load.layer(config, index) for index in layers]
        self.nbytes = sum(part.nbytes for layer in self._layers for part in vars(layer).values())

    def open(self, rope: RopeConfig, context_length: int) -> None:
        """Make the tables of a context's positions, and a cache for all of them.

        On a CPU its memory is taken as it is written. A cache that grew would be there twice
        while it is copied.
        """
        c = self._config
        cos, sin = rope_tables(rope, context_length, dtype=self._dtype, device=self.device)
        self._tables = (cos, 1.0), (sin, 0.0)
        shape = (len(self._layers), 2, c.kv_heads, context_length, c.head_dim)
        self._cache = torch.empty(shape, dtype=self._dtype, device=self.device)

    def clear(self) -> None:
        """Fill the cache with zeros."""
        self._cache.zero_()

    def _over_heads(self, table: torch.Tensor, rest: float) -> torch.Tensor:
        """Spread (tokens, head_dim) over the heads of queries and keys, ``rest`` for values.

        Values are turned by no angle: so one operation serves all heads, and one stores two.
        """
        c, n = self._config, len(table)
        turned = table[:, None].expand(n, c.heads + c.kv_heads, c.head_dim)
        return torch.cat((turned, table.new_full((n, c.kv_heads, c.head_dim), rest)), dim=1)

    def __call__(
        self, x: torch.Tensor, place: _Place, check: Callable[[], None] = lambda: None
    ) -> torch.Tensor:
        """Run the layers over (tokens, hidden); ``check`` is called before each."""
        c = self._config
        cos, sin = (self._over_heads(table[place.at], rest) for table, rest in self._tables)
        for layer, cache in zip(self._layers, self._cache, strict=True):
            check()
            normed = F.rms_norm(x, (c.hidden,), layer.input_norm, c.eps)
            x = x + self._attend(normed, layer, cache, cos, sin, place)
            normed = F.rms_norm(x, (c.hidden,), layer.post_norm, c.eps)
            gate, up = layer.gate_up(normed).chunk(2, dim=-1)
            x = x + layer.down(F.silu(gate) * up)
        return x

    def _attend(
        self,
        x: torch.Tensor,
        layer: Layer,
        cache: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        place: _Place,
    ) -> torch.Tensor:
        c, n = self._config, len(x)
        fused = layer.qkv(x).view(n, c.heads + 2 * c.kv_heads, c.head_dim)
        turned = rotate(fused, cos, sin).transpose(0, 1)
        q = turned[: c.heads]
        place.store(cache.view(2 * c.kv_heads, -1, c.head_dim), turned[c.heads :])
        keys, values = cache[:, :, : place.span]  # (kv_heads, span, head_dim) each
        out = F.scaled_dot_product_attention(
            q[None],
            keys[None],
            values[None],
            attn_mask=place.mask,
            is_causal=place.mask is None and n > 1,
            enable_gqa=c.heads != c.kv_heads,
        )
        return layer.o(out[0].transpose(0, 1).reshape(n, -1))
