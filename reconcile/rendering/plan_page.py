"""A plan as a page, from its file alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reconcile.commands import command_line, copy_line, undo_run
from reconcile.formatting import count, human_bytes, human_seconds
from reconcile.planning.approval import signature_file
from reconcile.planning.model import Flow, Forecast, PlanHeader
from reconcile.planning.planfile import PlanFile, undo_path
from reconcile.planning.render import (
    PROBED,
    bytes_text,
    duration_text,
    meaning_of,
    requests_text,
    sources_text,
    space_text,
    written_with,
)
from reconcile.planning.scope import scope_text
from reconcile.rendering.backends import backends_text, drivers_of, flows_section, places_of
from reconcile.rendering.pages import BYTES, CODE, NAME, NUMBER, Band, Column, Page, Row, Section, Table, Tile, Verdict

_FEW_MOVES = 30
_ACTIONS = {None: "copy", "adopt": "adopt what is there", "overwrite": "replace what is there"}


def plan_page(plan: PlanFile, digest: str) -> Page:
    """Return the page of a plan; ``digest`` is the one of its file."""
    header = plan.header
    summary = header.summary
    bands = [Band(flow.source, flow.bucket, flow.dest, flow.documents, flow.bytes) for flow in summary.flows]
    sections = [_how(plan, digest)]
    if summary.blocked.documents:
        sections += [_reasons(header), _blockers(plan)]
    sections.append(flows_section(bands, _unsized(summary.flows), str(plan.path)))
    sections.append(_change(header))
    if summary.forecast is not None and summary.moves.documents:
        sections.append(_forecast(summary.forecast))
    sections.append(_moves(plan))
    return Page(
        kind="Undo plan" if header.undo_of else "Plan",
        title=_title(header),
        verdict=_verdict(header),
        facts=(*_facts(header), *_approval(plan.path)),
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


def _approval(plan: Path) -> Iterator[tuple[str, str]]:
    file = signature_file(plan)
    if file.exists():
        yield "approval", f"{file} exists; apply --require-approval ALLOWED_SIGNERS verifies who signed it"


def _verdict(header: PlanHeader) -> Verdict:
    """Say whether the plan may be approved as it is."""
    summary = header.summary
    if summary.blocked.documents:
        blocked = count(summary.blocked.documents, "document is", "documents are")
        return Verdict(
            "bad",
            f"{blocked} blocked",
            ("With --leave-blocked they stay where they are; without it the plan is not applied.",),
        )
    if not summary.moves.documents:
        return Verdict("good", "Nothing to do: every document is in place")
    if header.undo_of:
        return Verdict("good", "Ready", ("It restores every row as the run's record has it.",))
    open_questions = []
    if summary.probed is None:
        open_questions.append("The stores were not checked: plan --probe exists finds what is missing or in the way.")
    if summary.unreadable_after:
        unreadable = count(summary.unreadable_after)
        open_questions.append(f"Afterwards, services with the destination config could not read {unreadable}.")
    if summary.forecast is None or summary.forecast.duration is None:
        open_questions.append("The duration is not forecast: plan --rates FILE uses what reconcile check measured.")
    open_questions += [note for note in summary.notes if note.startswith("WARNING")]
    if open_questions:
        return Verdict("attention", "Ready, with open questions", tuple(open_questions))
    return Verdict("good", "Ready", ("The stores were checked; nothing is in the way.",))


def _title(header: PlanHeader) -> str:
    summary = header.summary
    if not summary.moves.documents:
        return "nothing to move"
    places = places_of(header.source, header.dest)
    froms, tos = ({getattr(flow, side) for flow in summary.flows} for side in ("source", "dest"))
    where = f"from {drivers_of(froms, places)} to {drivers_of(tos, places)}"
    amount = f"{count(summary.moves.documents)}, {human_bytes(summary.moves.bytes)}"
    return f"move {amount} back {where}" if header.undo_of else f"move {amount} {where}"


def _facts(header: PlanHeader) -> Iterator[tuple[str, str]]:
    summary = header.summary
    database = header.database
    if header.planned_by:
        yield "planned by", header.planned_by
    if header.undo_of:
        yield "undoes run", header.undo_of
    yield "database", f"{database.get('kind')} {database.get('path') or database.get('database')}"
    yield "from", backends_text(header.source)
    yield "to", backends_text(header.dest)
    scope = scope_text(header.scope)
    if scope:
        yield "only", scope
    if not header.undo_of:
        yield "probed", PROBED.get(header.summary.probed, str(header.summary.probed))
    yield "in place", f"{summary.in_place.documents:,}, {_amount(summary.in_place.bytes, summary.in_place.unsized)}"
    if summary.other_encoding:
        yield "other encoding", f"{summary.other_encoding:,} of those in place"
    if summary.beyond_limit:
        yield "beyond --limit", f"{count(summary.beyond_limit)}, left for another plan"
    if summary.database_growth:
        yield "database grows by", human_bytes(summary.database_growth)
    yield "sources", sources_text(header)
    if header.policy.s3_put:
        yield "to S3 with", written_with(header)
    policies = ("limited", "with_changes", "allow_unreadable", "overwrite")
    chosen = [name.replace("_", " ") for name in policies if getattr(header.policy, name)]
    if chosen:
        yield "policy", ", ".join(chosen)


def _tiles(header: PlanHeader) -> Iterator[Tile]:
    summary = header.summary
    yield Tile("Move", f"{summary.moves.documents:,}", _amount(summary.moves.bytes, summary.moves.unsized))
    kept = sum(flow.documents for flow in summary.flows if header.policy.keeps(flow.source))
    deleted = 0 if header.policy.keep_source else summary.moves.documents - kept
    what = "copies, after the rows are restored" if header.undo_of else "sources, after the switch"
    yield Tile("Delete", f"{deleted:,}", what if deleted else "nothing", is_warning=bool(deleted))
    yield _downtime(header)
    if not summary.moves.documents:
        return
    if header.undo_of:
        yield Tile("Forward again", "possible", "by applying the first plan again")
    else:
        yield Tile(
            "Undo", "possible", "at any time, until reconcile forget; what services write later needs --with-changes"
        )


def _downtime(header: PlanHeader) -> Tile:
    forecast = header.summary.forecast
    if not header.summary.moves.documents:
        return Tile("Downtime", "none", "nothing to do")
    if forecast is None or forecast.duration is None:
        return Tile("Downtime", "not forecast", "with --stage-only beforehand: seconds to minutes")
    took = forecast.duration
    more = f"deleting sources takes {human_seconds(took.clean)} more, while services run"
    return Tile(
        "Downtime", human_seconds(took.stage), f"at the measured rates; shorter with --stage-only beforehand; {more}"
    )


def _amount(size: int, unsized: int) -> str:
    return human_bytes(size) + (f" and {unsized:,} of unknown size" if unsized else "")


def _unsized(flows: Iterable[Flow]) -> int:
    return sum(flow.unsized for flow in flows)


def _reasons(header: PlanHeader) -> Section:
    counts = header.summary.blocked_by_reason
    rows = [(code, meaning_of(code), number) for code, number in counts.items()]
    columns = (Column("Reason", CODE), Column("Meaning"), Column("Documents", NUMBER))
    text = (
        "These documents cannot move. With --leave-blocked, apply leaves them where they are; without it, it refuses.",
    )
    table = Table("reasons", columns, lambda: rows, len(rows), "All are in the plan's file.")
    return Section("What is in the way", text, table=table)


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
    text = [
        line if line.startswith(("source.", "dest.", "catalog.")) else f"{line[:1].upper()}{line[1:]}" for line in said
    ]
    rows = [(requests.backend, requests.driver, requests_text(requests)) for requests in forecast.requests]
    columns = (Column("Backend", CODE), Column("Driver"), Column("Requests"))
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
    rest = f"All of them: {command_line('show', plan.path, moves=True)}."
    return Section("Moves", table=Table("moves", columns, rows, total, rest, few=_FEW_MOVES), is_folded=True)


def _how(plan: PlanFile, digest: str) -> Section:
    header, path = plan.header, plan.path.absolute()  # the page is read in other directories
    if not header.summary.moves.documents:
        return Section("How to apply it", ("No document has to move: there is nothing to apply.", f"Digest: {digest}"))
    if header.undo_of:
        commands: tuple[tuple[str, str], ...] = (("Undo it, with services stopped", command_line("undo", path)),)
    else:
        commands = tuple(_steps(header, path, digest))
    asked = [f"Digest: {digest}"]
    if header.note:
        asked.append(f"Note by its maker: {header.note}")
    asked.append("Ticket: ____________________   Approved by: ____________________   Date: ______________")
    return Section("How to apply it", tuple(asked), commands)


def _steps(header: PlanHeader, path: Path, digest: str) -> Iterator[tuple[str, str]]:
    """Yield what is typed, one after the other: apply, the new config into the old one's place, and the way back."""
    leave, (own, new) = bool(header.summary.blocked.documents), (header.source.path, header.dest.path)
    apply = command_line("apply", path, leave_blocked=leave, expect_digest=digest)
    yield "Apply exactly this plan, with services stopped; if interrupted, the same command resumes", apply
    if header.summary.unreadable_after:
        yield "Undo it afterwards", undo_run(str(undo_path(path)), new, own)
        return
    old = Path(own).with_name(f"{Path(own).stem}.old{Path(own).suffix}")
    yield "Keep the services' config", copy_line(Path(own), old)
    yield "Put the new one in its place, and start the services", copy_line(Path(new), Path(own))
    yield "Undo it afterwards, with services stopped", undo_run(str(undo_path(path)), own, old)


def _change(header: PlanHeader) -> Section:
    """Return what the config says then against what it says now, credentials left out."""
    then, now = (dict(_flat(reference.backends)) for reference in (header.source, header.dest))
    rows: list[Row] = [
        (key, _said(then.get(key)), _said(now.get(key)))
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
    ]
    before, after = (Path(reference.path).name for reference in (header.source, header.dest))
    columns = (
        *(Column("Setting", CODE), Column(f"Until now ({before})", NAME)),
        Column(f"From then on ({after})", NAME),
    )
    text = ("Credentials are omitted.",) if rows else ("The two configs are equal.",)
    return Section("What changes in the config", text, table=Table("config", columns, lambda: rows, len(rows), ""))


def _flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _said(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
