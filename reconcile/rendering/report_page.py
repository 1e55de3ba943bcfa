"""What a run did, as a page."""

from __future__ import annotations

from collections.abc import Iterator

from reconcile.commands import undo_run
from reconcile.formatting import count, human_bytes, human_seconds, time_text
from reconcile.planning.render import meaning_of
from reconcile.rendering.backends import backends_section, backends_text, drivers_of, flows_section, places_of
from reconcile.rendering.pages import (
    BYTES,
    CODE,
    NAME,
    NUMBER,
    Band,
    Column,
    Page,
    Plot,
    Point,
    Row,
    Section,
    Table,
    Tile,
    Verdict,
)
from reconcile.running.record.report import Report, is_switched
from reconcile.running.record.states import MoveState, Removal, RunState

_STATES = {
    RunState.STAGING: "unfinished: the catalog is unchanged",
    RunState.SWITCHED: "switched; not all sources are deleted yet",
    RunState.DONE: "done",
    RunState.UNDOING: "being undone",
    RunState.UNDONE: "undone",
}
_MOVE_STATES = {MoveState.PLANNED: "to stage"}


def report_page(report: Report) -> Page:
    """Return the page of a report."""
    bands = [Band(row.source, row.bucket, row.dest, row.documents, row.bytes_before) for row in report.moved]
    sections = [_next(report), _phases(report), flows_section(bands, 0, "the work table reconcile_moves")]
    if report.sources:
        sections.append(_sources(report))
    if report.left:
        sections += [_left(report), _left_named(report)]
    sections.append(backends_section(report.source, report.dest))
    if report.space:
        sections += [_space(report), *_space_commands(report)]
    return Page(
        kind="Undo report" if report.undo_of else "Report",
        title=_title(report),
        verdict=_verdict(report),
        facts=tuple(_facts(report)),
        tiles=tuple(_tiles(report)),
        notes=(report.remark,) if report.remark else (),
        bands=tuple(bands),
        places=places_of(report.source, report.dest),
        sections=tuple(sections),
        footer=tuple(_footer(report)),
    )


def _verdict(report: Report) -> Verdict:
    left = sum(row.documents for row in report.left)
    switched = report.phases[1].ended_at
    reasons = []
    if switched is not None:
        reasons.append(f"Switched at {time_text(switched)}.")
    if left:
        reasons.append(f"{count(left, 'document was', 'documents were')} not moved.")
    kind = {RunState.DONE: "good", RunState.UNDONE: "good"}.get(report.state, "attention")
    if left and report.state == RunState.DONE:
        kind = "attention"
    state = _STATES[report.state]
    return Verdict(kind, f"{state[:1].upper()}{state[1:]}", tuple(reasons))


def _title(report: Report) -> str:
    documents, size = _moved(report)
    places = places_of(report.source, report.dest)
    froms, tos = ({getattr(row, side) for row in report.moved} for side in ("source", "dest"))
    where = f" from {drivers_of(froms, places)} to {drivers_of(tos, places)}" if report.moved else ""
    amount = f"{count(documents)}, {human_bytes(size)}"
    if report.state == RunState.STAGING:
        return f"unfinished: {amount} staged{where}, nothing switched"
    if report.state == RunState.UNDONE and report.phases[1].ended_at is None:
        how = "an abandoned undo" if report.undo_of else "undone"
        return f"{how} before the switch: its copies were deleted"
    if report.state in (RunState.UNDONE, RunState.UNDOING):
        return f"{_STATES[report.state]}: {amount}, which had been moved{where}"
    verb = "moved back" if report.undo_of else "moved"
    return f"{amount} {verb}{where}" + (", not all sources deleted yet" if report.state == RunState.SWITCHED else "")


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "state", _STATES[report.state]
    if report.undo_of:
        yield "undoes run", report.undo_of
    if report.undone_by:
        yield "undo runs", ", ".join(report.undone_by)
    yield "last executed by", f"{report.executor} (user@host:process)"
    if report.engine:
        yield "staged by", f"{report.engine}, {count(len(report.workers), 'worker')}"
    if report.approved:
        yield "approved by", report.approved
    yield "begun", time_text(report.begun_at)
    yield (
        "documents",
        ", ".join(f"{number:,} {_MOVE_STATES.get(state, state)}" for state, number in report.states.items()),
    )
    database = report.database
    yield "database", f"{database.get('kind')} {database.get('path') or database.get('database')}"
    yield "from", backends_text(report.source)
    yield "to", backends_text(report.dest)
    yield "downtime", _downtime(report)


def _downtime(report: Report) -> str:
    downtime = report.downtime
    if downtime.seconds is None or downtime.last_heartbeat is None:
        return downtime.explanation
    return f"{human_seconds(downtime.seconds)}: {downtime.explanation} ({time_text(downtime.last_heartbeat)})"


def _tiles(report: Report) -> Iterator[Tile]:
    documents, size = _moved(report)
    adopted = sum(row.adopted for row in report.moved)
    detail = human_bytes(size) + (f", {adopted:,} of them adopted" if adopted else "")
    undone = report.state in (RunState.UNDONE, RunState.UNDOING)
    label = "Moved" if is_switched(report) else "Undone" if undone else "Staged"
    yield Tile(label, f"{documents:,}", detail)
    left = sum(row.documents for row in report.left)
    if left:
        yield Tile("Left", f"{left:,}", "listed below", is_warning=True)
    deleted, kept = (
        sum(s.documents for s in report.sources if s.fate == fate) for fate in (Removal.DELETED, Removal.KEPT)
    )
    if undone:
        yield Tile("Sources", "as before" if report.state == RunState.UNDONE else "being moved back")
    else:
        what = "Copies deleted" if report.undo_of else "Sources deleted"
        yield Tile(what, f"{deleted:,}", f"{kept:,} kept" if kept else "")
    seconds = report.downtime.seconds
    if seconds is None:
        yield Tile("Downtime", "not known", report.downtime.explanation.removeprefix("unknown: "))
    else:
        yield Tile("Downtime", human_seconds(seconds), "last heartbeat to switch")
    if report.undo is not None and report.undo_of:
        yield Tile("Undo", "unfinished", "it can be resumed or abandoned")
    elif report.undo is not None:
        yield Tile("Undo", "possible", "at any time, until reconcile forget")
    else:
        yield Tile("Undo", "none", "it is an undo itself" if report.undo_of else "it is undone")


