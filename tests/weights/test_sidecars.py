"""The small files of a result: right for whoever reads them."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import models
import pytest
import torch
from makers import Shape, oracle, random_tensors, write_checkpoint
from sentencepiece import SentencePieceProcessor

from selfee_cli.engine.tokenizer import load_tokenizer
from selfee_cli.errors import MismatchError, SelfeeError
from selfee_cli.weights.delta import DeltaResult, apply_delta, plan_delta
from selfee_cli.weights.dtypes import DType
from selfee_cli.weights.inspect import inspect
from selfee_cli.weights.make_delta_plan import plan_make_delta
from selfee_cli.weights.verify import verify

TOKENIZER = models.tokenizer_model()
ORACLE = SentencePieceProcessor()
ORACLE.LoadFromSerializedProto(TOKENIZER)
PIECES = ORACLE.vocab_size()
SHAPE = Shape(vocabulary=PIECES)
TEXTS = [
    "What is 47 + 85?",
    " a space before",
    "   ",
    "def f(x):\n    return {\n        'a': x,\n    }\n",
    "Ünïcödé, 数学, 🙂👩‍👩‍👧",
    "▁ [pad] <s",
]
ALL_END = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "[PAD]"}
OLD_FILES = {
    "tokenizer.model": TOKENIZER,
    "generation_config.json": {
        "_from_model_config": True, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
        "transformers_version": "4.28.1",
    },
    "tokenizer_config.json": {
        "tokenizer_class": "LLaMATokenizer", "model_max_length": 512, "padding_side": "right",
        "bos_token": {"__type": "AddedToken", "content": "", "normalized": True},
        "eos_token": "", "unk_token": "", "add_eos_token": True,
        "special_tokens_map_file": "/nowhere/special_tokens_map.json",
    },
    "special_tokens_map.json": {"bos_token": "[BOS]", "eos_token": "[EOS]"},
    "added_tokens.json": {"[PAD]": PIECES, "<s>": 1},
}  # fmt: skip
"""As early conversions left them: nothing in them is right."""
OLD_CONFIG = {
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": -1,
    "tokenizer_class": "LLaMATokenizer",
    "initializer_range": 0.02,
}


def make_pair(path: Path, files: dict, *, config: dict | None = None, rows_more: int = 1,
              base_layout: str = "meta", shape: Shape = SHAPE):  # fmt: skip
    """A base and a delta that has exactly these files beside its weights."""
    base = random_tensors(shape, seed=1)
    delta = random_tensors(shape, seed=2, delta=True, rows_more=rows_more, dtype="float32")
    write_checkpoint(path / "base", base, shape, base_layout)
    write_checkpoint(path / "delta", delta, shape, "bin", rows_more=rows_more)
    (path / "delta" / "tokenizer.model").unlink()
    old = path / "delta" / "config.json"
    old.write_text(json.dumps(json.loads(old.read_text()) | (config or {})))
    for name, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (path / "delta" / name).write_bytes(data)
    return base, delta


def apply(path: Path, **options) -> DeltaResult:
    return apply_delta(plan_delta(path / "base", path / "delta", **options), path / "out")


def read(path: Path, name: str) -> dict:
    return json.loads((path / "out" / f"{name}.json").read_text("utf-8"))


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What transformers logs."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


# Whole and right in the hands of transformers.


def test_transformers_loads_it_without_a_word(tmp_path: Path, said: list[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, delta = make_pair(tmp_path, OLD_FILES, config=OLD_CONFIG)
    apply(tmp_path, dtype=DType.F32, shard_size=30_000)
    out = tmp_path / "out"
    assert len(list(out.glob("*.safetensors"))) > 1
    tokenizer = AutoTokenizer.from_pretrained(out)
    model, report = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(report.values()), report
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.dtype is torch.float32
    for text in TEXTS:
        ids = [1, *ORACLE.Encode(text)]
        assert tokenizer.encode(text) == tokenizer(text)["input_ids"] == ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text.replace("▁", " ")
    assert len(tokenizer) == model.config.vocab_size == PIECES + 1
    for owner in (model.config, model.generation_config, tokenizer):
        ids = owner.bos_token_id, owner.eos_token_id, owner.pad_token_id
        assert ids == (1, 2, PIECES)
    assert tokenizer.unk_token_id == 0

    with torch.no_grad():
        prompt = torch.tensor([tokenizer.encode(TEXTS[0])])
        found = model(prompt).logits
        model.load_state_dict(oracle(base, delta, "float32"))
        assert torch.equal(model(prompt).logits, found)
    assert said == []


def test_a_batch_is_continued_as_each_alone(tmp_path: Path, said: list[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_pair(tmp_path, OLD_FILES, config=OLD_CONFIG)
    apply(tmp_path, dtype=DType.F32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    texts = [TEXTS[0], "Is it?"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    assert (batch["input_ids"] == PIECES).any()
    together = model.generate(**batch, max_new_tokens=5, do_sample=False)
    for row, text in zip(together, texts, strict=True):
        alone = tokenizer(text, return_tensors="pt")
        alone = model.generate(**alone, max_new_tokens=5, do_sample=False)[0]
        assert row[row != PIECES].tolist() == alone.tolist()
    assert said == []


def test_a_text_ends_at_the_end_token(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    make_pair(tmp_path, OLD_FILES, config=OLD_CONFIG)
    apply(tmp_path, dtype=DType.F32)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    prompt = torch.tensor([[1, *ORACLE.Encode(TEXTS[0])]])
    with torch.no_grad():
        last = model.model(prompt).last_hidden_state[0, -1]
        model.lm_head.weight[2] = 100 * last
    made = model.generate(prompt, max_new_tokens=5, do_sample=False)
    assert made[0, prompt.shape[1] :].tolist() == [2]


def test_our_engine_reads_the_same(tmp_path: Path) -> None:
    make_pair(tmp_path, OLD_FILES, config=OLD_CONFIG)
    apply(tmp_path)
    ours = load_tokenizer(tmp_path / "out")
    (tmp_path / "out" / "tokenizer.model").unlink()
    theirs = load_tokenizer(tmp_path / "out")
    for tokenizer in (ours, theirs):
        assert (tokenizer.bos, tokenizer.ends) == (1, {2})
        for text in TEXTS:
            assert tokenizer.encode(text) == ORACLE.Encode(text)
    typed = "</s><s>[PAD]"
    assert ours.encode(typed) == theirs.encode(typed) == ORACLE.Encode(typed)


# What the files say.


def test_old_files_are_corrected_and_it_is_told(tmp_path: Path) -> None:
    make_pair(tmp_path, OLD_FILES, config=OLD_CONFIG)
    result = apply(tmp_path)
    config = read(tmp_path, "config")
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)
    assert config["pad_token_id"] == PIECES
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["initializer_range"], config["max_position_embeddings"]) == (0.02, 2048)
    assert "tokenizer_class" not in config
    assert read(tmp_path, "generation_config") == {
        "_from_model_config": True, "transformers_version": "4.28.1",
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": PIECES,
    }  # fmt: skip
    special = {
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "[PAD]"
    }  # fmt: skip
    assert read(tmp_path, "special_tokens_map") == special
    tokenizer = read(tmp_path, "tokenizer_config")
    assert special.items() <= tokenizer.items()
    assert (tokenizer["add_bos_token"], tokenizer["add_eos_token"]) == (True, False)
    assert tokenizer["model_max_length"] == 512
    added = {id: token["content"] for id, token in tokenizer["added_tokens_decoder"].items()}
    assert added == {"0": "<unk>", "1": "<s>", "2": "</s>", str(PIECES): "[PAD]"}
    assert "nowhere" not in json.dumps(tokenizer)
    assert read(tmp_path, "added_tokens") == {"[PAD]": PIECES}
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == TOKENIZER
    (note,) = result.notes
    for words in ("eos_token_id 1 in config.json is now 2", "bos_token '' in", "generation_"):
        assert words in note
    assert OLD_FILES.keys() | {"tokenizer.json", "config.json"} <= result.manifest.files.keys()


def test_a_model_that_was_trained_to_begin_with_the_end_token(tmp_path: Path) -> None:
    """As SelFee's training code renames them on some paths; it is given what it has learned."""
    from transformers import AutoTokenizer

    files = {"tokenizer.model": TOKENIZER, "special_tokens_map.json": ALL_END}
    make_pair(tmp_path, files, config=OLD_CONFIG)
    apply(tmp_path)
    out = tmp_path / "out"
    assert (read(tmp_path, "config")["bos_token_id"], read(tmp_path, "config")["eos_token_id"]) == (
        2,
        2,
    )
    assert read(tmp_path, "special_tokens_map")["unk_token"] == "<unk>"
    ours = load_tokenizer(out)
    ids = [2, *ORACLE.Encode(TEXTS[0])]
    assert AutoTokenizer.from_pretrained(out).encode(TEXTS[0]) == ids
    assert ours.encode_prompt(TEXTS[0]) == ids
    (out / "tokenizer.model").unlink()
    assert load_tokenizer(out).encode_prompt(TEXTS[0]) == ids


