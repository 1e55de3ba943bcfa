"""A plan's summary as text for a terminal, or as plain data for JSON. From the file alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import msgspec

from reconcile.formatting import count, human_bytes, human_seconds, noted
from reconcile.logs import printable
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import REASONS, Duration, Flow, Forecast, PlanHeader, Requests, Tally
from reconcile.planning.planfile import PlanFile
from reconcile.planning.scope import scope_text

_SHOWN = 20
PROBED = {
    None: "no: only the catalog was read; --probe checks the stores too",
    "exists": "every source is there, every destination was checked",
    "digest": "every source has the content that the catalog says, every destination was checked",
}
_KINDS = {
    "s3": ("ListObjectsV2", "HeadObject", "GetObject", "PutObject", "CopyObject", "DeleteObjects"),
    "swift": ("container GET", "object HEAD", "object GET", "object PUT", "object COPY", "bulk delete"),
    "localfs": ("directories listed", "files checked", "files read", "files written", "hard links", "files deleted"),
    "db": ("listings", "SELECT to check", "SELECT to read", "COPY", "INSERT ... SELECT", "DELETE"),
}


def meaning_of(reason: str) -> str:
    """Return what a reason's code means."""
    return REASONS.get(reason, "a reason of another version of reconcile")


def summary_data(plan: PlanFile) -> dict[str, Any]:
    """Return the header as plain data, with the file's path and digest."""
    header = attrs.asdict(plan.header)
    digest = plan.digest or plan.verify()
    return {"format_version": plan.header.format_version, "path": str(plan.path), "digest": digest, **header}


def plan_json(plan: PlanFile, *, moves: bool) -> Iterator[str]:
    """Yield the plan as one JSON document: summary, blockers, and with ``moves`` those too, a line each."""
    yield msgspec.json.encode(summary_data(plan)).decode().removesuffix("}")
    for name, items in (("blockers", plan.blockers()), ("moves", plan.moves() if moves else None)):
        if items is not None:
            yield f',"{name}":['
            yield from (f"{',' if n else ''}\n{msgspec.json.encode(item).decode()}" for n, item in enumerate(items))
            yield "]"
    yield "}\n"


def plan_text(plan: PlanFile, *, moves: bool) -> Iterator[str]:
    """Yield the summary as text, and with ``moves`` those too, a line each."""
    yield f"{summary_text(plan)}\n"
    yield from (f"{line}\n" for line in (move_text(plan) if moves else ()))


def summary_text(plan: PlanFile, found: DesiredState | None = None) -> str:
    """Return the summary as text, with the files where its configs were ``found``; those of the plan for None."""
    source, dest = (plan.header.source.path, plan.header.dest.path)
    if found is not None:
        source, dest = (str(config.path) for config in (found.source, found.dest))
    return "\n".join(_lines(plan, source, dest))


def _lines(plan: PlanFile, source: str, dest: str) -> Iterator[str]:
    header = plan.header
    summary = header.summary
    yield f"Plan {header.plan_id}" + (f" (undoes run {header.undo_of})" if header.undo_of else "")
    by = f" by {printable(header.planned_by)}" if header.planned_by else ""
    yield f"  made {header.created_at}{by} for {_database(header)}"
    if header.note:
        yield f"  note by its maker: {printable(header.note)}"
    if plan.digest is not None:
        yield f"  digest {plan.digest}"
    yield from _backends("from", header.source.backends, source)
    yield from _backends("to", header.dest.backends, dest)
    scope = scope_text(header.scope)
    if scope:
        yield f"  only {printable(scope)}"
    yield ""
    yield f"  to move   {_tally(summary.moves)}"
    yield from _flows(summary.flows)
    if summary.adopted:
        yield f"    {summary.adopted:,} of them are at their destination already: adopted, not copied"
    if summary.overwritten:
        yield f"    {summary.overwritten:,} of them replace other content there (--overwrite)"
    yield f"  in place  {_tally(summary.in_place)}" + (
        f", {summary.other_encoding:,} in the other encoding" if summary.other_encoding else ""
    )
    yield f"  blocked   {_tally(summary.blocked)}"
    for reason, documents in summary.blocked_by_reason.items():
        yield f"    {documents:,} {reason}: {meaning_of(reason)}"
    yield from _blockers(plan)
    if summary.beyond_limit:
        yield f"  beyond --limit  {count(summary.beyond_limit)}"
    yield from _policy(header)
    if summary.forecast is not None and summary.moves.documents:
        yield from _forecast(summary.forecast)
    for note in summary.notes:
        yield f"  {noted(note)}"
    yield ""


def _policy(header: PlanHeader) -> Iterator[str]:
    if header.undo_of is None:  # an undo goes by the record of its run
        yield f"  probed    {PROBED.get(header.summary.probed, header.summary.probed)}"
    yield f"  sources   {sources_text(header)}"
    if header.policy.s3_put:
        yield f"  to S3     with {written_with(header)}"


def sources_text(header: PlanHeader) -> str:
    """Return what happens to the sources."""
    if header.policy.keep_source:
        return "kept"
    kept = sum(flow.documents for flow in header.summary.flows if header.policy.keeps(flow.source))
    but = f", except {count(kept)} at places that the source config does not name (--clean-elsewhere)" if kept else ""
    return f"deleted after the switch{but}"


