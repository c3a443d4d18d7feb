"""Which files of a Hub repository make one checkpoint.

A repository may hold the same weights two or three times over, scripts, and formats that are not
read here. Names alone decide, before a byte is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from selfee_cli.weights.corrections import CORRECTION_NAME
from selfee_cli.weights.hf_layout import BIN, SAFETENSORS
from selfee_cli.weights.meta_layout import META_FILE, PARAMS

_SIDECARS = frozenset({
    "config.json", "generation_config.json", "tokenizer.model", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "chat_template.json", "README.md", "SHA256SUMS", "checklist.chk", "selfee-manifest.json",
    CORRECTION_NAME,
})  # fmt: skip
_TERMS = re.compile(r"(licen[cs]e|notice|copying|use_policy)([-_.\w]*)", re.IGNORECASE)
_PROSE = {"", ".txt", ".md", ".pdf"}
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.(safetensors|bin)")


@dataclass(frozen=True, kw_only=True)
class FileSet:
    """One set of weights among the files of a repository."""

    weights: tuple[str, ...]
    """The files that must be there, an index or ``params.json`` included."""
    sidecars: tuple[str, ...]
    """Configuration, tokenizer, licences, lists of checksums."""

    @property
    def names(self) -> tuple[str, ...]:
        """All files of the set."""
        return (*self.sidecars, *self.weights)

    @property
    def needed(self) -> tuple[str, ...]:
        """The files without which nothing can be loaded."""
        return tuple(name for name in self.names if name in (*self.weights, "config.json"))


def file_sets(names: Iterable[str]) -> list[FileSet]:
    """Give the sets of weights among ``names``, the best first; empty where there are none.

    safetensors come before ``.bin``, which come before Meta's files; within a layout the single
    file comes before shards, as transformers has it. Folders (``original/``), variants
    (``model.fp16.safetensors``) and adapters are no checkpoints of their own.
    """
    top = sorted(name for name in names if "/" not in name)
    sidecars = tuple(name for name in top if name in _SIDECARS or _is_terms(name))
    sets = [
        *_hf_sets(top, "model", "safetensors"),
        *_hf_sets(top, "pytorch_model", "bin"),
    ]
    meta = [name for name in top if META_FILE.fullmatch(name)]
    if meta:
        sets.append((*meta, *(name for name in top if name == PARAMS)))
    return [FileSet(weights=weights, sidecars=sidecars) for weights in sets]


def other_weights(names: Iterable[str], chosen: Collection[str]) -> list[str]:
    """Give the top-level files that a reader would take for weights beside the ``chosen`` ones."""
    return [
        name
        for name in names
        if name not in chosen
        and any(kind.fullmatch(name) for kind in (SAFETENSORS, BIN, META_FILE))
    ]


def weights_below(names: Iterable[str]) -> str | None:
    """Give the first folder that holds a checkpoint; None where there is none."""
    names = list(names)
    for folder in sorted({name.rpartition("/")[0] for name in names if "/" in name}):
        inside = [name[len(folder) + 1 :] for name in names if name.startswith(folder + "/")]
        if file_sets(inside):
            return folder
    return None


def with_all_shards(names: Iterable[str]) -> set[str]:
    """Give ``names`` and the shards that must stand beside those among them."""
    found = set(names)
    for name in list(found):
        if match := _SHARD.fullmatch(name):
            stem, _, count, suffix = match.groups()
            found |= {f"{stem}-{n:05d}-of-{count}.{suffix}" for n in range(1, int(count) + 1)}
    return found


def _hf_sets(top: list[str], stem: str, suffix: str) -> Iterable[tuple[str, ...]]:
    whole, index = f"{stem}.{suffix}", f"{stem}.{suffix}.index.json"
    if whole in top:
        yield (whole,)
    shards = [n for n in top if (m := _SHARD.fullmatch(n)) and (m[1], m[4]) == (stem, suffix)]
    if shards:
        yield (*shards, *(name for name in top if name == index))


def _is_terms(name: str) -> bool:
    return _TERMS.fullmatch(name) is not None and Path(name).suffix.lower() in _PROSE
