"""Elsewhere: parts of a run that an engine carries to workers in other processes, or on other machines.

What goes out is numbers: of the run and its attempt, of the part, of limits, and this tool's version. Workers have
configs and credentials of their own. What comes back is counts, and texts of errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

import msgspec
import sqlalchemy as sa
from attrs import asdict, define, frozen

from reconcile import errors
from reconcile._version import __version__
from reconcile.catalog import Catalog
from reconcile.catalog.lock import RunLock
from reconcile.engines import Engine, Message
from reconcile.errors import BusyError, EngineError, LostError, ReconcileError, UsageError
from reconcile.logs import printable
from reconcile.payload import LARGEST
from reconcile.planning.model import PlanHeader
from reconcile.running.record.claims import begin_parts, claimed, end_parts
from reconcile.running.record.parts import Part
from reconcile.running.record.run import Run

OVERDUE_SECONDS = 30.0  # after which it is asked whether anybody works on a part
_PATIENCE_SECONDS = 20.0
_NAMED = 5

R = TypeVar("R")

_FREE = sa.text(
    "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    " - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    " AND application_name <> 'reconcile')"  # of the workers' own some are open already
)


@frozen
class Job(Generic[R]):
    """What is to be done with parts: the name of a task that workers have, and what comes of a part of it.

    ``largest`` is a document's bytes, ``workers`` how many requests to a store each worker sends at once.
    """

    task: str
    result: type[R]
    workers: int | None = None
    largest: int = LARGEST


@define
class Elsewhere(Generic[R]):
    """Has parts of a run done by workers of an engine."""

    run: Run
    engine: Engine
    job: Job[R]
    parts: str
    patience: float | None = _PATIENCE_SECONDS

    def width(self) -> int:
        """Return how many parts the workers do at once now."""
        return self.engine.width()

    def submit(self, part: Part) -> Future[R]:
        """Have a part done by a worker."""
        assert self.run.executor is not None  # noqa: S101 - whoever leads a run executes
        answer = self.engine.submit(
            {
                "version": __version__,
                "run": self.run.run_id,
                "token": self.run.executor.token,
                "epoch": self.run.epoch,
                "task": self.job.task,
                "parts": self.parts,
                "workers": self.job.workers,
                "largest": self.job.largest,
                "part": asdict(part),
            }
        )
        result: Future[R] = Future()
        result.set_running_or_notify_cancel()
        answer.add_done_callback(lambda done: pass_on(done, result, self.job.result))
        return result

    def overdue(self, given: Mapping[int, float], quiet: float) -> set[int]:
        """Return those whose workers gave no sign of life, and, if nothing comes back, those that nobody claimed."""
        old = {first for first, seconds in given.items() if seconds > OVERDUE_SECONDS}
        if not old:
            return set()
        with self.run.catalog.read() as connection:
            known = claimed(connection, self.run.run_id)
        unclaimed = old - known.keys() if quiet > OVERDUE_SECONDS else set()
        return unclaimed | {first for first, is_fresh in known.items() if first in old and not is_fresh}

    def check(self) -> None:
        """Raise `LockedError` if this process does not hold the lock any more."""
        _lock_of(self.run).check()

    def name_of(self, part: Part) -> str:
        """Return its first documents."""
        works = self.run.numbered(range(part.first, min(part.first + _NAMED, part.last + 1)))
        names = ", ".join(printable("/".join(work.document)) for work in works)
        return f"{part.documents:,} documents from {names} on"


@contextmanager
def elsewhere(run: Run, engine: Engine, job: Job[R]) -> Iterator[Elsewhere[R]]:
    """Let workers in for the block; afterwards nothing that one of them still does is recorded."""
    _lock_of(run).let_workers_in()
    with run.writing() as connection:
        parts = begin_parts(connection, run.run_id, engine.name)
    try:
        yield Elsewhere(run, engine, job, parts)
    finally:
        with suppress(ReconcileError), run.writing() as connection:  # who took over ends them
            end_parts(connection, run.run_id)


def _lock_of(run: Run) -> RunLock:
    lock = run.executor.lock if run.executor is not None else None
    assert lock is not None  # noqa: S101 - whoever leads a run holds it
    return lock


def refuse_engine(catalog: Catalog, engine: Engine | None, header: PlanHeader | None = None) -> None:
    """Raise `UsageError` for what cannot be done elsewhere. ``header`` is that of a plan to be staged."""
    if engine is None:
        return
    if not catalog.is_postgresql:
        raise UsageError(
            f"--engine {engine.name}: the catalog is an SQLite database, which one process writes to at a time;"
            " nothing was done",
            hint="leave --engine out",
        )
    if header is not None and header.policy.overwrite:
        raise UsageError(
            f"--engine {engine.name}: the plan overwrites what is at its destination, which only the process that leads"
            " the run may delete; nothing was done",
            hint="leave --engine out for this plan",
        )


def refuse_crowding(catalog: Catalog, engine: Engine, state_now: str) -> None:
    """Raise `EngineError` where the database would not have connections for all workers; before they have any."""
    needed = engine.width() * 3
    with catalog.read() as connection:
        free = int(connection.execute(_FREE).scalar_one())
    if needed > free:
        raise EngineError(
            f"{engine.name} takes about {needed} connections, and of max_connections the database has {free} free;"
            f" {state_now}",
            hint="use fewer workers, or raise max_connections; then run the same command again",
        )


def pass_on(answer: Future[Message], result: Future[R], kind: type[R]) -> None:
    """Give an engine's answer to whoever waits for the result, as one of its kind or as one of our errors."""
    try:
        result.set_result(_result_of(answer.result(), kind))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is whose who waits
        result.set_exception(error if isinstance(error, ReconcileError) else EngineError(f"the engine failed: {error}"))


def _result_of(answer: Message, result: type[R]) -> R:
    if "result" in answer:
        return msgspec.convert(answer["result"], result)
    worker = answer.get("worker", "?")
    if "busy" in answer:
        raise BusyError(f"{answer['busy']}")
    if "lost" in answer:
        raise LostError(f"{answer['lost']} (worker {worker})")
    error = answer["error"]
    kind = getattr(errors, error["kind"], EngineError)
    if not (isinstance(kind, type) and issubclass(kind, ReconcileError)):
        kind = EngineError
    raise kind(f"{error['message']} (worker {worker})", hint=error["hint"])