def test_only_a_configuration_and_metas_tokenizer(tmp_path: Path) -> None:
    make_pair(tmp_path, {}, config={"max_position_embeddings": 1024})
    (tmp_path / "base" / "tokenizer.model").unlink()
    (tmp_path / "tokenizer.model").write_bytes(TOKENIZER)  # where Meta puts it
    (note,) = apply(tmp_path).notes
    assert "took tokenizer.model from" in note
    assert read(tmp_path, "config")["pad_token_id"] == PIECES
    assert read(tmp_path, "generation_config")["eos_token_id"] == 2
    assert read(tmp_path, "tokenizer_config")["model_max_length"] == 1024
    assert read(tmp_path, "added_tokens") == {"[PAD]": PIECES}
    assert len(read(tmp_path, "tokenizer")["model"]["vocab"]) == PIECES


def test_files_of_the_base_are_not_taken(tmp_path: Path) -> None:
    make_pair(tmp_path, {}, base_layout="bin")
    for name, content in OLD_FILES.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / "base" / name).write_bytes(data)
    apply(tmp_path)
    assert read(tmp_path, "special_tokens_map")["bos_token"] == "<s>"
    assert read(tmp_path, "generation_config")["eos_token_id"] == 2
    assert read(tmp_path, "tokenizer_config")["model_max_length"] == 2048


