"""A plan as a page, from its file alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from reconcile.planning.model import Flow, Forecast, PlanHeader
from reconcile.planning.planfile import PlanFile, undo_path
from reconcile.planning.render import (
    PROBED,
    bytes_text,
    duration_text,
    human_bytes,
    human_seconds,
    meaning_of,
    requests_text,
    space_text,
)
from reconcile.rendering.backends import backends_section, backends_text, drivers_of, flows_section, places_of
from reconcile.rendering.pages import BYTES, CODE, NAME, NUMBER, Band, Column, Page, Row, Section, Table, Tile
from reconcile.wording import count

_FEW_MOVES = 30
_ACTIONS = {None: "copy", "adopt": "adopt what is there", "overwrite": "replace what is there"}


def plan_page(plan: PlanFile, digest: str) -> Page:
    """Return the page of a plan; ``digest`` is the one of its file."""
    header = plan.header
    summary = header.summary
    bands = [Band(flow.source, flow.bucket, flow.dest, flow.documents, flow.bytes) for flow in summary.flows]
    sections = [flows_section(bands, _unsized(summary.flows), str(plan.path))]
    if summary.blocked.documents:
        sections += [_reasons(header), _blockers(plan)]
    sections.append(backends_section(header.source, header.dest))
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
        places=places_of(header.source, header.dest),
        sections=tuple(sections),
        footer=(
            ("plan", header.plan_id),
            ("digest", digest),
            ("file", str(plan.path)),
            ("made", f"{header.created_at}, by reconcile {header.tool_version}"),
        ),
    )


def _title(header: PlanHeader) -> str:
    summary = header.summary
    if not summary.moves.documents:
        return "nothing to move"
    places = places_of(header.source, header.dest)
    froms, tos = ({getattr(flow, side) for flow in summary.flows} for side in ("source", "dest"))
    where = f"from {drivers_of(froms, places)} to {drivers_of(tos, places)}"
    amount = f"{count(summary.moves.documents)}, {human_bytes(summary.moves.bytes)}"
    return f"take {amount} back {where}" if header.undo_of else f"move {amount} {where}"


def _facts(header: PlanHeader) -> Iterator[tuple[str, str]]:
    database = header.database
    if header.undo_of:
        yield "takes back run", header.undo_of
    yield "database", f"{database.get('kind')} {database.get('path') or database.get('database')}"
    yield "from", backends_text(header.source)
    yield "to", backends_text(header.dest)
    scope = "; ".join(f"{name} {', '.join(values)}" for name, values in header.scope.items() if values)
    if scope:
        yield "only", scope
    yield "probed", PROBED.get(header.summary.probed, str(header.summary.probed))
    yield "sources", "kept" if header.policy.keep_source else "deleted once the catalog points at the copies"
    policies = ("limited", "with_changes", "allow_unreadable", "overwrite")
    chosen = [name.replace("_", " ") for name in policies if getattr(header.policy, name)]
    if chosen:
        yield "policy", ", ".join(chosen)


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


def _reasons(header: PlanHeader) -> Section:
    counts = header.summary.blocked_by_reason
    rows = [(code, meaning_of(code), number) for code, number in counts.items()]
    columns = (Column("Reason", CODE), Column("Meaning"), Column("Documents", NUMBER))
    text = ("These documents cannot be moved. With --leave-blocked apply leaves them where they are; else it refuses.",)
    table = Table("reasons", columns, lambda: rows, len(rows), "All are in the plan's file.")
    return Section("What stands in the way", text, table=table)


def _blockers(plan: PlanFile) -> Section:
    def rows() -> Iterator[Row]:
        for b in plan.blockers():
            yield (f"{b.userId}/{b.bucket}/{b.archiveId}", b.reason, b.detail, b.content_url, b.size)

    columns = (
        *(Column("Document", NAME), Column("Reason", CODE), Column("Detail", NAME)),
        *(Column("URL", NAME), Column("Bytes", BYTES)),
    )
    total = plan.header.summary.blocked.documents
    table = Table("blocked", columns, rows, total, f"All of them are in {plan.path}.", few=60)
    return Section("Blocked documents", table=table)


def _forecast(forecast: Forecast) -> Section:
    said = [bytes_text(forecast), space_text(forecast)]
    if forecast.duration is not None:
        said += [duration_text(forecast.duration), *forecast.duration.rests_on]
    text = [f"{line[:1].upper()}{line[1:]}" for line in said]
    rows = [(requests.backend, requests.driver, requests_text(requests)) for requests in forecast.requests]
    columns = (Column("Backend", CODE), Column("Driver"), Column("Is asked for"))
    table = Table("forecast", columns, lambda: rows, len(rows), "")
    return Section("Forecast", tuple(text), table=table)


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
