"""The small files beside the weights: configuration, tokenizer, licences.

They come from the delta, never from the base: bases in the wild carry wrong token ids and class
names. Only a ``tokenizer.model`` that the delta does not have is taken from the base. Deltas can
be wrong too: they were saved by libraries of their time. So pieces and ids are those of
``tokenizer.model``, in every file of the result and in the words that today's libraries read.

Which of the pieces begins and ends a text, the delta's tokenizer files say where they name one:
SelFee's training code made ``</s>`` both on some paths, and what a model was trained to read
first is what it must be given.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfee_cli.errors import SelfeeError
from selfee_cli.weights.digests import check_listable
from selfee_cli.weights.disk import WrittenFile, copy_file, write_json, write_text
from selfee_cli.weights.hf_layout import read_json_file
from selfee_cli.weights.pairing import VOCABULARY
from selfee_cli.weights.storage import DataFile, TensorInfo, refuse_lfs_pointer
from selfee_cli.weights.tokenizer_json import (
    PieceKind,
    SentencePieceModel,
    read_sentencepiece,
    tokenizer_json,
)

if TYPE_CHECKING:
    from selfee_cli.weights.delta_plan import DeltaPlan

COPIED = "chat_template.*", "LICENSE*", "NOTICE*"
"""Patterns of the files that are taken as they are."""
TOKENIZER = (
    "generation_config.json", "tokenizer.model", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
"""The files that say how text becomes ids, and which of these begin and end it."""
_CLASSES = {"LLaMAForCausalLM": "LlamaForCausalLM"}  # early conversions wrote the first
_ROLES = "bos", "eos", "pad", "unk"
_ENDLESS = 1 << 32  # a longest text that means "not known": libraries write 1e30


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """The tokens of the result: pieces of ``tokenizer.model``, and the rows beyond it."""

    model: SentencePieceModel
    added: Mapping[str, int]
    special: Mapping[str, tuple[str, int]]
    """Text and id by role: ``bos``, ``eos``, ``unk``, ``pad``; only the roles there are."""


def check_sidecars(base: Path, delta: Path) -> None:
    """Check what :func:`write_sidecars` will take, before any work; see :func:`check_copied`."""
    source, _ = _tokenizer_source(base, delta)
    beside = named_files(delta, (*TOKENIZER, *COPIED))
    check_copied([*beside, source] if source is not None else beside)


def check_copied(files: Iterable[Path]) -> None:
    """Refuse small files that cannot become part of a result.

    Raises:
        MismatchError: One is a git-LFS pointer.
        SelfeeError: One cannot be read, or no list of digests can hold its name.
    """
    for path in files:
        check_listable(path)
        with DataFile(path) as file:
            refuse_lfs_pointer(file)


def write_sidecars(plan: DeltaPlan, directory: Path) -> tuple[list[WrittenFile], tuple[str, ...]]:
    """Write them into ``directory``; give what was written and what to tell the user."""
    source, notes = _tokenizer_source(plan.base, plan.delta)
    tokens = None
    if source is not None:
        try:
            tokens = _read_tokens(plan, source)
        except SelfeeError as error:
            notes.append(f"made no tokenizer.json from {source}: {error.message}")
    copied = {path.name: path for path in named_files(plan.delta, COPIED)}
    if source is not None:
        copied[source.name] = source
    if tokens is None:
        files = [write_json(directory / "config.json", result_config(plan))]
        copied |= {path.name: path for path in named_files(plan.delta, TOKENIZER)}
    else:
        files = _write_tokenizer(plan, tokens, directory)
        notes += _corrections(plan, tokens)
    files += [copy_file(path, directory) for path in copied.values()]
    return files, tuple(notes)


def result_config(plan: DeltaPlan) -> dict[str, Any]:
    """Give the delta's configuration, corrected to what the result is."""
    config = stored_config(plan.config, plan.tensors)
    classes = config.get("architectures")
    if isinstance(classes, list):
        config["architectures"] = [_CLASSES.get(str(name), name) for name in classes]
    return config


def stored_config(config: Mapping[str, Any], tensors: Sequence[TensorInfo]) -> dict[str, Any]:
    """Give a configuration that says the type and the vocabulary that ``tensors`` have."""
    stored = dict(config)
    # transformers 5 writes dtype, earlier versions torch_dtype; both are read everywhere
    for key in [key for key in ("dtype", "torch_dtype") if key in stored] or ["torch_dtype"]:
        stored[key] = tensors[0].dtype.torch_name
    if _rows(tensors):
        stored["vocab_size"] = _rows(tensors)
    return stored


def _rows(tensors: Sequence[TensorInfo]) -> int:
    return next((info.rows for info in tensors if info.name in VOCABULARY), 0)


def _tokenizer_source(base: Path, delta: Path) -> tuple[Path | None, list[str]]:
    """Give the ``tokenizer.model`` to use, if there is one, and what to say of it."""
    if (delta / "tokenizer.model").is_file():
        return delta / "tokenizer.model", []
    if (delta / "tokenizer.json").is_file():
        return None, []
    # Meta's tokenizer lies beside the directories of the models.
    for place in (base, base.resolve().parent):
        path = place / "tokenizer.model"
        if path.is_file():
            return path, [f"the delta has no tokenizer: took tokenizer.model from {place}"]
    return None, ["neither the delta nor the base has a tokenizer: the model cannot be asked yet"]


