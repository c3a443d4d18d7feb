"""When a chain must stop, and where it stops that stood already."""

from __future__ import annotations

import pytest

from selfee_cli.protocol.grammar import ANSWER, TurnId, TurnKind
from selfee_cli.protocol.policy import RevisionPolicy


@pytest.mark.parametrize("most", [0, 1, 3])
def test_nothing_follows_the_last_revision_or_one_beyond_it(most: int) -> None:
    policy = RevisionPolicy(maximum=most)
    assert policy.is_last(ANSWER) == (most == 0)
    for index in range(1, 6):
        assert policy.is_last(TurnId(TurnKind.REVISION, index)) == (index >= most)
        assert not policy.is_last(TurnId(TurnKind.FEEDBACK, index))
    assert not RevisionPolicy().is_last(TurnId(TurnKind.REVISION, 9))
