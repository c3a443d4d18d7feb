"""What a directory of weights is, by its headers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfee_cli.errors import SelfeeError
from selfee_cli.weights.checkpoint import Checkpoint, open_checkpoint
from selfee_cli.weights.identity import describe_delta
from selfee_cli.weights.manifest import Manifest, read_manifest
from selfee_cli.weights.storage import DataFile, refuse_lfs_pointer

__all__ = ["Inspection", "inspect"]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A checkpoint in a dozen facts."""

    path: str
    format: str
    architecture: str | None
    parameters: int
    dtypes: dict[str, int]
    """torch name to elements, most first."""
    layers: int | None
    hidden: int | None
    vocabulary: int | None
    context: int | None
    """Tokens."""
    shards: int
    bytes: int
    """Of the tensors."""
    provenance: dict[str, Any] | None
    """What the manifest says it was made from."""
    chat_ready: bool
    why_not: str | None
    """Why it cannot be asked, and what to do."""

    def to_json(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {"schema": "selfee.inspection/1", **vars(self)}


def inspect(path: Path | str) -> Inspection:
    """Inspect a directory of weights: headers, configuration, norm weights, manifest."""
    with open_checkpoint(path) as checkpoint:
        config, manifest = checkpoint.config, read_manifest(checkpoint.path)
        dtypes: Counter[str] = Counter()
        for info in checkpoint.tensors.values():
            dtypes[info.dtype.torch_name] += info.size
        embedding = checkpoint.tensors.get("model.embed_tokens.weight")
        why_not = _why_not_ready(checkpoint)
        return Inspection(
            path=str(checkpoint.path),
            format=checkpoint.layout,
            architecture=_architecture(config),
            parameters=checkpoint.parameters,
            dtypes=dict(dtypes.most_common()),
            layers=_count(config, "num_hidden_layers"),
            hidden=_count(config, "hidden_size"),
            vocabulary=embedding.rows if embedding else _count(config, "vocab_size"),
            context=_count(config, "max_position_embeddings"),
            shards=len(checkpoint.files),
            bytes=checkpoint.nbytes,
            provenance=_provenance(manifest),
            chat_ready=why_not is None,
            why_not=why_not,
        )


def _architecture(config: dict[str, Any]) -> str | None:
    classes = config.get("architectures")
    return str(classes[0]) if isinstance(classes, list) and classes else None


def _count(config: dict[str, Any], key: str) -> int | None:
    value = config.get(key)
    return value if type(value) is int else None


def _provenance(manifest: Manifest | None) -> dict[str, Any] | None:
    if manifest is None:
        return None
    made_from = {role: dict(origin) for role, origin in manifest.made_from.items()}
    return {
        "created_by": manifest.created_by,
        "fingerprint": manifest.fingerprint,
        "made_from": made_from,
    }


def _why_not_ready(checkpoint: Checkpoint) -> str | None:
    reason = describe_delta(checkpoint)
    if reason is not None:
        return f"it is a delta ({reason}): selfee apply-delta adds it to its base"
    if not checkpoint.config:
        return "config.json is missing"
    return _why_no_tokenizer(checkpoint.path)


def _why_no_tokenizer(path: Path) -> str | None:
    reason = None
    for name in ("tokenizer.model", "tokenizer.json"):
        if not (path / name).exists():
            continue
        try:
            with DataFile(path / name) as file:
                refuse_lfs_pointer(file)
        except SelfeeError as error:
            reason = reason or error.message
        else:
            return None
    return reason or "tokenizer.model is missing"
