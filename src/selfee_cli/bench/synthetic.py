"""A base and a delta of any size, with random weights, in the shapes of a LLaMA.

The base is float16, the delta float32 with the one row more of ``[PAD]``: what SelFee's authors
published. Written layer by layer, so that any size takes little memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selfee_cli.weights.conversion import from_float32
from selfee_cli.weights.digests import Advance, ignore_progress
from selfee_cli.weights.disk import write_json
from selfee_cli.weights.dtypes import DType, Raw
from selfee_cli.weights.storage import TensorInfo
from selfee_cli.weights.writer import SHARD_SIZE, ShardWriter, plan_shards

INPUT_BYTES = DType.F16.itemsize + DType.F32.itemsize
"""Bytes of base and delta for a parameter."""
_WIDTHS = (4096, 2048, 1024, 512, 256, 128, 64)
_VOCABULARY = 32_000
_HEAD_DIM = 128
_LEAST_LAYERS = 2
_BASE_SCALE, _DELTA_SCALE = 0.02, 0.002
_POOL = 1 << 20  # random values, of which stretches are used again: drawing is slow
_BLOCK = 1 << 18


@dataclass(frozen=True, kw_only=True)
class PairShape:
    """The sizes of the base; the delta has one row of vocabulary more."""

    hidden: int
    layers: int

    @property
    def mlp(self) -> int:
        """Width of the feed-forward, in the proportion of LLaMA-7B (11008 to 4096)."""
        return self.hidden * 43 // 16

    @property
    def vocabulary(self) -> int:
        """Rows of embedding and head; fewer in narrow models, which they would fill alone."""
        return min(_VOCABULARY, 16 * self.hidden)

    @property
    def layer_parameters(self) -> int:
        """Elements of a layer."""
        return (4 * self.hidden + 3 * self.mlp + 2) * self.hidden

    @property
    def parameters(self) -> int:
        """Elements of the base."""
        ends = (2 * self.vocabulary + 1) * self.hidden
        return ends + self.layers * self.layer_parameters

    @property
    def input_bytes(self) -> int:
        """Bytes of the tensors of base and delta."""
        return self.parameters * INPUT_BYTES + 2 * self.hidden * DType.F32.itemsize

    @property
    def output_bytes(self) -> int:
        """Bytes of the tensors of their sum in float16."""
        return (self.parameters + 2 * self.hidden) * DType.F16.itemsize


def shape_for(input_bytes: float) -> PairShape:
    """Give the widest shape of two layers or more whose tensors take at most ``input_bytes``.

    It falls short by less than a layer. There is a smallest, for whatever is less.
    """
    wanted = int(input_bytes) // INPUT_BYTES
    shape = PairShape(hidden=_WIDTHS[-1], layers=_LEAST_LAYERS)
    for hidden in _WIDTHS:
        shape = PairShape(hidden=hidden, layers=_LEAST_LAYERS)
        if shape.parameters <= wanted:
            break
    more = max(0, (wanted - shape.parameters) // shape.layer_parameters)
    return PairShape(hidden=shape.hidden, layers=_LEAST_LAYERS + more)


def write_pair(
    directory: Path, shape: PairShape, progress: Advance = ignore_progress
) -> tuple[Path, Path]:
    """Write ``directory/base`` and ``directory/delta``, synced, and give the two.

    ``progress`` is told how many more of ``shape.input_bytes`` were written.
    """
    base, delta = directory / "base", directory / "delta"
    _write(base, shape, DType.F16, rows_more=0, progress=progress)
    _write(delta, shape, DType.F32, rows_more=1, progress=progress)
    return base, delta


def _write(
    directory: Path, shape: PairShape, dtype: DType, *, rows_more: int, progress: Advance
) -> None:
    directory.mkdir(parents=True)
    tensors = [
        TensorInfo(name=name, dtype=dtype, shape=size)
        for name, size in _tensor_shapes(shape, rows_more).items()
    ]
    values = _RandomValues(dtype, _DELTA_SCALE if rows_more else _BASE_SCALE, seed=rows_more)
    with ShardWriter(directory, plan_shards(tensors, SHARD_SIZE)) as writer:
        for info in tensors:
            # The norms of a model are about 1, by which it is told from a delta.
            ones = info.name.endswith("norm.weight") and not rows_more
            for block in values.ones(info.size) if ones else values.take(info.size):
                writer.write(info.name, block)
                progress(block.nbytes)
    write_json(directory / "config.json", _config(shape, dtype, rows_more))


class _RandomValues:
    """Normal random values in raw storage, from a pool that is drawn once."""

    def __init__(self, dtype: DType, scale: float, *, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._dtype = dtype
        values = self._random.standard_normal(_POOL, np.float32) * np.float32(scale)
        self._pool = from_float32(values, dtype)

    def take(self, count: int) -> Iterator[Raw]:
        """Yield ``count`` values in blocks."""
        while count:
            begin = int(self._random.integers(0, _POOL - _BLOCK))
            block = self._pool[begin : begin + min(count, _BLOCK)]
            count -= block.size
            yield block

    def ones(self, count: int) -> Iterator[Raw]:
        """Yield ``count`` times the value 1."""
        yield from_float32(np.ones(count, np.float32), self._dtype)


def _tensor_shapes(shape: PairShape, rows_more: int) -> dict[str, tuple[int, ...]]:
    """Give names and shapes in canonical order."""
    hidden, mlp = shape.hidden, shape.mlp
    ends = (shape.vocabulary + rows_more, hidden)
    inner = {
        "input_layernorm": (hidden,),
        "mlp.down_proj": (hidden, mlp),
        "mlp.gate_proj": (mlp, hidden),
        "mlp.up_proj": (mlp, hidden),
        "post_attention_layernorm": (hidden,),
        "self_attn.k_proj": (hidden, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.v_proj": (hidden, hidden),
    }
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": ends}
    for layer in range(shape.layers):
        found |= {f"model.layers.{layer}.{name}.weight": size for name, size in inner.items()}
    return found | {"model.norm.weight": (hidden,), "lm_head.weight": ends}


def _config(shape: PairShape, dtype: DType, rows_more: int) -> dict[str, Any]:
    heads = max(1, shape.hidden // _HEAD_DIM)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": dtype.torch_name,
        "vocab_size": shape.vocabulary + rows_more,
    }
