from scripted import PieceVocabulary

from selfee_cli.protocol.text import TokenText, decode, well_formed


def test_lone_surrogates_become_replacement_characters() -> None:
    assert well_formed("a\udcffb") == "a\ufffdb"
    assert well_formed("\ud83d\ude42 ok 数") == "🙂 ok 数"
    assert well_formed("\ud83d") == "\ufffd"


def test_characters_over_several_tokens_and_back() -> None:
    vocabulary = PieceVocabulary()
    emoji = "🙂".encode()
    ids = [vocabulary.id(piece) for piece in ("Hi ", emoji[:1], emoji[1:3], emoji[3:], "!")]
    stream = TokenText(vocabulary)
    assert [stream.push(id) for id in ids] == ["Hi ", "", "", "🙂", "!"]
    assert str(stream) == decode(vocabulary, ids) == "Hi 🙂!"
    for kept in range(len(ids) + 1):
        stream.cut(kept)
        assert "".join([str(stream), *map(stream.push, ids[kept:])]) == "Hi 🙂!"
    stream.cut(3)
    assert stream.close() == "\ufffd"
    assert len(stream) == 3


def test_before_never_splits_a_character() -> None:
    vocabulary = PieceVocabulary()
    emoji = "🙂".encode()
    stream = TokenText(vocabulary)
    for piece in ("Hi", emoji[:2], emoji[2:] + b" Rev", "ision"):
        stream.push(vocabulary.id(piece))
    assert stream.before(len("Revision")) == (1, "🙂 ")
    assert stream.before(len("ision")) == (3, "")
    assert stream.before(0) == (4, "")
