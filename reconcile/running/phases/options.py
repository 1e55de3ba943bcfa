"""How to run: what an operator can choose."""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen

from reconcile.control import PIPELINES
from reconcile.engines import Engine
from reconcile.payload import LARGEST
from reconcile.running.phases.budget import Budget
from reconcile.running.record.states import Asked
from reconcile.timetable import Timetable

MEMORY_BYTES = 96 << 20


@frozen
class Share:
    """A number of documents, or a percentage of all of a run."""

    number: float
    percent: bool = False

    def of(self, total: int) -> int:
        """Return the number of documents, rounded down."""
        return int(total * self.number / 100) if self.percent else int(self.number)


@frozen
class RunOptions:
    """How to run. Waits are in seconds, sizes in bytes.

    ``workers`` is how many requests are sent to a store at once; None: the store's default.
    ``stage_only`` ends before the switch, ``clean_later`` after it; ``refresh`` includes what is new or changed since
    the plan. ``max_rate`` is in documents a second, ``max_bandwidth`` in bytes; ``limits_file`` says both, and how many
    workers, while the run goes. ``takeover_wait`` bounds the wait for deletes of an earlier process that may still
    arrive; None: as long as it takes. ``share_destination`` adopts documents at a place that another installation owns.
    ``approval`` says who approved the plan, for the record. ``engine`` carries parts of the run to workers elsewhere.
    """

    keep_source: bool = False
    leave_blocked: bool = False
    leave_failed: bool = False
    workers: int | None = None
    undo_out: Path | None = None
    lock_wait: float = 15
    wait_for_services: int = 150
    ignore_services: bool = False
    max_failures: Share | None = None
    max_document_size: int = LARGEST
    memory: int = MEMORY_BYTES
    stage_only: bool = False
    refresh: bool = False
    budget: Budget = field(factory=Budget)
    max_rate: float | None = None
    max_bandwidth: Timetable | None = None
    limits_file: Path | None = None
    takeover_wait: float | None = None
    share_destination: bool = False
    clean_later: bool = False
    approval: str | None = None
    engine: Engine | None = None

    @property
    def asked(self) -> Asked | None:
        """Where the run is asked to stop."""
        if self.stage_only:
            return Asked.STAGE_ONLY
        return Asked.CLEAN_LATER if self.clean_later else None

    @property
    def pipelines(self) -> int:
        """How many batches are worked on at once."""
        return min(self.workers or PIPELINES, PIPELINES)