def _moved(report: Report) -> tuple[int, int]:
    return sum(row.documents for row in report.moved), sum(row.bytes_before for row in report.moved)


def _phases(report: Report) -> Section:
    rows: list[Row] = [
        (
            phase.name,
            time_text(phase.ended_at) if phase.ended_at is not None else "",
            human_seconds(phase.seconds) if phase.seconds is not None else "not known",
        )
        for phase in report.phases
    ]
    table = Table("phases", (Column("Phase"), Column("Ended"), Column("Took")), lambda: rows, len(rows), "")
    text = (
        "Pauses are included: those of an interrupted run, and the wait for heartbeats to expire before the switch.",
    )
    points = tuple(Point(speed.at, speed.documents_per_second, speed.phase) for speed in report.speeds)
    return Section("How long it took", text, table=table, plot=Plot("documents a second", points))


def _sources(report: Report) -> Section:
    rows: list[Row] = [(s.fate, s.reason, s.documents, s.bytes) for s in report.sources]
    columns = (Column("Sources"), Column("Reason", NAME), Column("Documents", NUMBER), Column("Bytes", BYTES))
    text = ("Until the run was undone.",) if report.state in (RunState.UNDONE, RunState.UNDOING) else ()
    return Section("Outcome of the sources", text, table=Table("sources", columns, lambda: rows, len(rows), ""))


def _left(report: Report) -> Section:
    rows: list[Row] = [(row.state, row.reason, meaning_of(row.reason), row.documents) for row in report.left]
    columns = (Column("State"), Column("Reason", CODE), Column("Meaning"), Column("Documents", NUMBER))
    table = Table("reasons", columns, lambda: rows, len(rows), "")
    return Section("What was not moved", ("These documents are where they were.",), table=table)


def _left_named(report: Report) -> Section:
    rows: list[Row] = [(d.document, d.state, d.reason, d.detail, d.url, d.bytes) for d in report.left_named]
    total = sum(row.documents for row in report.left)
    columns = (
        *(Column("Document", NAME), Column("State"), Column("Reason", CODE), Column("Detail", NAME)),
        *(Column("URL", NAME), Column("Bytes", BYTES)),
    )
    text = (
        (f"The first {len(rows):,} of {total:,}; all are in the work table reconcile_moves.",)
        if total > len(rows)
        else ()
    )
    rest = "All are in the work table reconcile_moves."
    return Section("Documents not moved", text, table=Table("left", columns, lambda: rows, len(rows), rest))


def _space(report: Report) -> Section:
    rows: list[Row] = [(s.table, s.table_bytes, s.live_bytes, s.reclaimable_bytes, s.index_bytes) for s in report.space]
    columns = (
        *(Column("Table", NAME), Column("Takes", BYTES), Column("Rows left in it", BYTES)),
        *(Column("Reclaimable", BYTES), Column("Indexes", BYTES)),
    )
    text = ["An estimate: the table's size, TOAST included, minus the stored size of its rows."]
    undone = report.state in (RunState.UNDONE, RunState.UNDOING)
    if not undone and (report.state != RunState.DONE or any(s.fate != Removal.DELETED for s in report.sources)):
        text.append("Not all sources of this run are deleted yet; deleting them frees more.")
    table = Table("space", columns, lambda: rows, len(rows), "")
    return Section("Reclaimable space in the database", tuple(text), table=table)


def _space_commands(report: Report) -> Iterator[Section]:
    for space in report.space:
        commands = tuple((f"{c.effect[0].upper()}{c.effect[1:]}. Blocks {c.blocks}", c.command) for c in space.commands)
        yield Section(f"To reclaim it from {space.table}", commands=commands)


def _next(report: Report) -> Section:
    commands = []
    if report.resume is not None:
        commands.append(("Resume it", report.resume))
    if report.undo is not None:
        given_up = "Abandon it: its copies are deleted" if report.undo_of else "Delete what is staged"
        what = "Undo it" if report.phases[1].ended_at is not None else given_up
        commands.append((what, report.undo.command))
        return Section("What can be done now", commands=tuple(commands))
    if report.undo_of is not None and report.state == RunState.UNDONE:
        again = ("Undo the run", undo_run(report.undo_of, report.source.path, report.dest.path))
        return Section("What can be done now", (f"It was abandoned; run {report.undo_of} is unchanged.",), (again,))
    said = "It is undone" if report.state == RunState.UNDONE else "It is an undo"
    apply = "Applying the plan again moves the documents again, as a new run."
    return Section("What can be done now", (f"{said}: there is nothing to undo. {apply}",))


def _footer(report: Report) -> Iterator[tuple[str, str]]:
    yield "run", report.run_id
    yield "plan", f"{report.plan_id}, {report.plan_path}"
    yield "plan digest", report.plan_digest
    if report.undo is not None and report.undo.plan_path is not None:
        yield "undo plan", report.undo.plan_path
        yield "undo digest", str(report.undo.plan_digest)
    yield "versions", f"planned by reconcile {report.planned_by}, reported by {report.reported_by}"
