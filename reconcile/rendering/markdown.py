"""A page as Markdown for a change request: always under 60,000 characters, the summary first.

Tables are cut to fit, and each cut table says what was cut and where to find it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconcile.formatting import human_bytes
from reconcile.logs import printable
from reconcile.rendering.pages import BYTES, CODE, NAME, NUMBER, Column, Page, Section, Table, Value

LIMIT = 60_000  # characters; GitHub takes 65,536
_LONGEST = 300  # characters of a cell, a fact, a note
_NOTES = 20
_WORTH = 400  # characters that a table needs to say anything
_PLAIN = re.compile(r"[^`|\\<>&\n]*")
_SYNTAX = re.compile(r"([\\`*_\[\]<>|#~])")


def to_markdown(page: Page) -> str:
    """Return the page as Markdown."""
    head = "\n".join(_head(page))
    foot = "\n".join(_foot(page))
    room = LIMIT - len(head) - len(foot) - 2
    body = []
    rests = [len(_section(section, 0)) for section in page.sections]  # what the sections need without their rows
    for number, section in enumerate(page.sections):
        left = len(page.sections) - number
        share = max(0, room - sum(rests[number:])) // left
        text = _section(section, share)
        body.append(text)
        room -= len(text)
    return f"{head}\n{''.join(body)}{foot}\n"


def _head(page: Page) -> Iterator[str]:
    yield f"# {page.kind}: {_text(page.title)}"
    yield ""
    yield f"**{_text(page.verdict.text)}**"
    yield from (f"- {_text(reason)}" for reason in page.verdict.reasons)
    yield ""
    for tile in page.tiles:
        detail = f", {_text(tile.detail)}" if tile.detail else ""
        yield f"- **{_text(tile.label)}:** {_text(tile.value)}{detail}"
    yield ""
    for label, value in page.facts:
        yield f"- {_text(label)}: {_code(value)}"
    if page.notes:
        yield ""
        yield "**Notes**"
        yield ""
        yield from (f"- {_text(note)}" for note in page.notes[:_NOTES])
        if len(page.notes) > _NOTES:
            yield f"- and {len(page.notes) - _NOTES:,} more"


def _foot(page: Page) -> Iterator[str]:
    yield ""
    yield "---"
    yield ""
    yield from (f"- {_text(label)}: {_code(value)}" for label, value in page.footer)


def _section(section: Section, room: int) -> str:
    """Return a section whose table has at most so many characters."""
    lines = ["", f"## {_text(section.title)}", ""]
    lines += [f"{_text(paragraph)}\n" for paragraph in section.text]
    for what, command in section.commands:
        lines += [f"{_text(what)}:", "", *_fenced(command), ""]
    if section.table is not None:
        lines += _table(section.table, room)
    return "\n".join(lines) + "\n"


def _table(table: Table, room: int) -> Iterator[str]:
    head = "| " + " | ".join(_text(column.title) for column in table.columns) + " |"
    shown = 0
    lines = []
    room -= 2 * len(head)
    for row in table.sample(table.few) if room > _WORTH else ():
        line = "| " + " | ".join(_cell(c, v) for c, v in zip(table.columns, row, strict=True)) + " |"
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
        shown += 1
    if lines:
        yield head
        yield "|" + "|".join(" ---: " if c.kind in (NUMBER, BYTES) else " --- " for c in table.columns) + "|"
        yield from lines
        yield ""
    if shown < table.total:
        yield f"*{shown:,} of {table.total:,} rows are shown. {_text(table.rest)}*"


def _cell(column: Column, value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return human_bytes(value) if column.kind == BYTES else f"{value:,}"
    return _code(value) if column.kind in (NAME, CODE) else _text(value)


def _text(text: str) -> str:
    """Return words without a meaning in Markdown, or HTML, of their own."""
    return _SYNTAX.sub(r"\\\1", _short(text).replace("&", "&amp;")).replace(r"\<", "&lt;").replace(r"\>", "&gt;")


def _code(text: str) -> str:
    """Return a name as code: nobody is mentioned in it, nothing is a link. An odd one is spelt in entities."""
    short = _short(text)
    if short.strip() == short and short and _PLAIN.fullmatch(short):
        return f"`{short}`"
    return "<code>" + "".join(c if c.isalnum() or c in " ./-" else f"&#{ord(c)};" for c in short) + "</code>"


def _short(text: str) -> str:
    visible = printable(text)
    return visible if len(visible) <= _LONGEST else f"{visible[: _LONGEST - 1]}…"


def _fenced(command: str) -> list[str]:
    longest = max((len(run) for run in re.findall(r"`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", printable(command), fence]
