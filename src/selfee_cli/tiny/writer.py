"""One chain while a batch of them is written: what is sampled, supplied and guessed."""

from __future__ import annotations

from dataclasses import dataclass, field

from selfee_cli.engine.lookup import common_prefix
from selfee_cli.protocol.grammar import ANSWER, TurnId, TurnKind
from selfee_cli.tiny.chains import NEEDED, NOT_NEEDED
from selfee_cli.tiny.vocabulary import EOS, UNK, Vocabulary

_LONG, _SHORT = 6, 2  # ids that a guess goes by
_Context = tuple[int, ...]


@dataclass(kw_only=True)
class Written:
    """A chain as the model wrote it.

    ``answers`` holds the answer and the revisions, ``feedbacks`` the critiques without their
    verdicts, ``needed`` the model's own verdicts (before one was overruled; None where there
    is none). Of every turn, in order, ``formed`` says whether it ended as it should, and
    ``ends`` where its text ends in ``ids``, before the header or verdict that follows.
    """

    ids: list[int]
    prompt_tokens: int = 0
    answers: list[str] = field(default_factory=list)
    feedbacks: list[str] = field(default_factory=list)
    needed: list[bool | None] = field(default_factory=list)
    formed: list[bool] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    ended: bool = False

    @property
    def tokens(self) -> int:
        """The length of prompt and chain in tokens."""
        return len(self.ids)

    @property
    def well_formed(self) -> bool:
        """Whether every turn ended as it should."""
        return all(self.formed)

    def cost(self, revisions: int) -> int:
        """How many tokens were written up to the end of so many revisions."""
        return self.ends[2 * revisions] - self.prompt_tokens


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How chains are decoded: ``enforced`` revisions at least, ``at_most`` in all.

    ``batch`` is how many prompts a thread has at work.
    """

    enforced: int = 0
    at_most: int = 4
    temperature: float = 0.7
    seed: int = 0
    batch: int = 64
    turn_tokens: int = 140

    @property
    def only_answers(self) -> bool:
        """Whether chains end with their first answer."""
        return max(self.enforced, self.at_most) < 1


class Supplies:
    """The ids of what is supplied: verdicts, and headers by their number."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.verdicts = {True: vocabulary.tail(NEEDED), False: vocabulary.tail(NOT_NEEDED)}
        self._headers: dict[TurnId, list[int]] = {}

    def text(self, ids: list[int]) -> str:
        """Return a turn's text; a padding row that was sampled is no piece, so unknown."""
        pieces = len(self.vocabulary)
        return self.vocabulary.decode([id if id < pieces else UNK for id in ids]).strip()

    def header(self, turn: TurnId) -> list[int]:
        """Return the ids of the header that opens a turn."""
        if turn not in self._headers:
            self._headers[turn] = self.vocabulary.tail(turn.header)
        return self._headers[turn]


class Guesses:
    """What followed the same ids before: after this prompt if they stood there, else after any.

    A wrong guess costs time and changes nothing, so threads may share ``anywhere``.
    """

    def __init__(self, anywhere: dict[_Context, int]) -> None:
        self._anywhere = anywhere
        self._here: dict[_Context, int] = {}

    def learn(self, ids: list[int], start: int) -> None:
        """Take note of the ids from ``start`` on."""
        for at in range(max(start, _LONG), len(ids)):
            context = tuple(ids[at - _LONG : at])
            self._here[context] = self._anywhere[context] = ids[at]
            self._anywhere[context[-_SHORT:]] = ids[at]

    def follow(self, ids: list[int], count: int) -> list[int]:
        """Return ``count`` ids that may come next; zeros where there is no guess."""
        text = ids[-_LONG:]
        for _ in range(count):
            context = tuple(text[-_LONG:])
            guess = self._here.get(context)
            if guess is None:
                guess = self._anywhere.get(context)
            if guess is None:
                guess = self._anywhere.get(context[-_SHORT:], 0)
            text.append(guess)
        return text[len(text) - count :]


class Writer:
    """Takes a chain's sampled ids, and supplies headers and overruled verdicts."""

    def __init__(
        self, chain: Written, plan: Plan, seed: int, supplies: Supplies, guesses: Guesses
    ) -> None:
        self.chain, self.ids, self.seed = chain, chain.ids, seed
        self.read = 0
        """How many ids the model has read."""
        self.done = False
        self._plan, self._supplies, self._guesses = plan, supplies, guesses
        self._start = len(self.ids)  # of the open turn
        self._stops = [supplies.header(ANSWER.next)]

    def next_ids(self, count: int) -> list[int]:
        """Return the ids to read next: those that are certain, then guesses."""
        certain = self.ids[self.read : self.read + count]
        if len(certain) == count:
            return certain
        return certain + self._guesses.follow(self.ids, count - len(certain))

    def advance(self, fed: list[int], sampled: list[int]) -> None:
        """Take note that ``fed`` was read; ``sampled`` is what follows each of these ids."""
        before = len(self.ids)
        for place, (id, follower) in enumerate(zip(fed, sampled, strict=True), self.read):
            if self.done or self.read != place or self.ids[place] != id:
                break
            self.read += 1
            if self.read == len(self.ids):
                self._take(follower)
        self._guesses.learn(self.ids, before)

    def _take(self, id: int) -> None:
        """Append a sampled id; end the turn where it completes a stop, or at the turn's limit."""
        ids = self.ids
        ids.append(id)
        count = len(ids) - self._start
        stop = next((s for s in self._stops if len(s) <= count and ids[-len(s) :] == s), None)
        if stop is None and id != EOS and count < self._plan.turn_tokens:
            return
        keep = len(ids) - (len(stop) if stop is not None else id == EOS)
        self.chain.formed.append(stop is not None)
        self.chain.ends.append(keep)
        text = self._supplies.text(ids[self._start : keep])
        answered = len(self.chain.ends) % 2 == 1
        supplied = self._after_answer(text) if answered else self._after_feedback(text, stop)
        # What is supplied as it was sampled, or begins so, need not be read again.
        self.read = min(self.read, keep + common_prefix(ids[keep:], supplied))
        ids[keep:] = supplied
        self._start = len(ids)

    def _after_answer(self, text: str) -> list[int]:
        self.chain.answers.append(text)
        self.done = len(self.chain.answers) > max(self._plan.enforced, self._plan.at_most)
        self._stops = list(self._supplies.verdicts.values())
        return self._supplies.header(TurnId(TurnKind.FEEDBACK, len(self.chain.answers)))

    def _after_feedback(self, text: str, stop: list[int] | None) -> list[int]:
        """Take a feedback in, its verdict overruled where a revision is owed."""
        number, verdicts = len(self.chain.answers), self._supplies.verdicts
        needed = None if stop is None else stop == verdicts[True]
        self.chain.feedbacks.append(text)
        self.chain.needed.append(needed)
        if not needed and number > self._plan.enforced:
            self.done = self.chain.ended = True
            return verdicts[False]
        self._stops = [self._supplies.header(TurnId(TurnKind.FEEDBACK, number + 1))]
        return verdicts[True] + self._supplies.header(TurnId(TurnKind.REVISION, number))