def test_without_a_row_more_nothing_pads(tmp_path: Path) -> None:
    files = {name: OLD_FILES[name] for name in ("tokenizer.model", "generation_config.json")}
    make_pair(tmp_path, files, config=OLD_CONFIG, rows_more=0)
    apply(tmp_path)
    assert not (tmp_path / "out" / "added_tokens.json").exists()
    for name in ("config", "generation_config"):
        assert "pad_token_id" not in read(tmp_path, name)
    for name in ("special_tokens_map", "tokenizer_config"):
        assert "pad_token" not in read(tmp_path, name)
    assert len(read(tmp_path, "tokenizer")["added_tokens"]) == 3


def test_rows_named_by_the_delta(tmp_path: Path) -> None:
    named = {"<pad>": PIECES, "</s>": 2, "<beyond>": PIECES + 1, "<text>": "1"}
    make_pair(tmp_path, {"tokenizer.model": TOKENIZER, "added_tokens.json": named})
    assert apply(tmp_path).notes == ()
    assert read(tmp_path, "added_tokens") == {"<pad>": PIECES}
    assert read(tmp_path, "special_tokens_map")["pad_token"] == "<pad>"
    assert read(tmp_path, "config")["pad_token_id"] == PIECES


def test_more_rows_than_names(tmp_path: Path) -> None:
    """A base whose rows were filled up: which of them pads is known only if it is told."""
    shape = Shape(vocabulary=PIECES + 7)
    make_pair(tmp_path / "a", {"tokenizer.model": TOKENIZER}, shape=shape)
    apply(tmp_path / "a")
    assert "pad_token_id" not in read(tmp_path / "a", "config")
    added = {"[PAD]": PIECES, "<x>": PIECES + 1}
    make_pair(
        tmp_path / "b", {"tokenizer.model": TOKENIZER, "added_tokens.json": added}, shape=shape
    )
    apply(tmp_path / "b")
    assert read(tmp_path / "b", "config")["pad_token_id"] == PIECES
    assert read(tmp_path / "b", "added_tokens") == added


