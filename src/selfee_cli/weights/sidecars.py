"""The small files beside the weights: configuration, tokenizer, licences.

They come from the delta, never from the base: bases in the wild carry wrong token ids and class
names. Only a ``tokenizer.model`` that the delta does not have is taken from the base.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from selfee_cli.weights.delta_plan import VOCABULARY, DeltaPlan
from selfee_cli.weights.disk import WrittenFile, disk_errors, write_json

_COPIED = (
    "generation_config.json", "tokenizer.model", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.*", "LICENSE*", "NOTICE*",
)  # fmt: skip
_CLASSES = {"LLaMAForCausalLM": "LlamaForCausalLM"}  # early conversions wrote the first


def write_sidecars(plan: DeltaPlan, directory: Path) -> tuple[list[WrittenFile], tuple[str, ...]]:
    """Write them into ``directory``; give what was written and what to tell the user."""
    files = [write_json(directory / "config.json", result_config(plan))]
    for entry in sorted(plan.delta.iterdir()):
        if entry.is_file() and any(fnmatch.fnmatchcase(entry.name, name) for name in _COPIED):
            files.append(_copy(entry, directory))
    have = {file.name for file in files}
    if have & {"tokenizer.model", "tokenizer.json"}:
        return files, ()
    # Meta's tokenizer lies beside the directories of the models.
    for place in (plan.base, plan.base.resolve().parent):
        if (place / "tokenizer.model").is_file():
            files.append(_copy(place / "tokenizer.model", directory))
            return files, (f"the delta has no tokenizer: took tokenizer.model from {place}",)
    return files, ("neither the delta nor the base has a tokenizer: the model cannot be asked yet",)


def result_config(plan: DeltaPlan) -> dict[str, Any]:
    """Give the delta's configuration, corrected to what the result is."""
    config = dict(plan.config)
    classes = config.get("architectures")
    if isinstance(classes, list):
        config["architectures"] = [_CLASSES.get(str(name), name) for name in classes]
    # transformers 5 writes dtype, earlier versions torch_dtype; both are read everywhere
    for key in [key for key in ("dtype", "torch_dtype") if key in config] or ["torch_dtype"]:
        config[key] = plan.dtype.torch_name
    rows = [info.rows for info in plan.tensors if info.name in VOCABULARY]
    if rows:
        config["vocab_size"] = rows[0]
    return config


def _copy(source: Path, directory: Path) -> WrittenFile:
    target = directory / source.name
    with disk_errors(directory):
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
    return WrittenFile(name=source.name, size=size, sha256=digest)
