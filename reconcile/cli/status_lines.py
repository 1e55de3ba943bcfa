"""A run's status as lines: one while it is watched, some in place on a terminal, a screen of them otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from reconcile.catalog import Catalog
from reconcile.formatting import count, human_bytes, time_text
from reconcile.logs import printable
from reconcile.running.older import older_than_stores
from reconcile.running.record.details import troubles
from reconcile.running.record.next_steps import apply_command, resume_command, undo_command
from reconcile.running.record.records import RunRecord, find_runs
from reconcile.running.record.samples import last_progress
from reconcile.running.record.states import MoveState, Removal, RunState
from reconcile.running.record.status import PHASES, Status, is_in_charge
from reconcile.throughput import Rate, duration_text

_SHOWN_ON_SCREEN = 8
_SILENT_SECONDS = 15  # without a document done: a sample is taken every five
_AT = ", at "  # before how fast it is, which stands in a line of its own where it is shown in place
_DONE: dict[str, str] = {
    RunState.STAGING: "documents are staged",
    RunState.SWITCHED: "sources are processed",
    RunState.UNDOING: "copies are deleted",
}
_REMOVALS: dict[str, str] = {Removal.MARKED: "being deleted"}


def one_line(status: Status, rate: Rate | None) -> str:
    """Return how far a run is, in one line."""
    done, total = status.done, status.total
    doing = status.doing or status.record.state
    text = f"{datetime.now(UTC):%H:%M:%S} {doing}: {done.documents:,} of {total.documents:,} documents"
    return f"{text}, {human_bytes(done.bytes)} of {human_bytes(total.bytes)}" + "".join(_pace(status, rate))


def _pace(status: Status, rate: Rate | None) -> Iterator[str]:
    if not status.is_finished and rate is not None and status.holder is not None:
        yield f"{_AT}{rate.documents_per_second:.0f} documents/s, {human_bytes(rate.bytes_per_second)}/s"
        left = rate.seconds_for(status.total.documents - status.done.documents)
        if left is not None:
            yield f", {duration_text(left)} left"
    if not status.is_finished and status.holder is None:
        yield "; no process is working on it"


def lines_in_place(status: Status, rate: Rate | None) -> Iterator[str]:
    """Yield what a terminal shows while it is watched."""
    first, *pace = one_line(status, rate).split(_AT)
    yield first
    yield from (f"         {rest}" for rest in pace)
    yield ""
    yield from _head(status)
    yield from _next(status.next_step)


def _head(status: Status) -> Iterator[str]:
    record = status.record
    yield from _rest(status)
    given_up = record.undo_of is not None and record.state == RunState.UNDONE
    phase = "abandoned; the run it was to undo is unchanged" if given_up else PHASES[record.state]
    if record.state == RunState.UNDOING and record.switched_at is None:
        phase += "; the catalog is unchanged"
    yield f"run {record.run_id}: {phase}" + (f" (undoes run {record.undo_of})" if record.undo_of else "")
    yield f"  plan     {record.plan_path}"
    yield from _times(record)
    for state, tally in status.documents.items():
        if state == MoveState.PLANNED and record.state == RunState.UNDONE:
            continue  # nobody is going to
        name = "to stage" if state == MoveState.PLANNED else state
        by = f", by {time_text(record.staged_at)}" if state == MoveState.STAGED and record.staged_at else ""
        yield f"  {name:<8} {count(tally.documents)}, {human_bytes(tally.bytes)}{by}"
    deleted = "sources" if record.switched_at is not None and record.undo_of is None else "copies"
    for state, documents in status.sources.items():
        yield f"  {deleted} {_REMOVALS.get(state, state)}: {documents:,}"
    if record.keep_source:
        yield "  sources kept by policy: all"
    if record.approved:
        yield f"  approved {printable(record.approved)}"
    if record.remark:
        yield f"  remark   {printable(record.remark)}"
    if status.doing:
        yield f"  now      {status.doing}"
    if not status.is_finished:
        yield f"  executor {record.executor}, {_at_work(status)}"
    yield from _workers(status)


def _workers(status: Status) -> Iterator[str]:
    """Say who works for the executor, how fast, and when each was last heard of."""
    if status.doing is None or status.record.engine is None:
        return
    yield f"  engine   {printable(status.record.engine)}, {count(len(status.workers), 'worker')} so far"
    for worker in status.workers[:_SHOWN_ON_SCREEN]:
        pace = f"{count(worker.documents)}, {worker.documents_per_second:.0f}/s"
        yield f"    {printable(worker.worker)}: {pace}, last seen {duration_text(status.at - worker.seen_at)} ago"
    if len(status.workers) > _SHOWN_ON_SCREEN:
        yield "    and more: --format json lists them"


def _rest(status: Status) -> Iterator[str]:
    """Say that nobody is at work although something is left to do."""
    record = status.record
    if status.rest is None:
        return
    what = _DONE.get(record.state, "documents are done")
    if record.undo_of is not None and record.state == RunState.SWITCHED:
        what = "copies are processed"
    yield f"{status.rest}; {status.achieved.documents:,} of {status.total.documents:,} {what}"


def screen(catalog: Catalog, status: Status) -> Iterator[str]:
    """Yield what is shown of a run that is not watched."""
    yield from _head(status)
    if status.doing is not None:
        yield from _silence(catalog, status)
    if status.average is not None and not status.is_at_rest:
        left = status.average.seconds_for(status.total.documents - status.done.documents)
        about = "" if left is None else f", about {duration_text(left)} of staging left"
        yield f"  rate     {status.average.documents_per_second:,.0f} documents/s since the run began{about}"
    yield from _troubles(catalog, status.record)
    yield from _standing(catalog, status.record)
    older = older_than_stores(catalog, status.record) if status.holder is None else None
    if older is not None:
        yield older
    steps = apply_command(status.record) if older else status.next_step
    yield from _next(steps)
    for other in status.others:
        if other.switched_at is None:
            yield f"also unfinished: run {other.run_id}: {undo_command(other)}    deletes its copies"
        else:
            yield f"also unfinished: run {other.run_id}: {resume_command(other)}    deletes the sources that are left"


def _standing(catalog: Catalog, record: RunRecord) -> Iterator[str]:
    """Say which other run the catalog is as, where this one did not lead it anywhere."""
    if record.switched_at is not None and record.state != RunState.UNDONE:
        return
    found = find_runs(catalog)
    for other in (other for other in found if is_in_charge(other, found) and other.undo_of != record.run_id):
        at = time_text(other.switched_at or 0)
        yield f"  catalog  run {other.run_id} switched it at {at}: services need what {other.header.dest.path} says"


def _silence(catalog: Catalog, status: Status) -> Iterator[str]:
    """Say that nothing was done for long."""
    last = last_progress(catalog, status.record.run_id, status.doing or "")
    if last is not None and status.at - last >= _SILENT_SECONDS:
        yield (
            f"  WAITING  no document was finished for {duration_text(status.at - last)}: a store or the "
            "database is slow"
        )


def _next(steps: str) -> Iterator[str]:
    yield "next: " + steps.replace("\n", "\n      ")


def _at_work(status: Status) -> str:
    if status.holder is None:
        return "not running: no process holds the lock"
    other = " (or another run is)" if status.others else ""
    return f"running{other}: the lock is held by {printable(status.holder)}"


def _times(record: RunRecord) -> Iterator[str]:
    times = (
        ("begun", record.created_at),
        ("switched", record.switched_at),
        ("ended", record.finished_at),
    )
    for name, at in times:
        if at is not None:
            yield f"  {name:<8} {time_text(at)}"


def _troubles(catalog: Catalog, record: RunRecord) -> Iterator[str]:
    for number, (name, why) in enumerate(troubles(catalog, record.run_id, _SHOWN_ON_SCREEN + 1)):
        if number == _SHOWN_ON_SCREEN:
            yield "    and more: --format json lists them"
            break
        yield f"    {printable(name)}: {printable(why)}"
