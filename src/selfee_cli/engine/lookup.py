"""Drafts of what comes next, looked up in what was said before.

A revision copies most of what it revises, and feedbacks resemble one another. So the longest
match of the text's end with an earlier place is sought, and what followed there is the draft; the
model then checks many tokens in one pass. On the published chains with three revisions this gives
more than three tokens a pass (``selfee bench lookup``).

Beside the longest match the drafter knows two things of the protocol. A turn begins as the last
one of its kind did, and where two places match equally, the one that the last turn of this kind
has reached is likelier. And a header in a draft gets the number that is due.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from selfee_cli.protocol.grammar import ANSWER, TurnId

HeaderIds = Callable[[TurnId], Sequence[int]]
"""Gives the ids of a turn's header as they stand in the middle of a text; none where unknown."""

_REACH = 64  # tokens: matches that are longer are as good as this
_TURN_START = 16  # a match's length that stands for "this turn begins as the last one did"
_MEMORY = 16_384  # tokens


@dataclass
class LookupMemory:
    """What earlier chains of a session said, for drafts of later ones."""

    ids: list[int] = field(default_factory=list)

    def remember(self, ids: Sequence[int]) -> None:
        """Keep the text of a chain; the oldest is forgotten where it becomes too much."""
        self.ids.extend(ids)
        del self.ids[: max(0, len(self.ids) - _MEMORY)]


@dataclass(frozen=True)
class Draft:
    """Ids that may come next, and the length of the match they are founded on."""

    ids: list[int]
    match: int


@dataclass(frozen=True)
class _OpenTurn:
    """A turn that has begun: where its header and its text begin, among all ids."""

    id: TurnId
    header: int
    start: int


class Drafter:
    """Follows one sequence of ids: the prompt, then what is generated.

    It costs one pass over an array of at most memory and context a token.
    """

    def __init__(
        self, prompt: Sequence[int], headers: HeaderIds, memory: Sequence[int] = ()
    ) -> None:
        self._headers = headers
        self._memory = len(memory)
        self._size = 0
        self._ids: NDArray[np.int32] = np.zeros(1024, np.int32)
        # [i]: how many ids up to i are the last ids of the sequence, at most _REACH
        self._match: NDArray[np.int32] = np.zeros(1024, np.int32)
        self._store([*memory, *prompt])
        self._turns = [_OpenTurn(ANSWER, self._size, self._size)]
        self._at: int | None = None  # where the last turn of this kind has come to
        self._rematch()

    def __len__(self) -> int:
        return self._size - self._memory

    def append(self, id: int) -> None:
        """Take note of the next id."""
        before = self._match[: self._size]
        shifted = np.empty_like(before)
        shifted[:1] = 0
        np.minimum(before[:-1], _REACH - 1, out=shifted[1:])
        self._match[: self._size] = np.where(self._ids[: self._size] == id, shifted + 1, 0)
        self._store([id])
        self._follow(id)

    def cut(self, length: int) -> None:
        """Forget all but the first ``length`` ids of prompt and text."""
        self._size = self._memory + length
        while len(self._turns) > 1 and self._turns[-1].start > self._size:
            self._turns.pop()
        self._at = None
        self._rematch()

    def draft(self, most: int) -> Draft:
        """Return at most ``most`` ids that may come next; none where nothing matches."""
        last = self._last_of_kind()
        if last is not None and self._turns[-1].start == self._size:
            return Draft(self._copy(last.start, most), _TURN_START)
        matches = self._match[: max(0, self._size - 1)]
        longest = int(matches.max()) if len(matches) else 0
        if not longest:
            return Draft([], 0)
        ends = np.flatnonzero(matches == longest)
        end = int(ends[-1])
        if last is not None:
            begin, stop = last.start, self._end_of(last)
            inside = ends[(ends >= begin) & (ends < stop)]
            if len(inside):
                expected = begin if self._at is None else self._at
                end = int(inside[np.abs(inside + 1 - expected).argmin()])
        return Draft(self._copy(end + 1, most), longest)

    def _copy(self, start: int, most: int) -> list[int]:
        """Copy ids from ``start`` on, headers with the numbers that are due."""
        ids: list[int] = []
        headers = {turn.header: turn for turn in self._turns[1:]}
        due = self._turns[-1].id.next
        while start < self._size and len(ids) < most:
            turn = headers.get(start)
            if turn is not None and turn.id.kind is due.kind:
                ids += self._headers(due)
                due, start = due.next, turn.start
            else:
                ids.append(int(self._ids[start]))
                start += 1
        return ids[:most]

    def _follow(self, id: int) -> None:
        """Notice a header that is complete; else move along in the last turn of this kind."""
        due = self._turns[-1].id.next
        header = self._headers(due)
        begin = self._size - len(header)
        begun = header and begin >= self._turns[-1].start
        if begun and self._ids[begin : self._size].tolist() == [*header]:
            self._turns.append(_OpenTurn(due, begin, self._size))
            last = self._last_of_kind()
            self._at = last.start if last is not None else None
        elif self._at is not None:
            self._at = min(self._at + 1, self._size - 1)

    def _last_of_kind(self) -> _OpenTurn | None:
        """The turn that the open one may copy: the last feedback, or what is being revised."""
        index = len(self._turns) - 3
        return self._turns[index] if index >= 0 else None

    def _end_of(self, turn: _OpenTurn) -> int:
        index = self._turns.index(turn) + 1
        return self._turns[index].header if index < len(self._turns) else self._size

    def _store(self, ids: Sequence[int]) -> None:
        needed = self._size + len(ids)
        if needed > len(self._ids):
            grown = max(needed, 2 * len(self._ids))
            self._ids = np.resize(self._ids, grown)
            self._match = np.resize(self._match, grown)
        self._ids[self._size : needed] = ids
        self._match[self._size : needed] = 0
        self._size = needed

    def _rematch(self) -> None:
        """Compute all matches anew, for the ids that are there."""
        ids, size = self._ids[: self._size], self._size
        match = np.zeros(size, np.int32)
        alive = np.ones(size, np.bool_)
        for back in range(min(_REACH, size - 1)):
            alive[:back] = False
            alive[back:] &= ids[: size - back] == ids[size - 1 - back]
            alive[size - 1] = False
            if not alive.any():
                break
            match += alive
        self._match[:size] = match


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many ids two sequences begin with alike."""
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length
