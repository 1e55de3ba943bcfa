"""Refresh: include what services added, changed or removed since the plan was made, in the run in progress.

A move whose row has changed since the plan is abandoned: its copy is deleted, as in the undo of a run that never
switched (R3). Then every row in scope that is at a source and not in the run is decided as a plan would decide it, and
its move is appended. After a kill at any moment, the next refresh finds what is left to do.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from attrs import define, evolve, field
from sqlalchemy.engine import Connection

from reconcile.catalog import CatalogRow, Scope
from reconcile.catalog.rows import stream_rows
from reconcile.catalog.services import database_now
from reconcile.catalog.tables import archive_metadata
from reconcile.control import in_batches
from reconcile.logs import get_logger
from reconcile.planning.cross_checks import CrossChecks
from reconcile.planning.model import Blocker, Move
from reconcile.planning.reach import Reach
from reconcile.running.phases.context import Phase, StorePool
from reconcile.running.phases.owner_mark import Owner
from reconcile.running.phases.rollback import Dropper
from reconcile.running.record.states import MoveState
from reconcile.running.record.tables import as_before, moves, same_row
from reconcile.running.record.work_moves import LOAD_ROWS, blocker_row, load, move_row

log = get_logger()


@define
class Found:
    """What a refresh found: counts of rows by outcome; by name the copies that stay, and rows that are blocked."""

    added: int = 0
    changed: int = 0
    gone: int = 0
    left: list[str] = field(factory=list)
    blocked: list[str] = field(factory=list)

    def describe(self) -> str:
        """Return a line for people."""
        text = f"rows since the plan was made: {self.added:,} added, {self.changed:,} changed, {self.gone:,} deleted"
        if self.left:
            text += (
                f"; {len(self.left):,} copies of their earlier content stay: they are not, or not "
                "certainly, this run's own"
            )
        return text


@define
class Refresher(Phase):
    """Brings the moves of one run up to date with the catalog."""

    owner: Owner
    pool: StorePool

    def refresh(self) -> Found:
        """Refresh the run. Not for the run of a plan with a limit, which leaves rows out on purpose."""
        scope = Scope.of(self.run.record.header.scope)
        self._prepare_places(scope)
        changed, gone = self._give_up()
        dropper = Dropper(self.context, self.owner)
        if changed or gone:
            dropper.drop((MoveState.CHANGED,))
        found = Found(changed=changed, gone=gone, left=dropper.left)
        with self.run.writing(bulk=True) as connection:
            # What was blocked is decided anew: its cause may be fixed, and if not it is refused again.
            given_up = sa.and_(
                moves.c.run_id == self.run.run_id, moves.c.state.in_((MoveState.CHANGED, MoveState.BLOCKED))
            )
            connection.execute(sa.delete(moves).where(given_up))
            taken = self._take(connection, scope, found)
            now = database_now(connection)
            self.run.update(connection, refreshed_at=now, phase=None)
        self.run.moves_changed()
        self.run.record = evolve(self.run.record, refreshed_at=now)
        found.added = max(0, taken - changed)
        log.info("refreshed", phase="refresh", added=found.added, changed=found.changed, gone=found.gone)
        return found

    def _prepare_places(self, scope: Scope) -> None:
        """Make what the destinations of new rows ask to be made: a data dir is known only once it is there."""
        if all(name in self.stores for name in self.desired.places if name.startswith("dest.")):
            return
        with self.run.catalog.snapshot() as connection:
            self.run.catalog.favour_hash_joins(connection)
            decisions = map(self.desired.decide, self._new_rows(connection, scope))
            names = {decision.dest for decision in decisions if isinstance(decision, Move)}
        for name in sorted(names - self.stores.keys()):
            self.pool.destination(name, self.run.record.header, create=True)

    def _new_rows(self, connection: Connection, scope: Scope) -> Iterator[CatalogRow]:
        held = sa.exists().where(moves.c.run_id == self.run.run_id, same_row(archive_metadata))
        return stream_rows(connection, sa.and_(scope.condition(), ~held))

    def _give_up(self) -> tuple[int, int]:
        """Mark the moves whose rows are another by now; return how many of those rows are there, and how many gone."""
        mine = moves.c.run_id == self.run.run_id
        unchanged = sa.exists().where(same_row(archive_metadata), as_before(archive_metadata))
        there = sa.exists().where(same_row(archive_metadata))
        marked = sa.select(sa.func.count()).select_from(moves).where(mine, moves.c.state == MoveState.CHANGED)
        with self.run.writing(bulk=True) as connection:
            self.run.catalog.favour_hash_joins(connection)
            connection.execute(
                sa.update(moves)
                .where(mine, moves.c.state.in_((MoveState.PLANNED, MoveState.STAGED, MoveState.FAILED)), ~unchanged)
                .values(state=MoveState.CHANGED)
            )
            total = int(connection.execute(marked).scalar_one())
            changed = int(connection.execute(marked.where(there)).scalar_one()) if total else 0
        return changed, total - changed

    def _take(self, connection: Connection, scope: Scope, found: Found) -> int:
        """Add the moves of rows that the run does not hold; return how many."""
        checks = CrossChecks(self.desired)
        checks.prepare(connection)
        last = sa.select(sa.func.coalesce(sa.func.max(moves.c.seq), -1)).where(moves.c.run_id == self.run.run_id)
        first = int(connection.execute(last).scalar_one()) + 1
        self.run.catalog.favour_hash_joins(connection)
        rows = self._rows(connection, scope, checks, found)
        return load(connection, self.run.run_id, in_batches(rows, LOAD_ROWS), first) - len(found.blocked)

    def _rows(
        self, connection: Connection, scope: Scope, checks: CrossChecks, found: Found
    ) -> Iterator[dict[str, object]]:
        reach = Reach(self.run.catalog, self.desired)
        for row in self._new_rows(connection, scope):
            decision = reach.check(checks.check(row, self.desired.decide(row)))
            if isinstance(decision, Move):
                keep = self.run.record.header.policy.keeps(decision.source)
                yield move_row(decision, self.desired.target(decision), keep=keep)
            elif isinstance(decision, Blocker):
                found.blocked.append(f"{'/'.join(row.document)}: {decision.reason}: {decision.detail}")
                yield blocker_row(decision)