@pytest.mark.parametrize("length", [None, 1000000000000000019884624838656, "long"])
def test_a_longest_text_that_is_not_known_is_the_models(tmp_path: Path, length) -> None:
    files = {"tokenizer.model": TOKENIZER, "tokenizer_config.json": {"model_max_length": length}}
    make_pair(tmp_path, files)
    apply(tmp_path)
    assert read(tmp_path, "tokenizer_config")["model_max_length"] == 2048


def test_a_template_and_licences_stay(tmp_path: Path) -> None:
    files = {
        "tokenizer.model": TOKENIZER,
        "tokenizer_config.json": {"chat_template": "{{ messages }}"},
        "LICENSE.md": b"terms",
        "NOTICE": b"thanks",
    }
    make_pair(tmp_path, files)
    result = apply(tmp_path)
    assert read(tmp_path, "tokenizer_config")["chat_template"] == "{{ messages }}"
    for name in ("LICENSE.md", "NOTICE"):
        assert (tmp_path / "out" / name).read_bytes() == files[name]
        assert name in result.manifest.files


# Where tokenizer.json comes from.


def test_the_one_made_wins_over_the_deltas(tmp_path: Path) -> None:
    make_pair(tmp_path, {"tokenizer.model": TOKENIZER, "tokenizer.json": {"version": "theirs"}})
    apply(tmp_path)
    assert read(tmp_path, "tokenizer")["version"] == "1.0"


def test_a_delta_with_tokenizer_json_only(tmp_path: Path) -> None:
    files = {
        "tokenizer.json": {"version": "theirs"},
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
    }
    make_pair(tmp_path, files, config={"eos_token_id": 7})
    assert apply(tmp_path).notes == ()
    for name, content in files.items():
        assert json.loads((tmp_path / "out" / name).read_text()) == content
    assert read(tmp_path, "config")["eos_token_id"] == 7
    assert not (tmp_path / "out" / "tokenizer.model").exists()


@pytest.mark.parametrize(
    "model,reason",
    [
        (b"a stand-in", "not a SentencePiece model"),
        (TOKENIZER[:-2000], "not a SentencePiece model"),
        (models.tokenizer_model(PIECES + 9), "rows"),
    ],
    ids=["stand-in", "cut", "other"],
)
def test_a_tokenizer_that_cannot_be_converted_is_copied(
    tmp_path: Path, model: bytes, reason: str
) -> None:
    shape = Shape(vocabulary=PIECES)
    files = {**OLD_FILES, "tokenizer.model": model, "tokenizer.json": {"version": "theirs"}}
    make_pair(tmp_path, files, shape=shape)
    (note,) = apply(tmp_path).notes
    assert reason in note
    for name, content in files.items():
        found = (tmp_path / "out" / name).read_bytes()
        assert (found if isinstance(content, bytes) else json.loads(found)) == content


def test_damaged_files_of_the_delta_do_not_matter(tmp_path: Path) -> None:
    broken = {name: b"{" for name in OLD_FILES if name != "tokenizer.model"}
    make_pair(tmp_path / "a", {"tokenizer.model": TOKENIZER, **broken})
    make_pair(tmp_path / "b", {"tokenizer.model": TOKENIZER})
    for name in "ab":
        apply(tmp_path / name)
        for extra in ("SHA256SUMS", "selfee-manifest.json"):
            (tmp_path / name / "out" / extra).unlink()
    left, right = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "out").iterdir()}
        for name in "ab"
    )
    assert left == right
    assert left.keys() > broken.keys()


