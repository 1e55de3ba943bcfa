"""A page, independent of its form. Plans and reports become pages; a page becomes text, Markdown or HTML.

What a page holds is data, or words of ours; nothing in it is escaped. Every renderer escapes all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from attrs import frozen

TEXT, NAME, CODE, NUMBER, BYTES = "text", "name", "code", "number", "bytes"  # Column.kind

Value = str | int | None
Row = tuple[Value, ...]


@frozen
class Column:
    """A column of a table. ``kind`` NAME is for names and URLs of documents, which others chose, CODE for codes."""

    title: str
    kind: str = TEXT


@frozen
class Table:
    """A table of ``total`` rows. ``rows`` streams them, as often as it is called; ``rest`` says where all of them are.

    ``few`` are enough where space is short.
    """

    name: str
    columns: tuple[Column, ...]
    rows: Callable[[], Iterable[Row]]
    total: int
    rest: str
    few: int = 50

    def sample(self, most: int) -> Iterator[Row]:
        """Yield so many rows at most, evenly taken from all of them."""
        total = max(self.total, most)
        taken = (row for i, row in enumerate(self.rows()) if i * most // total != (i - 1) * most // total)
        return islice(taken, most)


@frozen
class Point:
    """A value at a time, in Unix seconds, of one series."""

    at: int
    value: float
    series: str


@frozen
class Plot:
    """Values over time, in some unit."""

    unit: str
    points: tuple[Point, ...]


@frozen
class Section:
    """A part of a page: paragraphs, commands to type with what each does, a table. Long ones are folded at first."""

    title: str
    text: tuple[str, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    table: Table | None = None
    is_folded: bool = False
    plot: Plot | None = None


@frozen
class Tile:
    """One figure of the summary. ``is_warning``: it needs attention."""

    label: str
    value: str
    detail: str = ""
    is_warning: bool = False


@frozen
class Verdict:
    """The summary of a page. ``kind`` is ``good``, ``attention`` or ``bad``."""

    kind: str
    text: str
    reasons: tuple[str, ...] = ()


@frozen
class Band:
    """How much goes from one backend to another in one logical bucket."""

    source: str
    bucket: str
    dest: str
    documents: int
    bytes: int


@frozen
class Page:
    """A plan or a report. ``places`` names the backends for people: a headline, and what more there is to say."""

    kind: str
    title: str
    verdict: Verdict
    facts: tuple[tuple[str, str], ...]
    tiles: tuple[Tile, ...]
    notes: tuple[str, ...]
    bands: tuple[Band, ...]
    places: dict[str, tuple[str, str]]
    sections: tuple[Section, ...]
    footer: tuple[tuple[str, str], ...]
