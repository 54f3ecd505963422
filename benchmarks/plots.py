"""Draws a table as SVG without a library: bars with the range of their rounds, or curves.

The colours are readable on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_INK, _FILL, _FAINT = "#7a8290", "#3f7fbf", "#b9c4d0"
_COLOURS = ("#3f7fbf", "#c9743a", "#4e9a5b", "#9b62ad", "#b0514f", "#6b7f2a")
_TEXT = "font-family='system-ui, sans-serif' font-size='13'"
_WIDTH, _ROW, _LEFT, _RIGHT = 760, 28, 280, 90


class Bar(NamedTuple):
    """A bar: its length, and the lowest and highest value of its rounds."""

    name: str
    value: float
    lowest: float
    highest: float


class Curve(NamedTuple):
    """A curve: its points in order."""

    name: str
    points: list[tuple[float, float]]


def bars(title: str, rows: Sequence[Bar], digits: int = 0) -> str:
    """Draw horizontal bars. A thin line over the end of a bar shows the range of its rounds."""
    scale = (_WIDTH - _LEFT - _RIGHT) / (max((row.highest for row in rows), default=0.0) or 1.0)
    parts = [_text(0, 18, title, weight="bold")]
    for number, row in enumerate(rows):
        y = 36 + number * _ROW
        end = _LEFT + row.value * scale
        spread = f"{_LEFT + row.lowest * scale:.1f}", f"{_LEFT + row.highest * scale:.1f}"
        label = max(end, float(spread[1])) + 6
        parts.append(_text(_LEFT - 8, y + 14, row.name, anchor="end"))
        parts.append(
            f"<rect x='{_LEFT}' y='{y}' width='{row.value * scale:.1f}' height='18' "
            f"fill='{_FILL}' rx='2'/>"
        )
        parts.append(
            f"<line x1='{spread[0]}' x2='{spread[1]}' y1='{y + 9}' y2='{y + 9}' "
            f"stroke='{_INK}' stroke-width='2'/>"
        )
        parts.append(_text(label, y + 14, f"{row.value:,.{digits}f}"))
    return _page(36 + len(rows) * _ROW + 8, parts)


def curves(title: str, x_label: str, rows: Sequence[Curve], digits: int = 0) -> str:
    """Draw curves over a common axis that starts at 0."""
    height, top, left, bottom = 330, 36, 80, 50
    xs = sorted({x for row in rows for x, _ in row.points}) or [0.0]
    tallest = max((y for row in rows for _, y in row.points), default=0.0) or 1.0
    right = _WIDTH - 210

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / ((xs[-1] - xs[0]) or 1.0)
        return left + across * (right - left), height - bottom - y / tallest * (
            height - bottom - top
        )

    parts = [_text(0, 18, title, weight="bold")]
    for x in xs:
        at, _ = place(x, 0)
        parts.append(_text(at, height - bottom + 18, f"{x:g}", anchor="middle"))
    parts.append(_text((left + right) / 2, height - 8, x_label, anchor="middle"))
    for share in (0.0, 0.5, 1.0):
        _, y = place(xs[0], share * tallest)
        parts += [
            f"<line x1='{left}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}' stroke='{_FAINT}'/>",
            _text(left - 8, y + 4, f"{share * tallest:,.{digits}f}", anchor="end"),
        ]
    for number, row in enumerate(rows):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [place(x, y) for x, y in sorted(row.points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(
            f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2.5'/>"
        )
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{colour}'/>" for x, y in places]
        parts.append(_text(right + 14, top + 14 + number * 20, row.name, colour=colour))
    return _page(height, parts)


def _text(
    x: float, y: float, text: str, anchor: str = "start", weight: str = "", colour: str = _INK
) -> str:
    bold = f" font-weight='{weight}'" if weight else ""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' {_TEXT} fill='{colour}' text-anchor='{anchor}'{bold}>"
        f"{escape(text)}</text>"
    )


def _page(height: int, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' "
        f"width='{_WIDTH}' height='{height}' role='img'>\n{body}\n</svg>\n"
    )
