"""How fast a run went: counts sampled into its record every few seconds, for the live page and the report to draw."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import sqlalchemy as sa
from attrs import define, field, frozen

from reconcile.catalog import Catalog
from reconcile.catalog.services import database_now
from reconcile.control import Progress
from reconcile.errors import ReconcileError
from reconcile.running.record.run import Run
from reconcile.running.record.tables import samples

SAMPLE_SECONDS = 5.0
_MOST = 600  # points of a plot; more would not be seen


@frozen(slots=False)
class Speed:
    """Documents and bytes a second at a time, in Unix seconds by the database's clock, in one phase."""

    at: int
    phase: str
    documents_per_second: float
    bytes_per_second: float


@define
class Sampled:
    """Progress that passes everything on, and records from time to time how far the phase is."""

    progress: Progress
    run: Run
    clock: Callable[[], float] = time.monotonic
    _phase: str = field(init=False, default="")
    _documents: int = field(init=False, default=0)
    _bytes: int = field(init=False, default=0)
    _last: float = field(init=False, default=0.0)

    def phase(self, name: str, documents: int, size: int, before: tuple[int, int] = (0, 0)) -> None:
        """Report that a phase begins."""
        self._write()
        self._phase, self._documents, self._bytes = name, *before
        self._write()
        self._note(name)
        self.progress.phase(name, documents, size, before)

    def advance(self, documents: int, size: int) -> None:
        """Report that so many more documents and bytes are done."""
        self._documents += documents
        self._bytes += size
        if self.clock() - self._last >= SAMPLE_SECONDS:
            self._write()
        self.progress.advance(documents, size)

    def step(self, name: str) -> None:
        """Report that a step without a count begins."""
        self._write()
        self._phase = ""
        self._note(name)
        self.progress.step(name)

    def say(self, text: str, *, strong: bool = False) -> None:
        """Report a sentence to people."""
        self.progress.say(text, strong=strong)

    def _note(self, doing: str) -> None:
        """Put on record what is being done now, for those who watch."""
        with suppress(ReconcileError), self.run.writing() as connection:
            self.run.update(connection, doing=doing)

    def _write(self) -> None:
        """Put a sample on record. Whether this process still executes is for those to find out who change something."""
        if not self._phase:
            return
        self._last = self.clock()
        with suppress(ReconcileError), self.run.writing() as connection:
            number = sa.select(sa.func.coalesce(sa.func.max(samples.c.number), 0) + 1)
            values = {
                "run_id": self.run.run_id,
                "number": connection.execute(number.where(samples.c.run_id == self.run.run_id)).scalar_one(),
                "at": database_now(connection),
                "phase": self._phase,
                "documents": self._documents,
                "bytes": self._bytes,
            }
            connection.execute(samples.insert(), values)


def last_progress(catalog: Catalog, run_id: str, phase: str) -> int | None:
    """Return when a counted phase of a run last made progress, to some seconds, in Unix seconds."""
    if not catalog.has_table(samples):
        return None
    query = sa.select(samples.c.phase, samples.c.at).where(samples.c.run_id == run_id)
    with catalog.read() as connection:
        last = connection.execute(query.order_by(samples.c.number.desc()).limit(1)).first()
    return last.at if last is not None and last.phase == phase else None


def speeds(catalog: Catalog, run_id: str) -> list[Speed]:
    """Return how fast a run was between its samples, evenly taken where there are many."""
    if not catalog.has_table(samples):
        return []
    query = sa.select(samples).where(samples.c.run_id == run_id).order_by(samples.c.number)
    with catalog.read() as connection:
        rows = connection.execute(query).all()
    found = [
        Speed(
            after.at,
            after.phase,
            (after.documents - before.documents) / (after.at - before.at),
            (after.bytes - before.bytes) / (after.at - before.at),
        )
        for before, after in pairwise(rows)
        if before.phase == after.phase and after.at > before.at and after.documents >= before.documents
    ]
    step = -(-len(found) // _MOST) or 1
    return found[::step]
