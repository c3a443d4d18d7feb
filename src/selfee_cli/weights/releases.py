"""Digests of published files, from public lists.

LLaMA's weights were published as files of Meta's layout and are widely kept as one conversion to
Hugging Face's; their digests are well known. None is known of SelFee's deltas.

A digest of a file names that file alone, a fingerprint the weights in whatever files. Where
``verify`` finds the files of a release, it remembers their fingerprint on this machine; from then
on ``apply-delta`` names the base at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from selfee_cli.folders import make_private
from selfee_cli.settings import state_dir


@dataclass(frozen=True, kw_only=True)
class ReleasedFile:
    """A published file."""

    release: str
    name: str
    sha256: str
    md5: str | None = None


_LLAMA_7B, _LLAMA_13B = "LLaMA 7B (Meta)", "LLaMA 13B (Meta)"
_HF_7B, _HF_13B = "LLaMA 7B (Hugging Face .bin)", "LLaMA 13B (Hugging Face .bin)"
TOKENIZER = ReleasedFile(
    release="LLaMA tokenizer",
    name="tokenizer.model",
    sha256="9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347",
    md5="eeec4125e9c7560836b4873b6f8e3025",
)
RELEASES = (
    ReleasedFile(
        release=_LLAMA_7B,
        name="consolidated.00.pth",
        sha256="700df0d3013b703a806d2ae7f1bfb8e59814e3d06ae78be0c66368a50059f33d",
        md5="6efc8dab194ab59e49cd24be5574d85e",
    ),
    ReleasedFile(
        release=_LLAMA_7B,
        name="params.json",
        sha256="7e89e242ddc0dd6f060b43ca219ce8b3e8f08959a72cb3c0855df8bb04d46265",
        md5="7596560e011154b90eb51a1b15739763",
    ),
    ReleasedFile(
        release=_LLAMA_13B,
        name="consolidated.00.pth",
        sha256="745bf4e29a4dd6f411e72976d92b452da1b49168a4f41c951cfcc8051823cf08",
        md5="0804c42ca65584f50234a86d71e6916a",
    ),
    ReleasedFile(
        release=_LLAMA_13B,
        name="consolidated.01.pth",
        sha256="d5ccbcc465c71c0de439a5aeffebe8344c68a519bce70bc7f9f92654ee567085",
        md5="016017be6040da87604f77703b92f2bc",
    ),
    ReleasedFile(
        release=_LLAMA_13B,
        name="params.json",
        sha256="4ab77bec4d4405ccb66a97b282574c89a94417e3c32e5f68f37e2876fc21322f",
        md5="0171286599e0f8858893e49fb74b71f8",
    ),
    ReleasedFile(
        release=_HF_7B,
        name="pytorch_model-00001-of-00002.bin",
        sha256="0087155d6df07106c1d910bfeb6aab1be8e612dfbf2b56ddfb4ccbde7dbd50d0",
    ),
    ReleasedFile(
        release=_HF_7B,
        name="pytorch_model-00002-of-00002.bin",
        sha256="461bc5e50200db7813ff99cc0b9316c48ccbd6aaaa31bf8cf7bee0b64bc3eda3",
    ),
    ReleasedFile(
        release=_HF_13B,
        name="pytorch_model-00001-of-00003.bin",
        sha256="dd20cdee2637408c6ab88c13f5c27d153bacd0e99f2d55f6a66fbd0269944436",
    ),
    ReleasedFile(
        release=_HF_13B,
        name="pytorch_model-00002-of-00003.bin",
        sha256="1aba886c5f28d2e2e9b04ab3c4f5bc250c6b06efc1baa3f557677b3097f70e6a",
    ),
)


def known_release(fingerprint: str) -> str | None:
    """Give the release that was found to have this fingerprint on this machine."""
    return _remembered().get(fingerprint)


def presumed_release(path: Path) -> str | None:
    """Give the release that a directory claims to be by its ``params.json``; it proves nothing."""
    try:
        digest = hashlib.sha256((path / "params.json").read_bytes()).hexdigest()
    except OSError:
        return None
    return next((file.release for file in RELEASES if file.sha256 == digest), None)


def remember(fingerprint: str, release: str) -> None:
    """Keep what was found; where that is not possible, it will be found again."""
    known = {**_remembered(), fingerprint: release}
    path = _memory()
    try:
        make_private(path.parent)
        aside = path.with_suffix(".partial")
        aside.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
        aside.replace(path)
    except OSError:
        pass


def _memory() -> Path:
    return state_dir() / "known-weights.json"


def _remembered() -> dict[str, str]:
    try:
        known = json.loads(_memory().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def candidates(name: str) -> list[ReleasedFile]:
    """Give the published files of a name."""
    return [file for file in (*RELEASES, TOKENIZER) if file.name == name]


def recognise(digests: Iterable[str]) -> list[ReleasedFile]:
    """Give the published files whose SHA-256 or MD5 digests are among ``digests``."""
    known = set(digests)
    return [f for f in (*RELEASES, TOKENIZER) if f.sha256 in known or f.md5 in known]
