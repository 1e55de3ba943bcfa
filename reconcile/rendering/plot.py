"""A plot of documents a second over time, as SVG: a line a phase."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from reconcile.formatting import count, human_seconds
from reconcile.rendering.pages import Plot, Point

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 1000, 220, 70, 30, 14


def plot(of: Plot) -> Iterator[str]:
    """Yield the plot; nothing where there are fewer than two points."""
    points = of.points
    if len(points) < 2:  # noqa: PLR2004 - a line has two ends
        return
    first, last = points[0].at, points[-1].at
    most = max(point.value for point in points) or 1
    said = f"up to {most:,.0f} {of.unit} within {human_seconds(last - first)}"
    yield f'<figure class="plot"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(said)}">'
    for share in (0.0, 0.5, 1.0):
        y = _y(most * share, most)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="quiet" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{most * share:,.0f}</text>'
    for number, (phase, own) in enumerate(groupby(points, lambda point: point.series)):
        line = " ".join(_spot(point, first, last, most) for point in own)
        yield f'<polyline class="line l{number % 8}" points="{line}"><title>{escape(phase)}</title></polyline>'
    took, bottom = human_seconds(last - first), _HEIGHT - 8
    yield f'<text class="quiet" x="{_LEFT}" y="{bottom}">begun</text>'
    yield f'<text class="quiet" x="{_WIDTH}" y="{bottom}" text-anchor="end">{took} later</text>'
    phases = escape(", ".join(dict.fromkeys(point.series for point in points)))
    caption = f"{escape(of.unit)}: {phases}; {count(len(points), 'sample')}"
    yield f"</svg><figcaption>{caption}</figcaption></figure>"


def _spot(point: Point, first: int, last: int, most: float) -> str:
    x = _LEFT + (point.at - first) / max(1, last - first) * (_WIDTH - _LEFT)
    return f"{x:.1f},{_y(point.value, most):.1f}"


def _y(value: float, most: float) -> float:
    return _HEIGHT - _BOTTOM - value / most * (_HEIGHT - _BOTTOM - _TOP)
