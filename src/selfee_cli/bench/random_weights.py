"""Networks of true shapes with random weights: the speed of a model without its download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from selfee_cli.engine.base import Engine
from selfee_cli.errors import UsageError
from selfee_cli.weights.dtypes import DType, Raw
from selfee_cli.weights.storage import TensorInfo

_POOL = 1 << 20  # random values, used again and again: drawing billions is slow

SHAPES = {
    "7b": (32, 4096, 11008, 32, 32, 32001),
    "13b": (40, 5120, 13824, 40, 40, 32001),
    "135m": (30, 576, 1536, 9, 3, 49152),
}
"""Random weights by name: layers, hidden, mlp, heads, key and value heads, vocabulary."""

_TRAINED = 2048
"""Tokens of context."""


def load_random(name: str, *, device: str, dtype: str, quant: str, context: int | None) -> Engine:
    """Return a native engine with random weights of the shape ``name``.

    Raises:
        ResourceError: there is no room for it.
    """
    from selfee_cli.engine.base import is_out_of_memory
    from selfee_cli.engine.device import pick_device, pick_dtype
    from selfee_cli.engine.loading import LoadOptions, load_native, out_of_memory
    from selfee_cli.engine.quant import check_quant

    check_quant(quant)
    checkpoint: Any = RandomCheckpoint(name)
    place = pick_device(device)
    form = pick_dtype(dtype, place, stored="float16", parameters=checkpoint.parameters, quant=quant)
    options = LoadOptions(device=device, quant=quant, context_length=context)
    try:
        return load_native(checkpoint, options, place, form)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(place, checkpoint.parameters, form, quant) from error


def random_peer(name: str, device: str, dtype: str) -> Any:
    """Return transformers' model of the same shape, with random weights of its own."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = {key: value for key, value in _config(name).items() if key != "architectures"}
    with torch.device(device):  # made in its format: in float32 it may not fit there
        model: Any = AutoModelForCausalLM.from_config(
            LlamaConfig(**config), dtype=getattr(torch, dtype)
        )
    return model.eval()


def _config(name: str) -> dict[str, Any]:
    if name not in SHAPES:
        raise UsageError(f"--random {name} is unknown", hint=", ".join(SHAPES))
    layers, hidden, mlp, heads, kv_heads, vocabulary = SHAPES[name]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": _TRAINED,
        "rms_norm_eps": 1e-6,
    }


class RandomCheckpoint:
    """What the native engine asks of a checkpoint, with weights that stand nowhere."""

    def __init__(self, name: str) -> None:
        self.path = Path(f"random-{name}")
        self.config = _config(name)
        layers, hidden, mlp, heads, kv_heads, vocabulary = SHAPES[name]
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (vocabulary, hidden),
            "lm_head.weight": (vocabulary, hidden),
            "model.norm.weight": (hidden,),
        }
        key_rows = kv_heads * (hidden // heads)
        for layer in range(layers):
            at = f"model.layers.{layer}."
            shapes |= {
                f"{at}self_attn.q_proj.weight": (hidden, hidden),
                f"{at}self_attn.k_proj.weight": (key_rows, hidden),
                f"{at}self_attn.v_proj.weight": (key_rows, hidden),
                f"{at}self_attn.o_proj.weight": (hidden, hidden),
                f"{at}mlp.gate_proj.weight": (mlp, hidden),
                f"{at}mlp.up_proj.weight": (mlp, hidden),
                f"{at}mlp.down_proj.weight": (hidden, mlp),
                f"{at}input_layernorm.weight": (hidden,),
                f"{at}post_attention_layernorm.weight": (hidden,),
            }
        self.tensors = {
            name: TensorInfo(name=name, dtype=DType.F16, shape=shape)
            for name, shape in shapes.items()
        }
        pool = np.random.default_rng(0).standard_normal(_POOL, np.float32) * 0.02
        self._pool = pool.astype(np.float16).view(np.uint16)

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(info.size for info in self.tensors.values())

    def read(self, name: str) -> Raw:
        """Give a tensor's values, the same ones over and over."""
        info = self.tensors[name]
        return np.resize(self._pool, info.shape)