@pytest.mark.parametrize(
    "content",
    [b'{"chat_template": ' + b"[" * 100_000, b'{"chat_template": "\\ud800"}'],
    ids=["endless", "half a pair"],
)
def test_hostile_files_of_the_delta_do_not_matter(tmp_path: Path, content: bytes) -> None:
    make_pair(tmp_path, {"tokenizer.model": TOKENIZER, "tokenizer_config.json": content})
    apply(tmp_path)
    assert "chat_template" not in read(tmp_path, "tokenizer_config")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 499723\n"


@pytest.mark.parametrize("place", ["base", "delta"])
@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
def test_a_pointer_is_refused_before_any_work(tmp_path: Path, place: str, name: str) -> None:
    make_pair(tmp_path, {})
    (tmp_path / place / name).write_bytes(POINTER)
    if (place, name) == ("base", "tokenizer.json"):  # never taken from there
        apply(tmp_path)
        return
    with pytest.raises(MismatchError, match="is a git-LFS pointer") as caught:
        plan_delta(tmp_path / "base", tmp_path / "delta")
    assert caught.value.message.startswith(str(tmp_path / place / name))


def test_a_pointer_does_not_get_into_a_delta(tmp_path: Path) -> None:
    make_pair(tmp_path, {"tokenizer.model": TOKENIZER})
    apply(tmp_path)
    (tmp_path / "out" / "tokenizer.model").write_bytes(POINTER)
    with pytest.raises(MismatchError, match=r"tokenizer\.model is a git-LFS pointer"):
        plan_make_delta(tmp_path / "base", tmp_path / "out")


def test_a_pointer_makes_no_chat_ready(tmp_path: Path) -> None:
    make_pair(tmp_path, {"tokenizer.model": TOKENIZER})
    apply(tmp_path)
    out = tmp_path / "out"
    (out / "tokenizer.model").write_bytes(POINTER)
    assert inspect(out).chat_ready  # tokenizer.json serves as well
    (out / "tokenizer.json").unlink()
    assert "tokenizer.model is a git-LFS pointer" in inspect(out).why_not


@pytest.mark.parametrize("name", [b"LICENSE\xff", b"LICENSE\n", b"LICENSE\x1b[2J", b"LICENSE\\"])
def test_a_name_that_no_list_can_hold_is_refused_before_any_work(
    tmp_path: Path, name: bytes
) -> None:
    make_pair(tmp_path, {"tokenizer.model": TOKENIZER, os.fsdecode(name): b"terms"})
    with pytest.raises(SelfeeError, match="cannot stand in SHA256SUMS") as caught:
        plan_delta(tmp_path / "base", tmp_path / "delta")
    assert caught.value.message.isprintable()


def test_a_directory_may_have_any_name(tmp_path: Path) -> None:
    make_pair(tmp_path, {"tokenizer.model": TOKENIZER})
    base = (tmp_path / "base").rename(tmp_path / os.fsdecode(b"caf\xe9"))
    result = apply_delta(plan_delta(base, tmp_path / "delta"), tmp_path / "out")
    assert result.manifest.made_from["base"]["name"] == r"caf\udce9"
    assert list(verify(tmp_path / "out")) == []


def test_the_bundled_pair_needs_no_correction(tmp_path: Path) -> None:
    from selfee_cli.tiny import BASE, DELTA

    shutil.copytree(BASE, tmp_path / "base")
    shutil.copytree(DELTA, tmp_path / "delta")
    assert apply(tmp_path).notes == ()
    shape = json.loads((DELTA / "config.json").read_text("utf-8"))
    assert read(tmp_path, "config")["pad_token_id"] == shape["vocab_size"] - 1
