"""The study of revisions as a picture: a small SVG by hand, one line a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from selfee_cli.tiny.revisions import AFTER, Groups, Share

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 590, 320, 52, 34, 180, 44
_COLOURS = ("#1f6feb", "#8250df", "#1a7f37", "#bf8700")


def plot(found: dict[float, Groups], title: str) -> str:
    """Return accuracy by revisions, all families together, with 95% intervals, as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-weight="bold">{escape(title)}</text>',
        *_axes(),
    ]
    row = 0
    for colour, (temperature, groups) in zip(_COLOURS, found.items(), strict=False):
        group = groups["all"]
        shares = [(k, group.share(values)) for k, values in group.after.items()]
        parts += _line(shares, colour, dashed=False)
        parts.append(_legend(row, colour, f"temperature {temperature:g}", dashed=False))
        row += 1
        control = [(k, group.share(v)) for k, v in group.same_cost.items() if v]
        if control:
            parts += _line([shares[0], *control], colour, dashed=True)
            parts.append(_legend(row, colour, "answers anew,", dashed=True))
            parts.append(_legend(row + 1, None, "majority, same cost", dashed=True))
            row += 2
    return "\n".join([*parts, "</svg>", ""])


def _x(revisions: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * revisions / max(AFTER)


def _y(share: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share)


def _axes() -> list[str]:
    parts = []
    for percent in range(0, 101, 20):
        y = _y(percent / 100)
        ends = f'x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"'
        parts.append(f'<line {ends} stroke="#d8dee4"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{percent}%</text>')
    for k in AFTER:
        y = _HEIGHT - _BOTTOM + 18
        parts.append(f'<text x="{_x(k):.1f}" y="{y}" text-anchor="middle">{k}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">revisions enforced</text>'
    )
    return parts


def _line(shares: Sequence[tuple[int, Share]], colour: str, *, dashed: bool) -> list[str]:
    points = " ".join(f"{_x(k):.1f},{_y(share.value):.1f}" for k, share in shares)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    parts = [f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>']
    for k, share in shares:
        x, low, high = _x(k), _y(share.low), _y(share.high)
        parts.append(
            f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{colour}"/>'
        )
    return parts


def _legend(row: int, colour: str | None, text: str, *, dashed: bool) -> str:
    x, y = _WIDTH - _RIGHT + 12, _TOP + 12 + 18 * row
    label = f'<text x="{x + 28}" y="{y + 4}">{escape(text)}</text>'
    if colour is None:
        return label
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<line x1="{x}" y1="{y}" x2="{x + 22}" y2="{y}" stroke="{colour}" stroke-width="2"{dash}/>'
        + label
    )
