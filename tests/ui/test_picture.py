"""The picture of a chat comes from a chat."""

from __future__ import annotations

import html
import re

import picture


def test_it_shows_what_was_said_and_needs_nothing_from_elsewhere() -> None:
    svg = picture.picture(picture.chat())
    lines = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    said = html.unescape("".join(lines)).replace("\xa0", " ")
    for text in (*picture.ENTRIES, "── Answer", "── Revision 1", "[-", "{+", "is the answer"):
        assert text in said
    assert "@font-face" not in svg
    assert "url(http" not in svg
