"""The backends of two configs, and what goes between them, as parts of a page: plans and reports show the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from reconcile.formatting import count
from reconcile.planning.model import ConfigReference
from reconcile.planning.render import backend_text
from reconcile.rendering.pages import BYTES, CODE, NAME, NUMBER, Band, Column, Row, Section, Table

Places = dict[str, tuple[str, str]]


def places_of(source: ConfigReference, dest: ConfigReference) -> Places:
    """Return what people call each backend: its driver with where it is, and its section."""
    named = {f"catalog.{driver}": (driver, "catalog's tables") for driver in ("db", "db2")}
    for side, reference in (("source", source), ("dest", dest)):
        for role, backend in reference.backends.items():
            settings = backend["settings"]
            where = next(
                (str(settings[k]) for k in ("bucket", "container", "archive_data_dir") if k in settings), "database"
            )
            named[f"{side}.{role}"] = (f"{backend['driver']}: {where}", role.replace("_", " "))
    return named


def called(name: str, places: Places) -> tuple[str, str]:
    """Return what people call one place; a former bucket or data dir has the driver of the backend that reads it."""
    configured, at, where = name.partition("@")
    driver, section = places.get(configured, (configured, ""))
    return (f"{driver.partition(':')[0]}: {where}", f"{section}, formerly") if at else (driver, section)


def drivers_of(names: Iterable[str], places: Places) -> str:
    """Return the drivers of some backends, for a headline."""
    return " and ".join(sorted({called(name, places)[0].partition(":")[0] for name in names}))


def flows_section(bands: Sequence[Band], unsized: int, rest: str) -> Section:
    """Return the table of what goes from where to where."""
    rows = [(b.source, b.dest, b.bucket, b.documents, b.bytes) for b in bands]
    text = (f"{count(unsized)} of unknown size are counted with 0 bytes.",) if unsized else ()
    columns = (
        *(Column("From", CODE), Column("To", CODE), Column("Logical bucket", NAME)),
        *(Column("Documents", NUMBER), Column("Bytes", BYTES)),
    )
    table = Table("flows", columns, lambda: rows, len(rows), f"All of them are in {rest}.", few=100)
    return Section("What goes where", text, table=table)


def backends_text(reference: ConfigReference) -> str:
    """Return a config's path and backends on one line."""
    backends = "; ".join(f"{role} {backend_text(backend)}" for role, backend in reference.backends.items())
    return f"{reference.path}: {backends}"


def backends_section(source: ConfigReference, dest: ConfigReference) -> Section:
    """Return the table of the backends of both configs."""
    rows = [*_backend_rows("from", source), *_backend_rows("to", dest)]
    columns = (Column("Side"), Column("Section", CODE), Column("Backend", NAME))
    return Section("Backends", table=Table("backends", columns, lambda: rows, len(rows), ""))


def _backend_rows(word: str, reference: ConfigReference) -> list[Row]:
    backends: dict[str, Any] = reference.backends
    return [(word, role, backend_text(backend)) for role, backend in backends.items()]
