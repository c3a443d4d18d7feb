"""The tokenizers library, given the converted file, against SentencePiece itself."""

from __future__ import annotations

import io
import json
import struct
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer

from selfee_cli.errors import SelfeeError
from selfee_cli.tiny import BASE
from selfee_cli.weights.tokenizer_json import PieceKind, read_sentencepiece, tokenizer_json

ROOT = Path(__file__).parents[2]
CORPUS = [
    "Below is an instruction that describes a task. Write a response to it.",
    "def f(x):      return {            'a': x,    }",
    "banana bandana aaaa abab baba ababab bababa      ....  ----  ====",
    "The answer is 47 + 85 = 132. Über naïve Straßen, 数学 и ещё.",
]


def train(**options) -> bytes:
    out = io.BytesIO()
    settings = {
        "model_type": "bpe",
        "vocab_size": 400,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "split_by_whitespace": False,
        "hard_vocab_limit": False,
        "minloglevel": 2,
    }
    SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 4), model_writer=out, **settings | options
    )
    return out.getvalue()


def rescored(data: bytes, texts: list[str], score: float) -> bytes:
    """The model with another score for some pieces."""
    for text in texts:
        raw = text.encode()
        head = b"\x0a" + bytes([len(raw)]) + raw + b"\x15"
        assert data.count(head) == 1, text
        at = data.index(head) + len(head)
        data = data[:at] + struct.pack("<f", score) + data[at + 4 :]
    return data


def spaces_last() -> bytes:
    """As in LLaMA: every piece of spaces has the same score, far below all others."""
    data = train()
    pieces = [piece.text for piece in read_sentencepiece(data).pieces]
    runs = [text for text in pieces if set(text) == {"▁"}]
    assert len(runs) > 3
    return rescored(data, runs, -1e9)


MODELS = {
    "plain": train,
    "spaces last": spaces_last,
    "no prefix": lambda: train(add_dummy_prefix=False),
    "trimmed": lambda: train(remove_extra_whitespaces=True),
    "trimmed, no prefix": lambda: train(remove_extra_whitespaces=True, add_dummy_prefix=False),
    "no bytes": lambda: train(byte_fallback=False, vocab_size=150),
    "other names": lambda: train(
        bos_id=2, eos_id=1, pad_id=3, bos_piece="<go>", eos_piece="<stop>", unk_piece="<what>"
    ),
    "the bundled one": lambda: (BASE / "tokenizer.model").read_bytes(),
    "LLaMA": None,
}


class Pair:
    """A model in both forms."""

    def __init__(self, data: bytes) -> None:
        self.oracle = SentencePieceProcessor()
        self.oracle.LoadFromSerializedProto(data)
        self.model = read_sentencepiece(data)
        self.added = {"[PAD]": len(self.model.pieces)}
        self.spec = tokenizer_json(self.model, self.added, self.model.id_of("bos"))
        self.rust = Tokenizer.from_str(json.dumps(self.spec))
        # so that typed special tokens are text, as they are to SentencePiece
        self.rust.encode_special_tokens = True

    def encode(self, text: str) -> list[int]:
        return self.rust.encode(text, add_special_tokens=False).ids

    def check(self, text: str) -> None:
        ids = self.oracle.Encode(text)
        assert self.encode(text) == ids, repr(text)
        if not self.model.trims_spaces and self.oracle.unk_id() not in ids:
            assert self.rust.decode(ids) == self.oracle.Decode(ids), repr(text)


@pytest.fixture(scope="module", params=list(MODELS))
def pair(request: pytest.FixtureRequest) -> Pair:
    make = MODELS[request.param]
    if make is None:
        folder = request.getfixturevalue("llama_tokenizer_dir")
        return Pair((folder / "tokenizer.model").read_bytes())
    return Pair(make())


def test_the_model_is_read_as_sentencepiece_reads_it(pair: Pair) -> None:
    oracle, model = pair.oracle, pair.model
    assert len(model.pieces) == oracle.vocab_size()
    kinds = {
        PieceKind.UNKNOWN: oracle.IsUnknown,
        PieceKind.CONTROL: oracle.IsControl,
        PieceKind.BYTE: oracle.IsByte,
    }
    for id, piece in enumerate(model.pieces):
        assert (piece.text, piece.score) == (oracle.IdToPiece(id), oracle.GetScore(id))
        assert [kind for kind, holds in kinds.items() if holds(id)] == (
            [] if piece.kind is PieceKind.NORMAL else [piece.kind]
        )
    ids = {"unk": oracle.unk_id(), "bos": oracle.bos_id(), "eos": oracle.eos_id()}
    for role, id in (ids | {"pad": oracle.pad_id()}).items():
        assert model.id_of(role) == (None if id < 0 else id)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "   ",
        " a",
        "a ",
        "  two spaces,\n\n\ttab and    four    more  ",
        "▁ typed ▁▁marker▁",
        " ▁",
        "Ünïcödé, 数学, 🙂👩‍👩‍👧, e\u0301, \u00a0, \u3000, \ufeff, \0, \ufffd",
        "</s> <s> <unk> [PAD] <0x0A> ### Feedback 1:\n",
    ],
)
def test_texts_that_are_easily_got_wrong(pair: Pair, text: str) -> None:
    pair.check(text)


