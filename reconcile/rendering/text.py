"""A page as text for a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table as Drawn
from rich.text import Text

from reconcile.formatting import human_bytes, noted
from reconcile.logs import printable
from reconcile.rendering.pages import BYTES, NUMBER, Column, Page, Section, Table, Value

_INDENT = 6  # of the rest of a row, and what is between two cells
_BOUNDLESS = 10_000  # columns of no terminal


def to_text(page: Page, width: int | None = None) -> Iterator[str]:
    """Yield the lines of the page; tables fit ``width`` columns, if that is given."""
    yield printable(f"{page.kind}: {page.title}")
    yield f"  {printable(page.verdict.text)}"
    yield from (f"    {printable(reason)}" for reason in page.verdict.reasons)
    yield from _pairs((tile.label, f"{tile.value}{f', {tile.detail}' if tile.detail else ''}") for tile in page.tiles)
    yield ""
    yield from _pairs(page.facts)
    for note in page.notes:
        yield f"  {noted(printable(note))}"
    for section in page.sections:
        yield ""
        yield from _section(section, width or _BOUNDLESS)
    yield ""
    yield from _pairs(page.footer)


def _pairs(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    rows = list(pairs)
    width = max((len(label) for label, _value in rows), default=0)
    for label, value in rows:
        yield f"  {label:<{width}}  {printable(value)}"


def _section(section: Section, width: int) -> Iterator[str]:
    yield section.title
    yield from (f"  {printable(paragraph)}" for paragraph in section.text)
    for what, command in section.commands:
        yield f"  {printable(what)}:"
        yield f"    {printable(command)}"
    if section.table is not None and section.table.total:
        yield from _table(section.table, width)


def _table(table: Table, width: int) -> Iterator[str]:
    drawn = Drawn(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in table.columns:
        is_number = column.kind in (NUMBER, BYTES)
        drawn.add_column(column.title, justify="right" if is_number else "left", overflow="fold", no_wrap=is_number)
    rows = [[_cell(c, v) for c, v in zip(table.columns, row, strict=True)] for row in table.sample(table.few)]
    for row in rows:
        drawn.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=width - 2, color_system=None)
    if (
        console.measure(drawn, options=console.options.update(max_width=_BOUNDLESS)).maximum > width - 2
    ):  # names that are broken cannot be searched for
        yield from _cards(table.columns, rows, width)
    else:
        with console.capture() as capture:
            console.print(drawn)
        yield from (f"  {line.rstrip()}" for line in capture.get().splitlines())
    if len(rows) < table.total:
        yield f"  {len(rows):,} of {table.total:,} are shown. {printable(table.rest)}"


def _cards(columns: Sequence[Column], rows: list[list[str]], width: int) -> Iterator[str]:
    """Yield each row as its first cell, and under it as many of the others in a line as fit."""
    for first, *others in rows:
        yield f"  {first}"
        line = ""
        for piece in (f"{c.title}: {said}" for c, said in zip(columns[1:], others, strict=True) if said):
            if line and len(line) + len(piece) + _INDENT > width:
                yield f"    {line}"
                line = ""
            line += f"; {piece}" if line else piece
        if line:
            yield f"    {line}"


def _cell(column: Column, value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return human_bytes(value) if column.kind == BYTES else f"{value:,}"
    return printable(value)
