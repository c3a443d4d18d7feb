from __future__ import annotations

import json
from pathlib import Path

import models
import pytest

from selfee_cli.engine.tokenizer import Tokenizer, load_tokenizer
from selfee_cli.errors import NotFoundError, SelfeeError
from selfee_cli.protocol.text import TokenText

TEXTS = [
    "def f():\n        return 1  # õõ und õ",
    "What is 47 + 85?",
    "  two spaces,\n\n\ttab and    four    more",
    "def f(x):\n    return {\n        'a': x,\n    }\n",
    "Ünïcödé, 数学, 🙂👩‍👩‍👧, e\u0301",
    "</s> <s> <unk> [PAD] ### Feedback 1:\n",
    "",
    "\n",
]
CONTINUATIONS = [
    " Revision is needed.\n\n### Revision 1:\n",
    "Revision is needed.\n\n### Revision 12:\n",
    "\n\n### Feedback 3:\n",
    "\n### Feedback 3:\n",
    "### Feedback 3:\n",
    "数 Revision is needed.",
    "\ufffd Revision",
]


@pytest.fixture(scope="module")
def sentencepiece_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sp")
    (path / "tokenizer.model").write_bytes(models.tokenizer_model())
    return path


@pytest.fixture(scope="module")
def byte_level_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json in the manner of GPT-2 and Llama 3."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, pre_tokenizers, processors, trainers
    from tokenizers.models import BPE

    library = Library(BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|begin|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    library.train_from_iterator(
        ["\n\n### Feedback 1:\nIs it? Revision is needed.\n\n"] * 9, trainer
    )
    library.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
    )
    library.add_tokens(["    ", "õõ"])  # spelt as they are, not in the letters of the byte table
    path = tmp_path_factory.mktemp("fast")
    library.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    return path


@pytest.fixture(scope="module")
def metaspace_dir(sentencepiece_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SentencePiece model as the tokenizer.json that LLaMA checkpoints carry."""
    from sentencepiece import SentencePieceProcessor
    from tokenizers import AddedToken, decoders, normalizers, processors
    from tokenizers import Tokenizer as Library
    from tokenizers.models import BPE

    source = SentencePieceProcessor(str(sentencepiece_dir / "tokenizer.model"))
    pieces = [source.IdToPiece(id) for id in range(source.vocab_size())]
    vocab = {piece: id for id, piece in enumerate(pieces)}
    merges = [
        (vocab[piece], vocab[piece[:at]], vocab[piece[at:]], piece[:at], piece[at:])
        for piece in pieces
        for at in range(1, len(piece))
        if piece[:at] in vocab and piece[at:] in vocab and not piece.startswith("<")
    ]
    pairs = [(left, right) for *_, left, right in sorted(merges)]  # a lower id merges first
    model = BPE(vocab, pairs, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    library = Library(model)
    library.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    library.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = [AddedToken(piece, special=True) for piece in ("<unk>", "<s>", "</s>")]
    library.add_special_tokens(special)
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    path = tmp_path_factory.mktemp("metaspace")
    library.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps({"eos_token_id": 2}))
    return path


def test_both_forms_of_a_tokenizer_agree(sentencepiece_dir: Path, metaspace_dir: Path) -> None:
    ours, theirs = load_tokenizer(sentencepiece_dir), load_tokenizer(metaspace_dir)
    assert (ours.bos, ours.ends) == (theirs.bos, theirs.ends)
    for text in (*TEXTS[:5], *CONTINUATIONS):
        assert ours.encode_prompt(text) == theirs.encode_prompt(text)
        assert ours.encode_continuation(text) == theirs.encode_continuation(text)


@pytest.fixture(params=["sentencepiece_dir", "byte_level_dir", "metaspace_dir"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(request.getfixturevalue(request.param))


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert not set(ids) & tokenizer.ends, "typed special tokens are text"
    assert tokenizer.decode(ids) in (text, " " + text), "SentencePiece puts a space before"
    assert tokenizer.encode_prompt(text) == [tokenizer.bos, *ids]


@pytest.mark.parametrize("text", CONTINUATIONS)
def test_continuations_are_exact(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode_continuation(text)
    assert tokenizer.decode(ids) == text
    stream = TokenText(tokenizer)
    assert "".join(map(stream.push, ids)) == text
    for kept in range(len(ids)):
        stream.cut(kept)
        for id in ids[kept:]:
            stream.push(id)
        assert str(stream) == text


def test_beginning_and_end_come_from_the_files(sentencepiece_dir: Path, tmp_path: Path) -> None:
    def load(**files: dict) -> Tokenizer:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "tokenizer.model").write_bytes(models.tokenizer_model())
        for name, data in files.items():
            (folder / f"{name}.json").write_text(json.dumps(data))
        return load_tokenizer(folder)

    plain = load()
    assert (plain.bos, plain.ends) == (1, {2})
    # The original training renamed every special token to </s>.
    renamed = load(tokenizer_config={"bos_token": "</s>", "eos_token": {"content": "</s>"}})
    assert (renamed.bos, renamed.ends) == (2, {2})
    # An empty or unknown name, as bases in the wild have it, says nothing.
    empty = load(special_tokens_map={"bos_token": "", "eos_token": "<|nope|>"})
    assert (empty.bos, empty.ends) == (1, {2})
    assert load(tokenizer_config={"add_bos_token": False}).bos is None
    assert load(generation_config={"eos_token_id": [2, 7]}).ends == {2, 7}


def test_llamas_own_tokenizer(published: list[dict], llama_tokenizer_dir: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    tokenizer = load_tokenizer(llama_tokenizer_dir)
    oracle = SentencePieceProcessor(str(llama_tokenizer_dir / "tokenizer.model"))
    assert (tokenizer.bos, tokenizer.ends) == (1, {2})
    supplied = tokenizer.encode_continuation(" Revision is needed.")
    assert supplied == [830, 4924, 338, 4312, 29889]
    for record in published:
        text = record["whole_generation"]
        ids = tokenizer.encode(text)
        assert ids == oracle.Encode(text)
        assert tokenizer.decode(ids) == " " + text


def test_what_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"tokenizer\.model"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"version https://git-lfs")
    with pytest.raises(SelfeeError, match="not a SentencePiece model"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(SelfeeError, match="is damaged"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(models.tokenizer_model())
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SelfeeError, match="not valid JSON"):
        load_tokenizer(tmp_path)
