"""What a revision changed, by word: line diffs say little about prose."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from selfee_cli.ui.console import Style, printable

# Chinese and Japanese are written without spaces: each of their characters is a word.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_JOINED = "\u0300-\u036f\u200d\ufe0e\ufe0f"  # accents, and what makes one sign of several
_WORDS = re.compile(rf"\s+|[{_ALONE}]|(?:(?![{_ALONE}])[\w{_JOINED}])+|[^\w\s]")
_LEAST_KEPT = 0.3


def word_diff(old: str, new: str, style: Style) -> str:
    """Return ``new`` with what changed since ``old`` marked ``[-old-]`` and ``{+new+}``.

    ``unchanged`` where nothing did; the whole new text where under 30% of its words are kept.
    Spaces are no words: any two texts have about half of their pieces, the spaces, in common.
    """
    if old.strip() == new.strip():
        return style.paint("unchanged", "dim")
    before, after = _WORDS.findall(printable(old)), _WORDS.findall(printable(new))
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    kept = sum(
        _words(after[block.b : block.b + block.size]) for block in matcher.get_matching_blocks()
    )
    if kept < _LEAST_KEPT * _words(after):
        return printable(new)
    return "".join(_marked(matcher, before, after, style))


def _words(pieces: Sequence[str]) -> int:
    return sum(not piece.isspace() for piece in pieces)


def _marked(
    matcher: SequenceMatcher[str], before: list[str], after: list[str], style: Style
) -> Iterator[str]:
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        removed, added = "".join(before[i1:i2]), "".join(after[j1:j2])
        if tag == "equal":
            yield added
            continue
        if removed:
            yield style.paint(f"[-{removed}-]", "red")
        if added:
            yield style.paint(f"{{+{added}+}}", "green")