def test_runs_of_every_length(pair: Pair) -> None:
    for character in " a#-":
        for length, before, after in product(range(1, 70), ("", "b", "\n"), ("", "b", "def")):
            pair.check(before + character * length + after)


@pytest.mark.parametrize("pair", ["the bundled one", "LLaMA"], indirect=True)
def test_every_published_text(pair: Pair, published: list[dict], published_texts: set[str]) -> None:
    assert len(published_texts) > len(published)
    for text in published_texts:
        pair.check(text)


_FEW = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
_ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_SPACED = st.text(st.sampled_from(" \n\t▁ab=.é数🙂"), max_size=60)
_REPEATED = st.text(st.sampled_from("ab"), max_size=60)


@_FEW
@given(text=st.one_of(_ANY, _SPACED, _REPEATED))
def test_random_texts(pair: Pair, text: str) -> None:
    pair.check(text)


@_FEW
@given(data=st.data())
def test_random_rows_of_pieces(pair: Pair, data: st.DataObject) -> None:
    pieces = [piece.text for piece in pair.model.pieces]
    pair.check("".join(data.draw(st.lists(st.sampled_from(pieces), max_size=20))))


def test_pieces_that_overlap_themselves(pair: Pair) -> None:
    """The left join and the right one give the same piece: the left one must win."""
    pieces = {piece.text for piece in pair.model.pieces if piece.kind is PieceKind.NORMAL}
    for text in pieces:
        for at in range(1, len(text)):
            left, middle, right = text[:at], text[at:], text[-at:]
            if left + middle == middle + right and {left, middle, right} <= pieces:
                for before, after in product(("", "a", " "), ("", "b", " ")):
                    pair.check(before + left + middle + right + after)


def test_special_tokens(pair: Pair) -> None:
    library = Tokenizer.from_str(json.dumps(pair.spec))  # as others use it
    begin, end = pair.model.id_of("bos"), pair.model.id_of("eos")
    text = "is an answer"
    ids = pair.oracle.Encode(text)
    assert library.encode(text).ids == [begin, *ids]
    assert library.encode(text, text).ids == [begin, *ids, begin, *ids]
    assert library.encode("").ids == [begin]
    stop = pair.model.pieces[end].text
    assert library.encode(f"{text}{stop}[PAD]").ids == [begin, *ids, end, pair.added["[PAD]"]]
    assert library.decode([begin, *ids, end, pair.added["[PAD]"]]) == text
    assert library.get_vocab_size() == len(pair.model.pieces) + 1
    assert library.token_to_id("[PAD]") == len(pair.model.pieces)


def test_a_model_without_a_beginning() -> None:
    pair = Pair(train(bos_id=-1))
    assert pair.spec["post_processor"] is None
    assert pair.rust.encode("Is it?").ids == pair.oracle.Encode("Is it?")


def test_merges_of_llama_are_in_the_order_of_scores(llama_tokenizer_dir: Path) -> None:
    model = read_sentencepiece((llama_tokenizer_dir / "tokenizer.model").read_bytes())
    merges = tokenizer_json(model, {}, None)["model"]["merges"]
    assert len(merges) == len(set(merges)) == 61_249
    assert merges[0] == "▁ t"
    assert merges[-1] == "▁ ▁", "spaces are joined last, though their piece is the first of all"


@pytest.mark.parametrize(
    "data,word",
    [
        (b"", "not a SentencePiece model"),
        (b"a stand-in: base", "not a SentencePiece model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a SentencePiece model"),
        (b"\xff" * 99, "not a SentencePiece model"),
        (lambda: train(model_type="unigram", vocab_size=340), "byte pair"),
        (lambda: train(user_defined_symbols=["<mine>"]), "defined by a user"),
        (lambda: train(normalization_rule_name="nfkc"), "normalises characters"),
        (lambda: train(treat_whitespace_as_suffix=True), "behind words"),
        (lambda: rescored(train(), ["na", "ns"], -3.5), "one score"),
    ],
)
def test_what_has_no_equal_is_refused(data, word: str) -> None:
    data = data() if callable(data) else data
    with pytest.raises(SelfeeError, match=word):
        read_sentencepiece(data)


def test_a_file_cut_short_is_refused_or_whole_in_all_that_matters() -> None:
    data = train()
    whole = read_sentencepiece(data)
    refused = 0
    for size in {*range(0, len(data), 97), *range(len(data) - 120, len(data))}:
        try:
            assert read_sentencepiece(data[:size]) == whole
        except SelfeeError:
            refused += 1
    assert refused > 60