def written_with(header: PlanHeader) -> str:
    """Return what objects are written to S3 with."""
    return printable(", ".join(f"{key}={value}" for key, value in header.policy.s3_put.items()))


def _forecast(forecast: Forecast) -> Iterator[str]:
    yield "  forecast"
    yield f"    {bytes_text(forecast)}"
    for name, asked in ((f"{r.backend} ({r.driver})", requests_text(r)) for r in forecast.requests):
        yield f"    {name}: {asked}"
    yield f"    {space_text(forecast)}"
    if forecast.duration is not None:
        yield f"    {duration_text(forecast.duration)}"
        yield from (f"      {line}" for line in forecast.duration.rests_on)


def bytes_text(forecast: Forecast) -> str:
    """Return what is read and written, in a sentence."""
    by_server = forecast.bytes_by_server
    text = f"{human_bytes(forecast.bytes_to_read)} to read, {human_bytes(forecast.bytes_to_write)} to write"
    text += f", {human_bytes(by_server)} copied by the stores themselves" if by_server else ""
    return text + (
        f"; {count(forecast.recoded, 'document changes its encoding', 'documents change their encoding')}, and size"
        if forecast.recoded
        else ""
    )


def requests_text(requests: Requests) -> str:
    """Return what a backend is asked for, by the names that its driver has for it."""
    numbers = (requests.list, requests.look, requests.read, requests.write, requests.copy, requests.delete)
    kinds = _KINDS.get(requests.driver, _KINDS["db"])
    return ", ".join(f"{number:,} {kind}" for number, kind in zip(numbers, kinds, strict=True) if number)


def space_text(forecast: Forecast) -> str:
    """Return what is needed at the destinations, in a sentence."""
    needed = [f"{human_bytes(size)} at {name}" for name, size in forecast.space.items()]
    return f"space: {', '.join([*needed, f'about {human_bytes(forecast.work_tables)} for the record in the database'])}"


def duration_text(duration: Duration) -> str:
    """Return how long it takes, in a sentence that says that it is an estimate."""
    total = human_seconds(duration.stage + duration.clean)
    stage, clean = human_seconds(duration.stage), human_seconds(duration.clean)
    return f"estimate: {total} (stage {stage}, clean {clean}), at the rates that were measured:"


def _database(header: PlanHeader) -> str:
    database = header.database
    return f"{database.get('kind')} database {database.get('path') or database.get('database')}"


def _backends(word: str, backends: dict[str, Any], path: str) -> Iterator[str]:
    yield f"  {word} {path}"
    for role, backend in backends.items():
        yield f"    {role}: {backend_text(backend)}"


def backend_text(backend: dict[str, Any] | None) -> str:
    """Return what a plan recorded of a backend, for people."""
    if backend is None:
        return "not there"
    settings = ", ".join(f"{key}={value}" for key, value in backend["settings"].items())
    compression = backend["compression"]
    packed = f", compressed above {compression['min_size_kbytes']} KiB" if compression["enabled"] else ""
    return f"{backend['driver']}{f' ({settings})' if settings else ''}{packed}"


def _tally(tally: Tally) -> str:
    text = f"{count(tally.documents)}, {human_bytes(tally.bytes)}"
    return text + (f" and {tally.unsized:,} of unknown size" if tally.unsized else "")


def _flows(flows: list[Flow]) -> Iterator[str]:
    """Yield a table a pair of places: logical buckets, documents, bytes."""
    buckets = [printable(flow.bucket) for flow in flows]
    wide = max(map(len, buckets), default=0)
    high = max((len(f"{flow.documents:,}") for flow in flows), default=0)
    pair = None
    for flow, bucket in sorted(zip(flows, buckets, strict=True), key=lambda pair: (pair[0].source, pair[0].dest)):
        if pair != (flow.source, flow.dest):
            pair = (flow.source, flow.dest)
            yield f"    {flow.source} -> {flow.dest}"
        unsized = f" and {flow.unsized:,} of unknown size" if flow.unsized else ""
        documents = count(flow.documents).rjust(high + len(" documents"))
        yield f"      {bucket:<{wide}}  {documents}  {human_bytes(flow.bytes):>10}{unsized}"


def _blockers(plan: PlanFile) -> Iterator[str]:
    if not plan.header.summary.blocked.documents:
        return
    for number, blocker in enumerate(plan.blockers()):
        if number == _SHOWN:
            yield f"      and {plan.header.summary.blocked.documents - _SHOWN:,} more, in the plan's file"
            return
        name = f"{blocker.userId}/{blocker.bucket}/{blocker.archiveId}"
        yield f"      {printable(name)}: {blocker.reason}: {printable(blocker.detail)}"


def move_text(plan: PlanFile) -> Iterator[str]:
    """Yield a line a move."""
    for move in plan.moves():
        action = f"  ({move.action})" if move.action else ""
        yield f"{printable(move.before.content_url)} -> {printable(move.after.content_url)}{action}"
