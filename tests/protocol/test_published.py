"""The published chains: what the model really writes."""

import re
from pathlib import Path

from scripted import PieceVocabulary, ScriptedSource

from selfee_cli.engine.tokenizer import load_tokenizer
from selfee_cli.protocol.chain import ChainEnded, ChainParser, TextDelta, TurnEnded, parse_chain
from selfee_cli.protocol.driver import ChainDriver
from selfee_cli.protocol.grammar import TurnKind
from selfee_cli.protocol.policy import RevisionPolicy
from selfee_cli.protocol.prompt import render_prompt, split_prompt
from selfee_cli.protocol.text import decode


def split_turns(raw: str) -> list[tuple[str, int, str]]:
    """An independent reading of a chain: split at every header of the right form."""
    parts = re.split(r"\n\n### (Feedback|Revision) (\d+):\n", raw)
    turns = [("answer", 0, parts[0])]
    for kind, index, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        turns.append((kind.lower(), int(index), text))
    return turns


def test_prompts_are_rendered_and_split_exactly(published: list[dict]) -> None:
    for record in published:
        parts = split_prompt(record["whole_generation"])
        assert parts is not None
        instruction, input, raw = parts
        assert render_prompt(instruction, input=input) + raw == record["whole_generation"]


def test_turns_come_back_exactly_token_by_token(
    published: list[dict], llama_tokenizer_dir: Path
) -> None:
    tokenizer = load_tokenizer(llama_tokenizer_dir)
    for record in published:
        _, _, raw = split_prompt(record["whole_generation"])
        ids = tokenizer.encode_continuation(raw)
        assert tokenizer.decode(ids) == raw
        parser = ChainParser()
        for id in ids:
            parser.feed(decode(tokenizer, [id]) if raw.isascii() else "")
        if not raw.isascii():  # characters span tokens: the driver's business, tested below
            parser.feed(raw)
        turns = parser.finish(complete=True)
        assert [(t.id.kind.value, t.id.index, t.text) for t in turns] == split_turns(raw)


def test_the_driver_gives_back_every_chain(
    published: list[dict], llama_tokenizer_dir: Path
) -> None:
    tokenizer = load_tokenizer(llama_tokenizer_dir)
    for record in published:
        _, _, raw = split_prompt(record["whole_generation"])
        vocabulary = PieceVocabulary()
        pieces = [tokenizer.token_bytes(id) for id in tokenizer.encode_continuation(raw)]
        source = ScriptedSource(vocabulary, [pieces], batch=3)
        driver = ChainDriver(source, vocabulary, RevisionPolicy())
        shown: dict[object, str] = {}
        ended = {}
        chain = None
        for event in driver.run(source.sample):
            if isinstance(event, TextDelta):
                shown[event.id] = shown.get(event.id, "") + event.text
            elif isinstance(event, TurnEnded):
                ended[event.turn.id] = event.turn.text
            elif isinstance(event, ChainEnded):
                chain = event.chain
        assert chain is not None
        assert chain.raw == raw
        assert list(ended.items()) == [
            (turn.id, turn.text) for turn in parse_chain(raw, complete=True)
        ]
        assert {id: text for id, text in ended.items() if text} == shown


def test_nearly_every_feedback_has_verdict_and_score(published: list[dict]) -> None:
    feedbacks = [
        turn
        for record in published
        for turn in parse_chain(split_prompt(record["whole_generation"])[2])
        if turn.id.kind is TurnKind.FEEDBACK and turn.complete
    ]
    without_verdict = [turn for turn in feedbacks if turn.verdict is None]
    without_score = [turn for turn in feedbacks if turn.score is None]
    assert len(without_verdict) <= 0.02 * len(feedbacks)
    assert len(without_score) <= 0.03 * len(feedbacks)
