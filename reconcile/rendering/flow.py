"""How much goes from which backend to which, by logical bucket, drawn to scale: an SVG that we lay out ourselves.

Three columns of bars: sources, logical buckets, destinations; ribbons between them as thick as what flows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape

from attrs import define, field, frozen

from reconcile.formatting import count, human_bytes
from reconcile.logs import printable
from reconcile.rendering.backends import called
from reconcile.rendering.pages import Band

_WIDTH, _BAR = 1000, 10
_COLUMNS = (240, 495, 750)  # left edges of the bars
_SCALED = 300  # height of everything that flows
_LABEL = (40, 22, 40)  # height that a bar's label needs
_GAP = 12
_THINNEST = 1.5
_MOST_BUCKETS = 14
_COLOURS = 8
_LONGEST, _LONGEST_BUCKET = 30, 20  # characters of a label

Measure = Callable[[Band], int]


@define
class _Bar:
    """One backend or logical bucket: where it is, and how far its ribbons have got on either side."""

    label: str
    detail: str
    colour: int
    height: float
    top: float = 0
    _into: float = field(init=False, default=0)
    _out_of: float = field(init=False, default=0)

    def take_in(self, height: float) -> float:
        top = self.top + self._into
        self._into += height
        return top

    def give_out(self, height: float) -> float:
        top = self.top + self._out_of
        self._out_of += height
        return top


@frozen
class _Column:
    """The bars of a column from the top down, and which of them a band belongs to."""

    keys: list[str]
    side: Callable[[Band], str]
    is_place: bool = True


@frozen
class Diagram:
    """The diagram of some bands. ``places`` has headline and detail of each backend."""

    bands: Sequence[Band]
    places: dict[str, tuple[str, str]]

    def by_bytes(self) -> str:
        """Return the SVG to the scale of bytes; nothing where no size is known."""
        return self._svg("bytes", lambda band: band.bytes, human_bytes)

    def by_documents(self) -> str:
        """Return the SVG to the scale of documents."""
        return self._svg("documents", lambda band: band.documents, count)

    def stacked(self) -> Iterator[str]:
        """Yield the same as a list, for screens that are too narrow for the diagram: a bar a flow."""
        measure: Measure = _bytes_of if any(band.bytes for band in self.bands) else _documents_of
        most = max(map(measure, self.bands), default=0)
        if not most:
            return
        yield '<ul class="stack">'
        for number, band in enumerate(sorted(_few(self.bands, measure), key=measure, reverse=True)):
            places = (escape(printable(called(name, self.places)[0])) for name in (band.source, band.dest))
            said = f"{count(band.documents)}, {human_bytes(band.bytes)}"
            bar = f'<rect class="c{number % _COLOURS}" width="{100 * measure(band) / most:.1f}" height="1"/>'
            yield f"<li><strong>{escape(printable(band.bucket))}</strong><br>{' → '.join(places)}"
            yield f'<svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">{bar}</svg>{said}</li>'
        yield "</ul>"

    def _svg(self, name: str, measure: Measure, said: Callable[[int], str]) -> str:
        bands = _few(self.bands, measure)
        total = sum(map(measure, bands))
        if not total:
            return ""
        scale = _SCALED / total
        columns = [self._bars(bands, measure, scale, said, column) for column in _ordered(bands, measure)]
        height = max(_place(bars, label) for bars, label in zip(columns, _LABEL, strict=True))
        for bars, label in zip(columns, _LABEL, strict=True):
            _centre(bars, label, height)
        words = f"{said(total)} by backend and logical bucket; the table below has the same figures"
        head = f'<svg class="flow {name}" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(words)}">'
        return "".join([head, *_ribbons(bands, measure, scale, said, columns), *_labels(columns), "</svg>"])

    def _bars(
        self, bands: Sequence[Band], measure: Measure, scale: float, said: Callable[[int], str], column: _Column
    ) -> dict[str, _Bar]:
        bars = {}
        for number, key in enumerate(column.keys):
            amount = sum(measure(band) for band in bands if column.side(band) == key)
            headline, more = called(key, self.places) if column.is_place else (key, "")
            detail = f"{more}, {said(amount)}" if more else said(amount)
            thick = sum(_thickness(measure(band), scale) for band in bands if column.side(band) == key)
            bars[key] = _Bar(headline, detail, number % _COLOURS, thick)
        return bars


def _bytes_of(band: Band) -> int:
    return band.bytes


def _documents_of(band: Band) -> int:
    return band.documents


def _ordered(bands: Sequence[Band], measure: Measure) -> list[_Column]:
    """Return the three columns, each in the order that lets the fewest ribbons cross: by where they come from."""
    sources = sorted({band.source for band in bands})

    def mean(side: Callable[[Band], str], key: str, place: Callable[[Band], float]) -> float:
        weighed = [(measure(band) or 1, place(band)) for band in bands if side(band) == key]
        return sum(weight * at for weight, at in weighed) / sum(weight for weight, _at in weighed)

    dests = sorted({b.dest for b in bands}, key=lambda d: (mean(_dest_of, d, lambda b: sources.index(b.source)), d))

    def between(band: Band) -> float:
        return sources.index(band.source) / len(sources) + dests.index(band.dest) / len(dests)

    size = {bucket: -sum(measure(b) for b in bands if b.bucket == bucket) for bucket in {b.bucket for b in bands}}
    buckets = sorted(size, key=lambda bucket: (round(mean(_bucket_of, bucket, between), 1), size[bucket], bucket))
    return [_Column(sources, _source_of), _Column(buckets, _bucket_of, is_place=False), _Column(dests, _dest_of)]


def _ribbons(
    bands: Sequence[Band],
    measure: Measure,
    scale: float,
    said: Callable[[int], str],
    columns: Sequence[dict[str, _Bar]],
) -> Iterator[str]:
    """Yield the ribbons, each in two halves; at a bar they lie in the order of the bars that they lead to."""
    sources, buckets, dests = columns
    place = {key: number for bars in columns for number, key in enumerate(bars)}
    left, right = {}, {}
    for band in sorted(bands, key=lambda b: (place[b.source], place[b.bucket], place[b.dest])):
        thick = _thickness(measure(band), scale)
        ends = sources[band.source].give_out(thick), buckets[band.bucket].take_in(thick)
        left[band] = _ribbon(_COLUMNS[0], ends[0], _COLUMNS[1], ends[1], thick)
    for band in sorted(bands, key=lambda b: (place[b.bucket], place[b.dest], place[b.source])):
        thick = _thickness(measure(band), scale)
        ends = buckets[band.bucket].give_out(thick), dests[band.dest].take_in(thick)
        right[band] = _ribbon(_COLUMNS[1], ends[0], _COLUMNS[2], ends[1], thick)
    for band in bands:
        title = f"{band.bucket}: {said(measure(band))} from {band.source} to {band.dest}"
        yield (
            f'<g class="ribbon c{buckets[band.bucket].colour}"><title>{escape(printable(title))}</title>'
            f'<path d="{left[band]}"/><path d="{right[band]}"/></g>'
        )


def _thickness(amount: int, scale: float) -> float:
    return max(amount * scale, _THINNEST)


def _bucket_of(band: Band) -> str:
    return band.bucket


def _source_of(band: Band) -> str:
    return band.source


def _dest_of(band: Band) -> str:
    return band.dest


def _few(bands: Sequence[Band], measure: Measure) -> list[Band]:
    """Return the bands with the least logical buckets put together."""
    amounts: dict[str, int] = {}
    for band in bands:
        amounts[band.bucket] = amounts.get(band.bucket, 0) + measure(band)
    ranked = sorted(amounts, key=lambda bucket: -amounts[bucket])
    others = set(ranked[_MOST_BUCKETS:]) if len(ranked) > _MOST_BUCKETS + 1 else set()
    merged: dict[tuple[str, str, str], Band] = {}
    for band in bands:
        bucket = f"{len(others)} other buckets" if band.bucket in others else band.bucket
        old = merged.get((band.source, bucket, band.dest), Band(band.source, bucket, band.dest, 0, 0))
        merged[band.source, bucket, band.dest] = Band(
            band.source, bucket, band.dest, old.documents + band.documents, old.bytes + band.bytes
        )
    return list(merged.values())


def _place(bars: dict[str, _Bar], label: float) -> float:
    """Put the bars below one another, each with room for its label; return the height of all."""
    top = 0.0
    for bar in bars.values():
        slot = max(bar.height, label)
        bar.top = top + (slot - bar.height) / 2
        top += slot + _GAP
    return top - _GAP


def _centre(bars: dict[str, _Bar], label: float, height: float) -> None:
    shift = (height - _place(bars, label)) / 2
    for bar in bars.values():
        bar.top += shift


def _ribbon(left: float, top: float, right: float, end: float, thick: float) -> str:
    left += _BAR
    middle = (left + right) / 2
    return (
        f"M{left} {top:.1f}C{middle} {top:.1f} {middle} {end:.1f} {right} {end:.1f}V{end + thick:.1f}"
        f"C{middle} {end + thick:.1f} {middle} {top + thick:.1f} {left} {top + thick:.1f}Z"
    )


def _labels(columns: Sequence[dict[str, _Bar]]) -> Iterator[str]:
    for index, bars in enumerate(columns):
        for bar in bars.values():
            x, middle = _COLUMNS[index], bar.top + bar.height / 2
            kind = f"bucket c{bar.colour}" if index == 1 else "place"
            yield f'<rect class="{kind}" x="{x}" y="{bar.top:.1f}" width="{_BAR}" height="{bar.height:.1f}" rx="2"/>'
            longest = _LONGEST_BUCKET if index == 1 else _LONGEST  # a bucket's has the figure beside it
            headline, detail = escape(_short(bar.label, longest)), escape(_short(bar.detail))
            title = f"<title>{escape(printable(bar.label))}</title>"
            if index == 1:
                yield (
                    f'<text class="over" x="{x + _BAR + 8}" y="{middle + 4:.1f}">{title}{headline}'
                    f'<tspan class="quiet" dx="8">{detail}</tspan></text>'
                )
            else:
                at, anchor = (x - 12, "end") if index == 0 else (x + _BAR + 12, "start")
                yield (
                    f'<text x="{at}" y="{middle - 3:.1f}" text-anchor="{anchor}">{title}{headline}</text>'
                    f'<text class="quiet" x="{at}" y="{middle + 14:.1f}" text-anchor="{anchor}">{detail}</text>'
                )


def _short(text: str, longest: int = _LONGEST) -> str:
    visible = printable(text)
    return visible if len(visible) <= longest else f"{visible[: longest - 1]}…"
