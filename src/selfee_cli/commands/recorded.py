"""Recorded chains, in any form that they are kept in, for the commands that read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from selfee_cli.errors import SelfeeError
from selfee_cli.paths import as_text, expanded, read_bytes
from selfee_cli.ui.console import console

if TYPE_CHECKING:
    from selfee_cli.protocol.chain import Chain
    from selfee_cli.protocol.records import Record


def read_chains(file: Path) -> list[Chain]:
    """Return the chains of a file that the command line names, read as by :func:`records_of`.

    Raises:
        NotFoundError: it is not there.
    """
    data = read_bytes(expanded(file))
    return [record.chain for record in records_of(data, str(file))]


def records_of(data: bytes, source: str) -> Iterable[Record]:
    """Return the chains of a saved session, an answer file or the output of ``ask``.

    ``source`` names it in errors.

    Raises:
        SelfeeError: it is damaged, or holds no chain.
    """
    from selfee_cli.chat import session_reader
    from selfee_cli.protocol.records import Record, read_records

    if not data or not session_reader.is_session(data):  # what is empty might be anything
        return read_records(as_text(data, source), source=source)
    saved = session_reader.parse(data, source)
    if saved.notice:
        console.say(f"{source}: {saved.notice}")
    if not saved.conversation.chains:
        raise SelfeeError(f"{source} holds no chain", hint="nothing was asked in this session")
    chains = enumerate(saved.conversation.chains, 1)
    return [Record(question_id=number, chain=chain) for number, chain in chains]
