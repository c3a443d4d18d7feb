"""Meta's own layout: ``consolidated.NN.pth`` files and ``params.json``, in Hugging Face's terms.

Each file holds one rank's part of a model that was split over several GPUs, so every tensor is put
together from all files. Queries and keys also have the rows of a head in another order; see
:class:`~selfee_cli.weights.storage.HalfSplitHeads`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from selfee_cli.errors import MismatchError, NotFoundError, SelfeeError
from selfee_cli.weights.hf_layout import is_number, is_there, read_json_file, supported_dtype
from selfee_cli.weights.pickle_file import read_torch_zip
from selfee_cli.weights.storage import (
    DataFile,
    HalfSplitHeads,
    HeadCache,
    JoinedColumns,
    JoinedRows,
    RowSource,
    StoredRows,
)

META_FILE = re.compile(r"consolidated\.[0-9]{2}\.pth")
PARAMS = "params.json"
MOST = {"dim": 32_768, "n_heads": 1_024, "n_layers": 1_000}
"""What ``params.json`` may say at most; LLaMA 65B says 8192, 64 and 80."""
MAX_HEAD_DIM = 256
"""Rows of a head, which are held in memory; 128 in every LLaMA."""

_REPLICATED, _ROWS, _COLUMNS = "replicated", "rows", "columns"
_TOP = {
    "tok_embeddings.weight": ("model.embed_tokens.weight", _COLUMNS),
    "norm.weight": ("model.norm.weight", _REPLICATED),
    "output.weight": ("lm_head.weight", _ROWS),
}
_IN_LAYER = {
    "attention.wq.weight": ("self_attn.q_proj.weight", _ROWS),
    "attention.wk.weight": ("self_attn.k_proj.weight", _ROWS),
    "attention.wv.weight": ("self_attn.v_proj.weight", _ROWS),
    "attention.wo.weight": ("self_attn.o_proj.weight", _COLUMNS),
    "feed_forward.w1.weight": ("mlp.gate_proj.weight", _ROWS),
    "feed_forward.w2.weight": ("mlp.down_proj.weight", _COLUMNS),
    "feed_forward.w3.weight": ("mlp.up_proj.weight", _ROWS),
    "attention_norm.weight": ("input_layernorm.weight", _REPLICATED),
    "ffn_norm.weight": ("post_attention_layernorm.weight", _REPLICATED),
}
_HALF_SPLIT = {"attention.wq.weight", "attention.wk.weight"}
_LAYER = re.compile(r"layers\.(0|[1-9][0-9]{0,3})\.(.+)")
_FREQUENCIES = "rope.freqs"  # half a head; recomputed from the configuration


def read_meta_config(path: Path) -> dict[str, Any]:
    """Give what ``params.json`` says, in the keys of ``config.json``.

    ``intermediate_size``, ``num_key_value_heads`` and ``vocab_size`` are only known once the
    tensors are: :func:`open_meta_tensors` completes them.
    """
    if not is_there(path / PARAMS):
        raise NotFoundError(f"{path / PARAMS} is missing", hint="it comes with Meta's weights")
    params = read_json_file(path / PARAMS)
    for key, most in MOST.items():
        if type(params.get(key)) is not int or not 0 < params[key] <= most:
            raise SelfeeError(
                f"{path / PARAMS} gives no sound {key!r}", hint="download it again, or correct it"
            )
    floats = {"norm_eps": params.get("norm_eps", 1e-6), "rope_theta": params.get("rope_theta", 1e4)}
    for key, limit in (("norm_eps", 1.0), ("rope_theta", 1e12)):
        if not is_number(floats[key], limit):
            raise SelfeeError(
                f"{path / PARAMS} gives no sound {key!r}", hint="download it again, or correct it"
            )
    head_dim, rest = divmod(params["dim"], params["n_heads"])
    if rest or head_dim % 2 or head_dim > MAX_HEAD_DIM:
        raise SelfeeError(
            f"{path / PARAMS}: {params['n_heads']} heads do not divide its dim evenly",
            hint="download it again, or correct it",
        )
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": params["dim"],
        "num_attention_heads": params["n_heads"],
        "num_hidden_layers": params["n_layers"],
        "rms_norm_eps": floats["norm_eps"],
        "rope_theta": floats["rope_theta"],
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def open_meta_tensors(
    path: Path,
    names: Sequence[str],
    config: dict[str, Any],
    open_file: Callable[[str], DataFile],
) -> dict[str, RowSource]:
    """Give the row source of every tensor and complete ``config`` from their shapes.

    Args:
        path: The directory.
        names: Its ``consolidated.NN.pth`` files, sorted.
        config: What :func:`read_meta_config` gave.
        open_file: Opens a file of the directory by name.
    """
    for number, name in enumerate(names):
        if name != f"consolidated.{number:02d}.pth":
            raise NotFoundError(f"{path / f'consolidated.{number:02d}.pth'} is missing")
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    ranks = [_open_rank(open_file(name), head_dim) for name in names]
    _check_ranks(path, names, ranks)
    cache = HeadCache()
    sources: dict[str, RowSource] = {}
    for meta_name in ranks[0]:
        source = _join(path, meta_name, [rank[meta_name] for rank in ranks])
        inner = _LAYER.fullmatch(meta_name)
        if inner and inner[2] in _HALF_SPLIT:
            if source.info.rows % head_dim:
                raise MismatchError(f"{path}: {meta_name} has {source.info.rows} rows")
            source = HalfSplitHeads(source.info.name, source, head_dim, cache)
        sources[source.info.name] = source
    _complete_config(path, config, sources, len(names))
    return sources


def _open_rank(file: DataFile, head_dim: int) -> dict[str, StoredRows]:
    tensors = read_torch_zip(file)
    frequencies = tensors.pop(_FREQUENCIES, None)
    # the one place in these files that tells heads apart: their order depends on it
    if frequencies is not None and frequencies.shape != (head_dim // 2,):
        raise MismatchError(
            f"{file.path}: {_FREQUENCIES} is {list(frequencies.shape)}, "
            f"by {PARAMS} a head has {head_dim} rows"
        )
    return {
        name: StoredRows(file, stored, supported_dtype(file.path, stored))
        for name, stored in tensors.items()
    }


def _check_ranks(path: Path, names: Sequence[str], ranks: Sequence[dict[str, StoredRows]]) -> None:
    first = ranks[0]
    for file, rank in zip(names, ranks, strict=True):
        for name in first.keys() ^ rank.keys():
            raise MismatchError(f"{path}: {names[0]} and {file} do not both have {name}")
        for name, part in rank.items():
            expected, found = first[name].info, part.info
            if expected.shape != found.shape or expected.dtype != found.dtype:
                raise MismatchError(
                    f"{path / file}: {name} is {found.dtype.value} {list(found.shape)}, "
                    f"in {names[0]} {expected.dtype.value} {list(expected.shape)}"
                )


def _join(path: Path, meta_name: str, parts: Sequence[StoredRows]) -> RowSource:
    inner = _LAYER.fullmatch(meta_name)
    known = _IN_LAYER.get(inner[2]) if inner else _TOP.get(meta_name)
    if known is None:
        raise SelfeeError(
            f"{path}: {meta_name} is no tensor of a LLaMA",
            hint="download it again, or give the weights of a LLaMA",
        )
    name, split = known
    if inner:
        name = f"model.layers.{int(inner[1])}.{name}"
    dimensions = 1 if split == _REPLICATED else 2
    if len(parts[0].info.shape) != dimensions:
        raise MismatchError(f"{path}: {meta_name} has the shape {list(parts[0].info.shape)}")
    if split == _COLUMNS:
        return JoinedColumns(name, parts)
    return JoinedRows(name, parts if split == _ROWS else parts[:1])


def _complete_config(
    path: Path, config: dict[str, Any], sources: dict[str, RowSource], files: int
) -> None:
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    wanted = {name for name, _ in _TOP.values()}
    wanted |= {f"model.layers.{n}.{name}" for n in range(layers) for name, _ in _IN_LAYER.values()}
    for name in sorted(wanted ^ sources.keys()):
        state = "lacks" if name in wanted else "has no place for"
        raise MismatchError(f"{path}: a LLaMA of {layers} layers {state} {name}")
    embedding = sources["model.embed_tokens.weight"].info.shape
    if embedding[1] < hidden and hidden * files % embedding[1] == 0:
        raise NotFoundError(
            f"{path / f'consolidated.{files:02d}.pth'} is missing: these weights are in "
            f"{hidden * files // embedding[1]} files, {files} are here",
            hint="download the rest",
        )
    if embedding[1] != hidden:
        raise MismatchError(f"{path}: the embedding is {list(embedding)}, {PARAMS} says {hidden}")
    head_dim = hidden // config["num_attention_heads"]
    mlp = sources["model.layers.0.mlp.gate_proj.weight"].info.rows
    keys = sources["model.layers.0.self_attn.k_proj.weight"].info.rows
    if keys % head_dim or hidden % keys:
        raise MismatchError(f"{path}: {keys} rows of keys do not fit the heads of {PARAMS}")
    for name, source in sources.items():
        wanted_shape = _shape(name, hidden=hidden, mlp=mlp, keys=keys, vocabulary=embedding[0])
        if source.info.shape != wanted_shape:
            raise MismatchError(
                f"{path}: {name} is {list(source.info.shape)}, "
                f"by {PARAMS} and the other tensors it should be {list(wanted_shape)}"
            )
    config["vocab_size"] = embedding[0]
    config["intermediate_size"] = mlp
    config["num_key_value_heads"] = keys // head_dim
    config["torch_dtype"] = sources["model.embed_tokens.weight"].info.dtype.torch_name


def _shape(name: str, *, hidden: int, mlp: int, keys: int, vocabulary: int) -> tuple[int, ...]:
    """Give the shape that a tensor of a LLaMA of these sizes has."""
    stem = name.removesuffix(".weight").rpartition(".")[2]
    return {
        "embed_tokens": (vocabulary, hidden),
        "lm_head": (vocabulary, hidden),
        "k_proj": (keys, hidden),
        "v_proj": (keys, hidden),
        "gate_proj": (mlp, hidden),
        "up_proj": (mlp, hidden),
        "down_proj": (hidden, mlp),
        "q_proj": (hidden, hidden),
        "o_proj": (hidden, hidden),
    }.get(stem, (hidden,))
