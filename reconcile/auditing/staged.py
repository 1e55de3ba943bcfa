"""The staged copies of one run, before it is switched: each holds what was recorded, and no row points there yet."""

from __future__ import annotations

import sqlalchemy as sa
from attrs import define, frozen

from reconcile.auditing.contents import OpenStores, Problem, content_problem
from reconcile.auditing.verify_report import PARTIAL, Audited, RunScope
from reconcile.catalog import Catalog
from reconcile.catalog.tables import archive_metadata
from reconcile.commands import command_line
from reconcile.control import PIPELINES, Control, in_order
from reconcile.errors import UsageError
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import Before
from reconcile.running.phases.references import decode_key
from reconcile.running.record.records import RunRecord, count_states, run_record
from reconcile.running.record.run import Run
from reconcile.running.record.states import MoveState, RunState
from reconcile.running.record.tables import moves, same_row
from reconcile.running.record.work_moves import WorkMove
from reconcile.stores import Stat
from reconcile.stores.addresses import Key

_BATCH_MOVES = 250


def audit_staged(
    catalog: Catalog, desired: DesiredState, stores: OpenStores, audited: Audited, control: Control
) -> None:
    """Audit the copies that a run has staged. The config must be the run's destination. Raises `UsageError`."""
    record = run_record(catalog, audited.request.run or "")
    if record.state != RunState.STAGING:
        raise UsageError(
            f"run {record.run_id} is {record.state}: it has no copies that wait for a switch",
            hint=f"reconcile verify {desired.dest.path}    audits the archive as the catalog has it now",
        )
    states = count_states(catalog, record.run_id)
    staged, size = states.get(MoveState.STAGED, (0, 0))
    not_staged = sum(documents for documents, _size in states.values()) - staged
    audited.run = RunScope(
        record.run_id, record.state, staged, not_staged, _partial(not_staged, limited=record.header.policy.limited)
    )
    audited.total = staged
    control.progress.phase("verify", staged, size)
    auditor = _Auditor(catalog, desired, stores, record)
    batches = Run(catalog, record, epoch=0).batches(MoveState.STAGED, _BATCH_MOVES)
    for found in in_order(PIPELINES, batches, auditor.audit):
        for copy in found:
            backend = copy.work.move.dest.partition(".")[2]
            audited.count(backend, copy.size, copy.problem, verifiable=copy.verifiable)
        control.progress.advance(len(found), sum(copy.work.move.before.size or 0 for copy in found))
        control.check()


def _partial(not_staged: int, *, limited: bool) -> str | None:
    """Say what the copies of a partial run must not be taken for."""
    why = ["its plan was limited"] if limited else []
    why += [f"{not_staged} documents are not staged"] if not_staged else []
    return f"{', '.join(why)}: {PARTIAL}" if why else None


@frozen
class _Found:
    """What was found out about one copy."""

    work: WorkMove
    size: int
    problem: Problem | None
    verifiable: bool


@define
class _Auditor:
    """Audits the copies of one run, a batch at a time."""

    catalog: Catalog
    desired: DesiredState
    stores: OpenStores
    record: RunRecord

    def audit(self, batch: list[WorkMove]) -> list[_Found]:
        """Return what was found out about every copy of a batch."""
        keys: dict[str, set[Key]] = {}
        for work in batch:
            self._check_destination(work)
            keys.setdefault(work.move.dest, set()).add(decode_key(work.dest_key))
        found = {
            name: self.stores.of(self.desired.places[name]).look(list(wanted), digest=True)
            for name, wanted in keys.items()
        }
        pointed_at = self._pointed_at(batch)
        return [self._found(work, found[work.move.dest].get(decode_key(work.dest_key)), pointed_at) for work in batch]

    def _check_destination(self, work: WorkMove) -> None:
        place = self.desired.places.get(work.move.dest)
        if place is None or place.address.identity != work.dest_store:
            command = command_line("verify", self.record.header.dest.path, run=self.record.run_id)
            raise UsageError(
                f"{self.desired.dest.path} is not where run {self.record.run_id} stages its copies: {work.dest_store}",
                hint=f"{command}    gives the run's own destination",
            )

    def _found(self, work: WorkMove, stat: Stat | None, pointed_at: set[int]) -> _Found:
        move, key = work.move, decode_key(work.dest_key)
        digest = work.restore.md5 if work.restore is not None else work.after_digest
        must_be = Before(move.after.content_url, work.after_is_compressed, digest, work.after_size, None)
        wrong = content_problem(self.stores.of(self.desired.places[move.dest]), key, stat, must_be)
        if wrong is None and work.seq in pointed_at:
            wrong = ("row_changed", "the catalog points at the copy already, although the run has not switched")
        names = (*move.document, move.documentName, move.after.content_url)
        size = work.after_size if work.after_size is not None else stat.size if stat else None
        return _Found(work, size or 0, Problem(*names, *wrong) if wrong else None, digest is not None)

    def _pointed_at(self, batch: list[WorkMove]) -> set[int]:
        """Return the moves whose row is at the copy already, unless the move leaves the URL as it is."""
        query = sa.select(moves.c.seq).where(
            same_row(archive_metadata),
            moves.c.run_id == self.record.run_id,
            moves.c.seq.in_([work.seq for work in batch]),
            archive_metadata.c.content_url == moves.c.after_url,
            moves.c.before_url != moves.c.after_url,
        )
        with self.catalog.read() as connection:
            return set(connection.execute(query).scalars())