def _read_tokens(plan: DeltaPlan, source: Path) -> _Tokens:
    model = read_sentencepiece(source.read_bytes())
    pieces, rows = len(model.pieces), _rows(plan.tensors)
    if pieces > rows:
        raise SelfeeError(f"it has {pieces} pieces, the weights have {rows} rows")
    named = _read_json(plan.delta / "added_tokens.json")
    added = {text: id for text, id in named.items() if isinstance(id, int) and pieces <= id < rows}
    if rows == pieces + 1 and not added:
        added = {"[PAD]": pieces}  # the row that SelFee's training added
    special = {}
    for role in _ROLES:
        id = _named_piece(plan, model, role) if role in ("bos", "eos") else None
        id = model.id_of(role) if id is None else id
        if id is not None:
            special[role] = (model.pieces[id].text, id)
    for text, id in added.items():
        if text == "[PAD]" or rows == pieces + 1:
            special["pad"] = (text, id)
    return _Tokens(model=model, added=added, special=special)


def _named_piece(plan: DeltaPlan, model: SentencePieceModel, role: str) -> int | None:
    """Give the control piece that the delta's tokenizer files name for a role, if they do."""
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        named = _text_of(_read_json(plan.delta / file).get(f"{role}_token"))
        for id, piece in enumerate(model.pieces):
            if piece.kind is PieceKind.CONTROL and piece.text == named:
                return id
    return None


def _text_of(token: object) -> object:
    """Give the text of a token that a file may also hold as an object of its own."""
    return token.get("content") if isinstance(token, dict) else token


def _write_tokenizer(plan: DeltaPlan, tokens: _Tokens, directory: Path) -> list[WrittenFile]:
    """Write the configurations, and the tokenizer in every form that is read anywhere."""
    begin = tokens.special["bos"][1] if "bos" in tokens.special else None
    spec = tokenizer_json(tokens.model, tokens.added, begin)
    config = _with_ids(result_config(plan), tokens)
    config.pop("tokenizer_class", None)  # tokenizer_config.json says it
    generation = _read_json(plan.delta / "generation_config.json") or {"_from_model_config": True}
    special = {f"{role}_token": text for role, (text, _) in tokens.special.items()}
    contents = {
        "config.json": config,
        "generation_config.json": _with_ids(generation, tokens),
        "tokenizer_config.json": _tokenizer_config(plan, spec["added_tokens"], special),
        "special_tokens_map.json": special,
    }
    if tokens.added:
        contents["added_tokens.json"] = dict(tokens.added)
    files = [write_json(directory / name, content) for name, content in contents.items()]
    text = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
    return [*files, write_text(directory / "tokenizer.json", text)]


def _with_ids(config: Mapping[str, Any], tokens: _Tokens) -> dict[str, Any]:
    """Give a configuration with the tokens' ids; one for padding only where there is padding."""
    ids = {f"{role}_token_id": tokens.special[role][1] for role in tokens.special if role != "unk"}
    kept = {key: value for key, value in config.items() if key != "pad_token_id"}
    return kept | ids


def _tokenizer_config(
    plan: DeltaPlan, added: list[dict[str, Any]], special: Mapping[str, str]
) -> dict[str, Any]:
    theirs = _read_json(plan.delta / "tokenizer_config.json")
    config: dict[str, Any] = {
        # This class reads tokenizer.json as it is. LlamaTokenizer would, in transformers 5,
        # keep its merges only, and leave out the space before a text that begins with one.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],  # LLaMA takes no token types
        "padding_side": "left",  # so that a batch of prompts can be continued
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"}
            for token in added
        },
        **special,
    }
    longest = theirs.get("model_max_length")
    if not isinstance(longest, int) or longest >= _ENDLESS:
        longest = plan.config.get("max_position_embeddings")
    if longest is not None:
        config["model_max_length"] = longest
    if "chat_template" in theirs:
        config["chat_template"] = theirs["chat_template"]
    return config


def _corrections(plan: DeltaPlan, tokens: _Tokens) -> list[str]:
    """Say which ids and tokens the delta's files give otherwise than the result."""
    found = []
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        theirs = plan.config if name == "config.json" else _read_json(plan.delta / name)
        for role in ("bos", "eos"):
            text, id = tokens.special.get(role, (None, None))
            for key, right in ((f"{role}_token", text), (f"{role}_token_id", id)):
                said = _text_of(theirs.get(key))
                if right is not None and said is not None and said != right:
                    found.append(f"{key} {said!r} in {name} is now {right!r}")
    return ["corrected after the tokenizer: " + ", ".join(found)] if found else []


def _read_json(path: Path) -> dict[str, Any]:
    """Read an optional file; one that is damaged says nothing."""
    try:
        return read_json_file(path)
    except SelfeeError:
        return {}


def named_files(directory: Path, patterns: Iterable[str]) -> list[Path]:
    """Give the files of a directory whose names match one of ``patterns``, by name."""
    return [
        entry
        for entry in sorted(directory.iterdir())
        if entry.is_file() and any(fnmatch.fnmatchcase(entry.name, name) for name in patterns)
    ]
