"""A plan as a page, from its file alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from reconcile.planning.model import ConfigReference, Flow, Forecast, PlanHeader, Requests
from reconcile.planning.planfile import PlanFile, undo_path
from reconcile.planning.render import (
    PROBED,
    backend_text,
    bytes_text,
    duration_text,
    human_bytes,
    human_seconds,
    meaning_of,
    space_text,
)
from reconcile.rendering.pages import BYTES, NAME, NUMBER, Band, Column, Page, Row, Section, Table, Tile, count

_FEW_MOVES = 30
_KINDS = ("list", "look", "read", "write", "copy", "delete")
_ACTIONS = {None: "copy", "adopt": "adopt what is there", "overwrite": "replace what is there"}


def plan_page(plan: PlanFile, digest: str) -> Page:
    """Return the page of a plan; ``digest`` is the one of its file."""
    header = plan.header
    summary = header.summary
    bands = [Band(flow.source, flow.bucket, flow.dest, flow.documents, flow.bytes) for flow in summary.flows]
    sections = [flows_section(bands, _unsized(summary.flows), str(plan.path))]
    if summary.blocked.documents:
        sections += [_reasons(header), _blockers(plan)]
    sections.append(_backends(header))
    if summary.forecast is not None and summary.moves.documents:
        sections.append(_forecast(summary.forecast))
    sections += [_moves(plan), _how(plan)]
    return Page(
        kind="Undo plan" if header.undo_of else "Plan",
        title=_title(header),
        facts=tuple(_facts(header)),
        tiles=tuple(_tiles(header)),
        notes=tuple(summary.notes),
        bands=tuple(bands),
        places=places_of(header),
        sections=tuple(sections),
        footer=(
            ("plan", header.plan_id),
            ("digest", digest),
            ("file", str(plan.path)),
            ("made", f"{header.created_at}, by reconcile {header.tool_version}"),
        ),
    )


def places_of(header: PlanHeader) -> dict[str, tuple[str, str]]:
    """Return what people call each backend: its driver with where it is, and its section."""
    named = {f"catalog.{driver}": (driver, "tables of the catalog's database") for driver in ("db", "db2")}
    for side, reference in (("source", header.source), ("dest", header.dest)):
        for role, backend in reference.backends.items():
            settings = backend["settings"]
            where = next(
                (str(settings[k]) for k in ("bucket", "container", "archive_data_dir") if k in settings), "database"
            )
            named[f"{side}.{role}"] = (f"{backend['driver']}: {where}", role.replace("_", " "))
    return named


def flows_section(bands: Iterable[Band], unsized: int, rest: str) -> Section:
    """Return the table of what goes from where to where."""
    rows = [(b.source, b.dest, b.bucket, b.documents, b.bytes) for b in bands]
    text = (f"{count(unsized)} of unknown size count as nothing here.",) if unsized else ()
    columns = (
        *(Column("From", NAME), Column("To", NAME), Column("Logical bucket", NAME)),
        *(Column("Documents", NUMBER), Column("Bytes", BYTES)),
    )
    table = Table("flows", columns, lambda: rows, len(rows), f"All of them are in {rest}.", few=100)
    return Section("What goes where", text, table=table)


def drivers_of(names: Iterable[str], header: PlanHeader) -> str:
    """Return the drivers of some backends, for a headline."""
    places = places_of(header)
    return " and ".join(sorted({places.get(name, (name, ""))[0].partition(":")[0] for name in names}))


def _title(header: PlanHeader) -> str:
    summary = header.summary
    if not summary.moves.documents:
        return "nothing to move"
    where = (
        f"from {drivers_of((f.source for f in summary.flows), header)}"
        f" to {drivers_of((f.dest for f in summary.flows), header)}"
    )
    amount = f"{count(summary.moves.documents)}, {human_bytes(summary.moves.bytes)}"
    return f"take {amount} back {where}" if header.undo_of else f"move {amount} {where}"


def _facts(header: PlanHeader) -> Iterator[tuple[str, str]]:
    database = header.database
    if header.undo_of:
        yield "takes back run", header.undo_of
    yield "database", f"{database.get('kind')} {database.get('path') or database.get('database')}"
    yield "from", _backends_text(header.source)
    yield "to", _backends_text(header.dest)
    scope = "; ".join(f"{name} {', '.join(values)}" for name, values in header.scope.items() if values)
    if scope:
        yield "only", scope
    yield "probed", PROBED.get(header.summary.probed, str(header.summary.probed))
    yield "sources", "kept" if header.policy.keep_source else "deleted once the catalog points at the copies"
    policies = ("limited", "with_changes", "allow_unreadable", "overwrite")
    chosen = [name.replace("_", " ") for name in policies if getattr(header.policy, name)]
    if chosen:
        yield "policy", ", ".join(chosen)


def _backends_text(reference: ConfigReference) -> str:
    backends = "; ".join(f"{role} {backend_text(backend)}" for role, backend in reference.backends.items())
    return f"{reference.path}: {backends}"


def _tiles(header: PlanHeader) -> Iterator[Tile]:
    summary = header.summary
    moves, place, blocked = summary.moves, summary.in_place, summary.blocked
    yield Tile("To move", f"{moves.documents:,}", _amount(moves.bytes, moves.unsized))
    other = f", {summary.other_encoding:,} in the other encoding" if summary.other_encoding else ""
    yield Tile("In place", f"{place.documents:,}", _amount(place.bytes, place.unsized) + other)
    detail = _amount(blocked.bytes, blocked.unsized) if blocked.documents else "nothing stands in the way"
    yield Tile("Blocked", f"{blocked.documents:,}", detail, is_warning=bool(blocked.documents))
    forecast = summary.forecast
    if forecast is not None and forecast.duration is not None:
        took = forecast.duration
        yield Tile("Estimated time", human_seconds(took.stage + took.clean), "at the rates that check measured")
    elif forecast is not None:
        yield Tile(
            "Through this machine",
            human_bytes(forecast.bytes_to_read),
            "to be read; without rates of the backends no time is forecast",
        )
    else:
        yield Tile("Database grows by", human_bytes(summary.database_growth))
    if summary.beyond_limit:
        yield Tile("Beyond the limit", f"{summary.beyond_limit:,}", "documents left for another plan")
    if summary.unreadable_after:
        said = "documents that services with the destination config could not read"
        yield Tile("Unreadable afterwards", f"{summary.unreadable_after:,}", said, is_warning=True)


def _amount(size: int, unsized: int) -> str:
    return human_bytes(size) + (f" and {unsized:,} of unknown size" if unsized else "")


def _unsized(flows: Iterable[Flow]) -> int:
    return sum(flow.unsized for flow in flows)


def _backends(header: PlanHeader) -> Section:
    rows = [*_backend_rows("from", header.source), *_backend_rows("to", header.dest)]
    columns = (Column(""), Column("Section", NAME), Column("Backend", NAME))
    return Section("Backends", table=Table("backends", columns, lambda: rows, len(rows), ""))


def _backend_rows(word: str, reference: ConfigReference) -> list[Row]:
    backends: dict[str, Any] = reference.backends
    return [(word, role, backend_text(backend)) for role, backend in backends.items()]


def _reasons(header: PlanHeader) -> Section:
    counts = header.summary.blocked_by_reason
    rows = [(code, meaning_of(code), number) for code, number in counts.items()]
    columns = (Column("Reason", NAME), Column("Meaning"), Column("Documents", NUMBER))
    text = (
        "These documents cannot be moved. With --leave-blocked apply leaves them where they are; without it, it"
        " refuses the plan.",
    )
    table = Table("reasons", columns, lambda: rows, len(rows), "All are in the plan's file.")
    return Section("What stands in the way", text, table=table)


def _blockers(plan: PlanFile) -> Section:
    def rows() -> Iterator[Row]:
        for b in plan.blockers():
            yield (f"{b.userId}/{b.bucket}/{b.archiveId}", b.reason, b.detail, b.content_url, b.size)

    columns = (
        *(Column("Document", NAME), Column("Reason", NAME), Column("Detail", NAME)),
        *(Column("URL", NAME), Column("Bytes", BYTES)),
    )
    total = plan.header.summary.blocked.documents
    table = Table("blocked", columns, rows, total, f"All of them are in {plan.path}.", few=60)
    return Section("Blocked documents", table=table)


def _forecast(forecast: Forecast) -> Section:
    text = [bytes_text(forecast), space_text(forecast)]
    if forecast.duration is not None:
        text += [duration_text(forecast.duration), *forecast.duration.rests_on]
    rows = [_request_row(requests) for requests in forecast.requests]
    columns = (Column("Backend", NAME), Column("Driver"), *(Column(kind.capitalize(), NUMBER) for kind in _KINDS))
    table = Table("forecast", columns, lambda: rows, len(rows), "")
    capital = tuple(f"{line[0].upper()}{line[1:]}." for line in text[:2]) + tuple(text[2:])
    return Section("Forecast: requests, operations, statements", capital, table=table)


def _request_row(requests: Requests) -> Row:
    return (requests.backend, requests.driver, *(getattr(requests, kind) or None for kind in _KINDS))


def _moves(plan: PlanFile) -> Section:
    def rows() -> Iterator[Row]:
        for m in plan.moves():
            name = f"{m.userId}/{m.bucket}/{m.archiveId}"
            what = _ACTIONS.get(m.action, m.action)
            yield (name, m.before.content_url, m.after.content_url, m.before.size, what)

    columns = (
        *(Column("Document", NAME), Column("From", NAME), Column("To", NAME)),
        *(Column("Bytes", BYTES), Column("What")),
    )
    total = plan.header.summary.moves.documents
    rest = f"All of them: reconcile show {shlex.quote(str(plan.path))} --moves."
    return Section("Moves", table=Table("moves", columns, rows, total, rest, few=_FEW_MOVES))


def _how(plan: PlanFile) -> Section:
    header, path = plan.header, shlex.quote(str(plan.path))
    source, dest = shlex.quote(header.source.path), shlex.quote(header.dest.path)
    if header.undo_of:
        return Section("How to do it", commands=(("Take it back", f"reconcile undo {path}"),))
    leave = " --leave-blocked" if header.summary.blocked.documents else ""
    undo = shlex.quote(str(undo_path(plan.path)))
    return Section(
        "How to do it",
        commands=(
            ("Do it, services stopped; interrupted, the same command goes on", f"reconcile apply {path}{leave}"),
            ("Take it back afterwards", f"reconcile undo {undo} --source {dest} --dest {source}"),
        ),
    )
