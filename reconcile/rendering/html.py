"""A page as one self-contained HTML file that loads nothing from the network; its Content-Security-Policy forbids it.

Summary, diagram and the beginnings of the tables are in the HTML itself. Its script sorts, filters and pages what is
embedded as JSON. Style and script are allowed by their digests, and the template escapes every value: nothing that a
document's name smuggles in could run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from reconcile.formatting import human_bytes
from reconcile.logs import printable
from reconcile.rendering.embedded import embedded, policy_source
from reconcile.rendering.flow import Diagram
from reconcile.rendering.pages import BYTES, CODE, NAME, NUMBER, TEXT, Page, Row, Section, Value
from reconcile.rendering.plot import plot

SEARCHABLE = 100_000  # rows of a table that are embedded; of more, an even sample
_STATIC = 25  # rows of a table that can be read without the script
_CLASSES = {NUMBER: "number", BYTES: "number", NAME: "name", CODE: "name code"}  # of cells, by the column's kind
_IN_SCRIPT = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def to_html(page: Page) -> Iterator[str]:
    """Yield the file piece by piece."""
    style, script = embedded("page.css"), embedded("page.js")
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        finalize=_printed,
    )
    environment.filters |= {"cell": _cell, "json": _json, "about": _about, "plot": lambda of: _markup(plot(of))}
    diagram = Diagram(page.bands, page.places)
    yield from environment.from_string(embedded("page.html")).generate(
        page=page,
        title=page.title[:1].upper() + page.title[1:],
        policy=_policy(style, script),
        style=_markup([style]),
        script=_markup([script]),
        by_bytes=_markup([diagram.by_bytes()]),
        by_documents=_markup([diagram.by_documents()]),
        stacked=_markup(diagram.stacked()),
        classes=_CLASSES,
        static=_STATIC,
        searchable=SEARCHABLE,
    )


def _markup(pieces: Any) -> Markup:  # noqa: ANN401 - an iterable of what we wrote ourselves, escaped
    return Markup("".join(pieces))  # noqa: S704


def _printed(value: Any) -> Any:  # noqa: ANN401 - whatever an expression of the template gives
    return printable(value) if type(value) is str else value


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src {policy_source(style)}; script-src {policy_source(script)};"
        " base-uri 'none'; form-action 'none'"
    )


def _cell(value: Value, kind: str = TEXT) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return human_bytes(value) if kind == BYTES else f"{value:,}"
    return value


def _about(section: Section) -> Markup:
    """Return what the script is told of a section's table."""
    table = section.table
    assert table is not None  # noqa: S101 - the template asks for sections with one
    kinds = [column.kind for column in table.columns]
    return _encoded({"kinds": kinds, "total": table.total, "rest": table.rest, "title": section.title})


def _json(rows: Iterable[Row]) -> Iterator[Markup]:
    """Yield rows as the items of a JSON array, one a line."""
    comma = Markup("")
    for row in rows:
        yield comma + Markup("\n") + _encoded([printable(value) if isinstance(value, str) else value for value in row])
        comma = Markup(",")


def _encoded(value: object) -> Markup:
    """Return JSON in which nothing can end the element that it stands in."""
    return _markup([msgspec.json.encode(value).decode().translate(_IN_SCRIPT)])
