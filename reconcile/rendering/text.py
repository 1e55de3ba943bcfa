"""A page as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconcile.logs import printable
from reconcile.planning.render import human_bytes
from reconcile.rendering.pages import BYTES, NUMBER, Column, Page, Section, Table, Value


def to_text(page: Page) -> Iterator[str]:
    """Yield the lines of the page."""
    yield printable(f"{page.kind}: {page.title}")
    yield from _pairs((tile.label, f"{tile.value}{f', {tile.detail}' if tile.detail else ''}") for tile in page.tiles)
    yield ""
    yield from _pairs(page.facts)
    for note in page.notes:
        yield f"  note: {printable(note)}"
    for section in page.sections:
        yield ""
        yield from _section(section)
    yield ""
    yield from _pairs(page.footer)


def _pairs(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    rows = list(pairs)
    width = max((len(label) for label, _value in rows), default=0)
    for label, value in rows:
        yield f"  {label:<{width}}  {printable(value)}"


def _section(section: Section) -> Iterator[str]:
    yield section.title
    yield from (f"  {printable(paragraph)}" for paragraph in section.text)
    for what, command in section.commands:
        yield f"  {printable(what)}:"
        yield f"    {printable(command)}"
    if section.table is not None and section.table.total:
        yield from _table(section.table)


def _table(table: Table) -> Iterator[str]:
    rows = [[c.title for c in table.columns]]
    rows += [[_cell(c, v) for c, v in zip(table.columns, row, strict=True)] for row in table.sample(table.few)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(table.columns))]
    for row in rows:
        cells = zip(row, widths, table.columns, strict=True)
        yield "  " + "  ".join(f"{t:>{w}}" if c.kind in (NUMBER, BYTES) else f"{t:<{w}}" for t, w, c in cells).rstrip()
    if len(rows) - 1 < table.total:
        yield f"  {len(rows) - 1:,} of {table.total:,} are shown. {printable(table.rest)}"


def _cell(column: Column, value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return human_bytes(value) if column.kind == BYTES else f"{value:,}"
    return printable(value)
