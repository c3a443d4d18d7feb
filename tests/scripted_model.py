"""A model that writes chains by a rule, as fast or as slow as a test wants."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from zlib import crc32

import torch
from scripted import END, PieceVocabulary, split_words

from selfee_cli.engine.base import Engine
from selfee_cli.engine.loading import LoadedModel
from selfee_cli.engine.session import Session
from selfee_cli.protocol.chain import ChainParser
from selfee_cli.protocol.grammar import TurnKind

ANSWER_MARK = "### Answer:\n"
VOCABULARY = 4096


def whole_turn(question: str, id: object) -> str:
    """What the model writes as a turn: the answer, the verdicts and all follow from the words."""
    dice = crc32(f"{question}{id.title}".encode())
    if id.kind is TurnKind.FEEDBACK:
        verdict = "Revision is needed." if dice % 3 else "Revision is not needed."
        return f"Point {id.index} of {dice % 97} is 数 vague 🙂. {dice % 10}/10. {verdict}"
    return f"{id.title} says {dice % 89}, then {dice % 83} more words. It ends."


def next_piece(context: str) -> str:
    """What follows ``context``: the next word of the turn that is open, a header, or the end."""
    question, _, raw = context.rpartition(ANSWER_MARK)
    question = question.rpartition("### Instruction:\n")[2]
    parser = ChainParser()
    parser.feed(raw)
    *_, open_turn = parser.finish(complete=False)
    wanted = whole_turn(question, open_turn.id)
    if open_turn.id.kind is TurnKind.FEEDBACK and "not needed" in wanted:
        rest = [*split_words(wanted), END]
    else:
        rest = [*split_words(wanted + open_turn.id.next.header)]
    at = 0
    for piece in rest:
        if open_turn.text[at : at + len(piece)] != piece:
            return piece
        at += len(piece)
    return END


class PieceTokenizer(PieceVocabulary):
    def encode_prompt(self, text: str) -> list[int]:
        return self.encode_continuation(text)

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode()


class ScriptedEngine(Engine):
    """Takes ``seconds`` a token, and looks every hundredth of one whether it should stop."""

    name = "scripted"
    device = "cpu"
    dtype = "float32"
    parameters = weight_bytes = 1
    vocab_size = VOCABULARY

    def __init__(self, tokenizer: PieceTokenizer, *, context: int, seconds: float) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self.context_length = context
        self.seconds = seconds
        self.on_pass: Callable[[], None] = lambda: None
        self.on_ids: Callable[[list[int]], None] = lambda ids: None
        """Told of all ids that the model is shown, at every pass."""

    def _forward(self, ids: Sequence[int], last: int) -> torch.Tensor:
        until = time.monotonic() + self.seconds * len(ids)
        while self.seconds and time.monotonic() < until:
            self._check()
            time.sleep(min(0.01, self.seconds))
        self.on_pass()
        self.on_ids([*self.ids, *ids])
        logits = torch.zeros(last, VOCABULARY)
        whole = [*self.ids, *ids]
        for row in range(last):
            context = self._tokenizer.decode(whole[: len(whole) - last + 1 + row])
            logits[row, self._tokenizer.id(next_piece(context))] = 1000.0
        return logits

    def _truncate(self, length: int) -> None:
        pass


def scripted_session(*, context: int = 2000, seconds: float = 0.0) -> Session:
    tokenizer = PieceTokenizer()
    engine = ScriptedEngine(tokenizer, context=context, seconds=seconds)
    model = LoadedModel(
        engine=engine,
        tokenizer=tokenizer,
        path=Path("scripted"),
        fingerprint="sha256:0",
        load_seconds=0.0,
    )
    return Session(model)
