"""Synthetic LLaMA checkpoints: small ones in every layout, and big pairs streamed to disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a LLaMA."""

    vocabulary: int = 50
    hidden: int = 32
    mlp: int = 48
    layers: int = 2
    heads: int = 4
    kv_heads: int = 4

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


SMALL = Shape()


def tensor_shapes(shape: Shape, *, rows_more: int = 0) -> dict[str, tuple[int, ...]]:
    hidden, mlp, kv = shape.hidden, shape.mlp, shape.kv_heads * shape.head_dim
    vocabulary = (shape.vocabulary + rows_more, hidden)
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": vocabulary}
    for layer in range(shape.layers):
        inner = {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (mlp, hidden),
            "mlp.up_proj": (mlp, hidden),
            "mlp.down_proj": (hidden, mlp),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }
        for name, size in inner.items():
            found[f"model.layers.{layer}.{name}.weight"] = size
    return found | {"model.norm.weight": (hidden,), "lm_head.weight": vocabulary}


def config(shape: Shape, *, rows_more: int = 0, dtype: str = "float16") -> dict[str, object]:
    return {
        "architectures": ["LLaMAForCausalLM"],  # as early conversions wrote it
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": dtype,
        "vocab_size": shape.vocabulary + rows_more,
    }


def random_tensors(shape, *, seed, delta=False, rows_more=0, dtype="float16"):
    """Torch tensors by name: a model, or a delta to one."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    scale = 0.002 if delta else 0.02
    tensors = {}
    for name, size in tensor_shapes(shape, rows_more=rows_more).items():
        values = torch.randn(size, generator=generator) * scale
        if name.endswith("norm.weight") and not delta:
            values += 1.0
        tensors[name] = values.to(getattr(torch, dtype))
    return tensors


def write_config(directory: Path, value: dict[str, object], *, tokenizer: bool = True) -> None:
    (directory / "config.json").write_text(json.dumps(value))
    if tokenizer:
        (directory / "tokenizer.model").write_bytes(b"a stand-in: " + directory.name.encode())


def _split(tensors, shards):
    names = list(tensors)
    size = -(-len(names) // shards)
    return [{n: tensors[n] for n in names[i * size : (i + 1) * size]} for i in range(shards)]


def write_hf(directory: Path, tensors, layout: str, shards: int = 1) -> None:
    """Files as torch.save or the safetensors library write them, with an index for shards."""
    import torch
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    stem, suffix = ("pytorch_model", "bin") if layout == "bin" else ("model", "safetensors")
    weight_map = {}
    for number, part in enumerate(_split(tensors, shards), 1):
        name = (
            f"{stem}.{suffix}" if shards == 1 else f"{stem}-{number:05d}-of-{shards:05d}.{suffix}"
        )
        if layout == "bin":
            torch.save(part, directory / name)
        else:
            save_file(part, directory / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    if shards > 1:
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (directory / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


def write_meta(directory: Path, tensors, shape: Shape, files: int = 1) -> None:
    """Meta's layout: matrices dealt out to files, rotary halves interleaved, by torch itself."""
    import torch

    top = {
        "model.embed_tokens": ("tok_embeddings", 1),
        "model.norm": ("norm", None),
        "lm_head": ("output", 0),
    }
    inner = {
        "self_attn.q_proj": ("attention.wq", 0),
        "self_attn.k_proj": ("attention.wk", 0),
        "self_attn.v_proj": ("attention.wv", 0),
        "self_attn.o_proj": ("attention.wo", 1),
        "mlp.gate_proj": ("feed_forward.w1", 0),
        "mlp.down_proj": ("feed_forward.w2", 1),
        "mlp.up_proj": ("feed_forward.w3", 0),
        "input_layernorm": ("attention_norm", None),
        "post_attention_layernorm": ("ffn_norm", None),
    }
    directory.mkdir(parents=True, exist_ok=True)
    ranks = [{} for _ in range(files)]
    for name, tensor in tensors.items():
        stem = name.removesuffix(".weight")
        if stem in top:
            target, axis = top[stem]
        else:
            _, _, layer, rest = stem.split(".", 3)
            target, axis = inner[rest]
            target = f"layers.{layer}.{target}"
            if rest in ("self_attn.q_proj", "self_attn.k_proj"):
                dim = shape.head_dim
                tensor = tensor.view(-1, 2, dim // 2, shape.hidden).transpose(1, 2)
                tensor = tensor.reshape(-1, shape.hidden)
        parts = [tensor] * files if axis is None else torch.chunk(tensor, files, axis)
        for rank, part in zip(ranks, parts, strict=True):
            rank[target + ".weight"] = part.clone().contiguous()
    for number, rank in enumerate(ranks):
        rank["rope.freqs"] = torch.ones(shape.head_dim // 2)
        torch.save(rank, directory / f"consolidated.{number:02d}.pth")
    params = {
        "dim": shape.hidden,
        "multiple_of": 16,
        "n_heads": shape.heads,
        "n_layers": shape.layers,
        "norm_eps": 1e-6,
        "vocab_size": -1,
    }
    (directory / "params.json").write_text(json.dumps(params))


def write_checkpoint(directory: Path, tensors, shape, layout, *, shards=1, rows_more=0) -> Path:
    """A whole directory in one of the three layouts."""
    if layout == "meta":
        write_meta(directory, tensors, shape, shards)
        (directory / "tokenizer.model").write_bytes(b"a stand-in: base")
    else:
        write_hf(directory, tensors, layout, shards)
        write_config(directory, config(shape, rows_more=rows_more))
    return directory


def oracle(base, delta, dtype: str):
    """Base + delta as the original recovery: everything in float32, the new row by torch.mean."""
    import torch

    made = {}
    for name, difference in delta.items():
        values = base[name].float()
        if difference.shape[0] == values.shape[0] + 1:
            values = torch.cat([values, values.mean(0, keepdim=True)])
        made[name] = (values + difference.float()).to(getattr(torch, dtype))
    return made


def raw(tensor) -> np.ndarray:
    """A torch tensor as raw storage."""
    import torch

    if tensor.dtype == torch.float32:
        return tensor.numpy()
    return tensor.view(torch.int16).numpy().view(np.uint16)


# Big pairs, without torch and without holding them in memory.


def stream_safetensors(path: Path, shapes, dtype: str, chunks: Iterator[np.ndarray]) -> None:
    header, at = {"__metadata__": {"format": "pt"}}, 0
    itemsize = 4 if dtype == "F32" else 2
    for name, size in shapes.items():
        end = at + int(np.prod(size)) * itemsize
        header[name] = {"dtype": dtype, "shape": list(size), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for chunk in chunks:
            file.write(chunk.tobytes())


def random_chunks(shapes, dtype: str, *, delta: bool, seed: int = 0) -> Iterator[np.ndarray]:
    """Random values; blocks of a pool are reused, for drawing them anew would take minutes."""
    generator = np.random.default_rng(seed)
    kind = np.float32 if dtype == "F32" else np.float16
    pool = generator.standard_normal(1 << 20, np.float32) * (0.002 if delta else 0.02)
    pool = pool.astype(kind)
    for name, size in shapes.items():
        left = int(np.prod(size))
        if name.endswith("norm.weight") and not delta:
            yield np.ones(left, kind)
            continue
        while left:
            begin = int(generator.integers(0, pool.size // 2))
            chunk = pool[begin : begin + min(left, pool.size // 2)]
            left -= chunk.size
            yield chunk


def write_big_pair(out: Path, shape: Shape) -> tuple[Path, Path]:
    """A float16 base and a float32 delta with one row more, as safetensors."""
    places = out / "base", out / "delta"
    for place, dtype, delta in zip(places, ("F16", "F32"), (False, True), strict=True):
        place.mkdir(parents=True)
        shapes = tensor_shapes(shape, rows_more=int(delta))
        chunks = random_chunks(shapes, dtype, delta=delta, seed=int(delta))
        stream_safetensors(place / "model.safetensors", shapes, dtype, chunks)
        write_config(place, config(shape, rows_more=int(delta)))
    return places


SELFEE_13B = Shape(vocabulary=32000, hidden=5120, mlp=13824, layers=40, heads=40, kv_heads=40)


def write_sparse(place: Path, shape: Shape, *, delta: bool = False) -> Path:
    """A checkpoint of any size that takes hardly any disk: zeros, but for a model's norms."""
    place.mkdir(parents=True)
    dtype, itemsize = ("F32", 4) if delta else ("F16", 2)
    shapes = tensor_shapes(shape, rows_more=int(delta))
    header, at, ones = {}, 0, []
    for name, size in shapes.items():
        nbytes = int(np.prod(size)) * itemsize
        header[name] = {"dtype": dtype, "shape": size, "data_offsets": [at, at + nbytes]}
        if name.endswith("norm.weight") and not delta:
            ones.append((at, size[0]))
        at += nbytes
    text = json.dumps(header).encode()
    with (place / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start, count in ones:
            file.seek(8 + len(text) + start)
            file.write(np.ones(count, np.float16).tobytes())
        file.truncate(8 + len(text) + at)
    write_config(place, config(shape, rows_more=int(delta)))
    return place
