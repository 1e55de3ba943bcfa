"""A page as one self-contained HTML file that asks no network for anything; its Content-Security-Policy forbids it to.

Summary, diagram and the beginnings of the tables are in the HTML itself. Its script sorts, filters and pages what is
embedded as JSON. Style and script are allowed by their digests: nothing that a document's name smuggles in could run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from html import escape
from importlib import resources

import msgspec

from reconcile.logs import printable
from reconcile.rendering.flow import Diagram
from reconcile.rendering.pages import BYTES, CODE, NAME, NUMBER, Column, Page, Section, Table, Tile, Value, Verdict
from reconcile.rendering.plot import plot
from reconcile.wording import human_bytes

SEARCHABLE = 100_000  # rows of a table that are embedded; of more, an even sample
_STATIC = 25  # rows of a table that can be read without the script
_IN_SCRIPT = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def to_html(page: Page) -> Iterator[str]:
    """Yield the file piece by piece."""
    style, script = _resource("page.css"), _resource("page.js")
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "policy": lambda: iter([_policy(style, script)]),
        "style": lambda: iter([style]),
        "script": lambda: iter([script]),
        "kind": lambda: iter([_safe(page.kind)]),
        "title": lambda: iter([_safe(page.title[:1].upper() + page.title[1:])]),
        "facts": lambda: _pairs(page.facts),
        "verdict": lambda: _verdict(page.verdict),
        "tiles": lambda: map(_tile, page.tiles),
        "notes": lambda: _notes(page),
        "contents": lambda: _contents(page),
        "sections": lambda: _sections(page),
        "footer": lambda: _pairs(page.footer),
        "data": lambda: _data(page),
    }
    for number, piece in enumerate(re.split(r"\{\{(\w+)\}\}", _resource("page.html"))):
        if number % 2:
            yield from parts[piece]()
        else:
            yield piece


def _resource(name: str) -> str:
    return (resources.files("reconcile.rendering") / name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src {policy_source(style)}; script-src {policy_source(script)};"
        " base-uri 'none'; form-action 'none'"
    )


def policy_source(text: str) -> str:
    """Return what a Content-Security-Policy names a style or script by: its digest."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _safe(text: str) -> str:
    return escape(printable(text))


def _pairs(pairs: tuple[tuple[str, str], ...]) -> Iterator[str]:
    return (f"<div><dt>{_safe(label)}</dt><dd>{_safe(value)}</dd></div>" for label, value in pairs)


def _verdict(verdict: Verdict) -> Iterator[str]:
    yield f'<div class="verdict {verdict.kind}"><strong>{_safe(verdict.text)}</strong>'
    yield from (f"<span>{_safe(reason)}</span>" for reason in verdict.reasons)
    yield "</div>"


def _tile(tile: Tile) -> str:
    kind = "tile warning" if tile.is_warning else "tile"
    return (
        f'<div class="{kind}"><dt>{_safe(tile.label)}</dt>'
        f"<dd><strong>{_safe(tile.value)}</strong><span>{_safe(tile.detail)}</span></dd></div>"
    )


def _notes(page: Page) -> Iterator[str]:
    if page.notes:
        yield '<section class="notes" id="notes"><h2>Notes</h2><ul>'
        yield from (f"<li>{_safe(note)}</li>" for note in page.notes)
        yield "</ul></section>"


def _contents(page: Page) -> Iterator[str]:
    for number, section in enumerate(page.sections):
        yield f'<a href="#section-{number}">{_safe(section.title)}</a>'


def _sections(page: Page) -> Iterator[str]:
    for number, section in enumerate(page.sections):
        yield f'<section id="section-{number}">'
        title = f"<h2>{_safe(section.title)}</h2>"
        yield f"<details><summary>{title}</summary>" if section.is_folded else title
        yield from (f"<p>{_safe(paragraph)}</p>" for paragraph in section.text)
        for what, command in section.commands:
            yield f'<p>{_safe(what)}:</p><pre tabindex="0"><code>{_safe(command)}</code></pre>'
        if section.plot is not None:
            yield from plot(section.plot)
        if section.table is not None:
            if section.table.name == "flows":
                yield from _diagram(page)
            yield from _table(section, section.table)
        yield "</details></section>" if section.is_folded else "</section>"


def _diagram(page: Page) -> Iterator[str]:
    """Yield both scales of the diagram; which of them shows is up to two radio buttons and the style sheet."""
    diagram = Diagram(page.bands, page.places)
    by_bytes, by_documents = diagram.by_bytes(), diagram.by_documents()
    if by_bytes:
        yield '<fieldset class="scale"><legend>Drawn by</legend>'
        yield '<label><input type="radio" name="scale" id="by-bytes" checked><span>bytes</span></label>'
        yield '<label><input type="radio" name="scale" id="by-documents"><span>documents</span></label></fieldset>'
    if by_documents:
        yield f'<div class="diagram" tabindex="0" role="region" aria-label="Diagram">{by_bytes}{by_documents}</div>'
        yield from diagram.stacked()


def _table(section: Section, table: Table) -> Iterator[str]:
    if not table.total:
        yield '<p class="quiet">None.</p>'
        return
    yield f'<div class="table" id="{table.name}" data-rows="data-{table.name}">'
    yield f'<p class="shown quiet">{_shown(table)}</p>'
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="{_safe(section.title)}"><table><thead><tr>'
    yield from (f'<th scope="col"{_align(column)}>{_safe(column.title)}</th>' for column in table.columns)
    yield "</tr></thead><tbody>"
    for row in table.sample(_STATIC):
        cells = zip(table.columns, row, strict=True)
        yield ("<tr>" + "".join(_td(column, value) for column, value in cells) + "</tr>\n")
    yield "</tbody></table></div></div>"


def _td(column: Column, value: Value) -> str:
    return f'<td{_align(column)} data-title="{_safe(column.title)}">{_cell(column, value)}</td>'


def _shown(table: Table) -> str:
    if table.total <= _STATIC:
        return ""
    return f"{_STATIC} of {table.total:,} rows, evenly taken. {_safe(table.rest)}"


def _align(column: Column) -> str:
    name = {NUMBER: "number", BYTES: "number", NAME: "name", CODE: "name code"}.get(column.kind)
    return f' class="{name}"' if name else ""


def _cell(column: Column, value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return human_bytes(value) if column.kind == BYTES else f"{value:,}"
    return _safe(value)


def _data(page: Page) -> Iterator[str]:
    """Yield the rows of each table as JSON, a row a line, in which nothing can end the element."""
    for section in page.sections:
        table = section.table
        if table is None or not table.total:
            continue
        about = {
            "kinds": [column.kind for column in table.columns],
            "total": table.total,
            "rest": table.rest,
            "title": section.title,
        }
        yield f'<script type="application/json" id="data-{table.name}">{{"about":{_json(about)},"rows":['
        for number, row in enumerate(table.sample(SEARCHABLE)):
            shown = [printable(value) if isinstance(value, str) else value for value in row]
            yield f"{',' if number else ''}\n{_json(shown)}"
        yield "\n]}</script>\n"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode().translate(_IN_SCRIPT)
