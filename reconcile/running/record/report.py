"""The report of a run: who, when, how long, how much, what is left, how to undo it."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from reconcile.catalog.space import Space
from reconcile.planning.model import ConfigReference
from reconcile.running.record.crew import WorkerRecord
from reconcile.running.record.samples import Speed
from reconcile.running.record.states import MoveState, RunState

FORMAT_VERSION = "1.0"


@frozen(slots=False)
class Phase:
    """One phase: when it ended, in Unix seconds, and how many it took, pauses included; None where it has not ended."""

    name: str
    ended_at: int | None
    seconds: int | None


@frozen(slots=False)
class Downtime:
    """From the last heartbeat of a service to the committed switch, in seconds; None where it is not known, and why."""

    seconds: int | None
    last_heartbeat: int | None
    explanation: str


@frozen(slots=False)
class Moved:
    """Staged documents of one logical bucket from one backend to another. Sizes are in bytes, before and after."""

    source: str
    dest: str
    bucket: str
    documents: int
    bytes_before: int
    bytes_after: int
    adopted: int


@frozen(slots=False)
class Sources:
    """The outcome of sources: so many ``documents``. ``fate`` is deleted, kept, or left so far."""

    fate: str
    reason: str | None
    documents: int
    bytes: int


@frozen(slots=False)
class Left:
    """Documents that were not moved, by what they are (blocked, failed, changed) and why."""

    state: MoveState
    reason: str
    documents: int


@frozen(slots=False)
class LeftDocument:
    """One document that was not moved."""

    document: str
    state: MoveState
    reason: str
    detail: str | None
    url: str | None
    bytes: int | None


@frozen(slots=False)
class Undo:
    """How to undo the run: the command, and the undo plan's file where there is one."""

    command: str
    plan_path: str | None
    plan_digest: str | None


@frozen(slots=False)
class Report:
    """A run's record as a report. Times are in Unix seconds by the database's clock; ``left_named`` are the first.

    ``resume`` is the command that resumes an unfinished run.
    """

    format_version: str
    run_id: str
    state: RunState
    plan_id: str
    plan_path: str
    plan_digest: str
    undo_of: str | None
    undone_by: list[str]
    executor: str | None
    engine: str | None
    workers: list[WorkerRecord]
    approved: str | None
    planned_by: str
    reported_by: str
    database: dict[str, Any]
    source: ConfigReference
    dest: ConfigReference
    begun_at: int
    phases: list[Phase]
    downtime: Downtime
    states: dict[MoveState, int]
    moved: list[Moved]
    sources: list[Sources]
    left: list[Left]
    left_named: list[LeftDocument]
    resume: str | None
    undo: Undo | None
    space: list[Space]
    remark: str | None
    speeds: list[Speed]


def is_switched(report: Report) -> bool:
    """Tell whether the catalog points at the copies."""
    return report.phases[1].ended_at is not None and report.state not in (RunState.UNDONE, RunState.UNDOING)
