"""A run as the database knows it: found or begun, guarded by its epoch, read in batches, recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from attrs import Factory, define, evolve, field
from sqlalchemy.engine import Connection

from reconcile._version import __version__
from reconcile.catalog import Catalog
from reconcile.catalog.services import database_now
from reconcile.errors import SupersededError
from reconcile.planning.planfile import PlanFile
from reconcile.running.record.claims import Claim
from reconcile.running.record.executor import Executor, executor_name
from reconcile.running.record.identity import encoded_record
from reconcile.running.record.parts import Outline
from reconcile.running.record.records import RunRecord, StateCounts, backend_pairs, count_states, find_runs
from reconcile.running.record.states import Asked, MoveState, Origin, RunState
from reconcile.running.record.tables import LAYOUT, moves, runs
from reconcile.running.record.work_moves import COPY_COLUMNS, StagedCopy, WorkMove, load, work_move

M = TypeVar("M", Outline, WorkMove)


@define
class Run:
    """A run that this process executes: every write checks that this is still true.

    ``executor`` is None for a reader, ``claim`` for the process that leads the run: a worker has one on its part.
    """

    catalog: Catalog
    record: RunRecord
    epoch: int
    executor: Executor | None = None
    claim: Claim | None = None
    run_id: str = field(init=False, default=Factory(lambda run: run.record.run_id, takes_self=True))
    _pairs: list[tuple[str, str]] | None = field(init=False, default=None)

    @contextmanager
    def writing(self, *, bulk: bool = False, limited: bool = True) -> Iterator[Connection]:
        """Open a transaction on the work tables. Raises `SupersededError` if another process took over."""
        with self.catalog.write(bulk=bulk, limited=limited) as connection:
            self.guard(connection)
            yield connection

    def guard(self, connection: Connection) -> None:
        """Raise `SupersededError` unless we still execute, and the run has our epoch; keeps it so until the commit."""
        if self.executor is not None:
            self.executor.guard(connection)
        if self.claim is not None:
            self.claim.guard(connection)
        query = sa.select(runs.c.state).where(runs.c.run_id == self.run_id, runs.c.epoch == self.epoch)
        if connection.execute(query.with_for_update(read=True)).first() is None:
            raise SupersededError(
                f"run {self.run_id} was taken over by another process, or is being undone; this process does "
                "nothing more",
                hint=f"reconcile status {self.run_id}    shows its state",
            )

    def batches(self, state: MoveState, size: int, *extra: sa.ColumnElement[bool]) -> Iterator[list[WorkMove]]:
        """Yield the moves of a state in batches. Rows of one document stay in one batch."""
        return self._together(sa.select(moves), work_move, size, moves.c.state == state, *extra)

    def outlines(self, state: MoveState, size: int, *extra: sa.ColumnElement[bool]) -> Iterator[list[Outline]]:
        """Yield outlines of the moves of a state, likewise: a tenth of the work of whole moves."""
        columns = (moves.c.seq, moves.c.user_id, moves.c.bucket, moves.c.archive_id, moves.c.before_size)
        return self._together(sa.select(*columns), Outline.of, size, moves.c.state == state, *extra)

    def between(self, state: MoveState, first: int, last: int, *extra: sa.ColumnElement[bool]) -> list[WorkMove]:
        """Return the moves of a state from one number to another, both included."""
        query = sa.select(moves).where(
            moves.c.run_id == self.run_id, moves.c.state == state, moves.c.seq.between(first, last), *extra
        )
        with self.catalog.read(limited=False) as connection:
            return [work_move(row) for row in connection.execute(query.order_by(moves.c.seq))]

    def copies(self, first: int, last: int) -> list[StagedCopy]:
        """Return the copies of the staged moves from one number to another, both included."""
        query = sa.select(*COPY_COLUMNS).where(
            moves.c.run_id == self.run_id, moves.c.state == MoveState.STAGED, moves.c.seq.between(first, last)
        )
        with self.catalog.read(limited=False) as connection:
            return [StagedCopy.of(row) for row in connection.execute(query.order_by(moves.c.seq)).all()]

    def numbered(self, seqs: Sequence[int]) -> list[WorkMove]:
        """Return the moves of these numbers."""
        if not seqs:
            return []
        query = sa.select(moves).where(moves.c.run_id == self.run_id, moves.c.seq.in_(seqs))
        with self.catalog.read() as connection:  # and sorted here: in order of the key it would read the whole run
            return sorted((work_move(row) for row in connection.execute(query)), key=attrgetter("seq"))

    def _together(
        self, query: sa.Select[Any], decode: Callable[[Any], M], size: int, *conditions: sa.ColumnElement[bool]
    ) -> Iterator[list[M]]:
        """Yield what a query of moves gives, in batches; rows of one document stay in one batch."""
        last, held = -1, list[M]()
        while True:
            page = query.where(moves.c.run_id == self.run_id, moves.c.seq > last, *conditions)
            with self.catalog.read(limited=False) as connection:  # of few among many, it reads all the others
                rows = [decode(row) for row in connection.execute(page.order_by(moves.c.seq).limit(size)).all()]
            if not rows:
                break
            last, is_last = rows[-1].seq, len(rows) < size
            rows = held + rows
            tail = rows[-1].document
            held = [row for row in rows if row.document == tail]
            if len(rows) > len(held):
                yield rows[: len(rows) - len(held)]
            if is_last:
                break
        if held:
            yield held

    def update_moves(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Write columns of moves, each dict with its ``seq``; all dicts have the same keys."""
        if not rows:
            return
        names = [name for name in rows[0] if name != "seq"]
        if not self.catalog.is_postgresql:
            statement = sa.update(moves).where(moves.c.run_id == self.run_id, moves.c.seq == sa.bindparam("b_seq"))
            values = statement.values({name: sa.bindparam(f"b_{name}") for name in names})
            connection.execute(values, [{f"b_{k}": v for k, v in row.items()} for row in rows])
            return
        types = ", ".join(f"{name} {moves.c[name].type.compile(connection.dialect)}" for name in ("seq", *names))
        changes = ", ".join(f"{name} = new.{name}" for name in names)
        connection.exec_driver_sql(
            f"UPDATE reconcile_moves SET {changes} FROM json_to_recordset(%s::json) AS new({types})"  # noqa: S608 - our own names
            " WHERE run_id = %s AND reconcile_moves.seq = new.seq",
            (msgspec.json.encode(rows).decode(), self.run_id),
        )

    def update(self, connection: Connection, **values: Any) -> None:  # noqa: ANN401
        """Write columns of the run."""
        connection.execute(sa.update(runs).where(runs.c.run_id == self.run_id).values(**values))

    def backend_pairs(self, *conditions: sa.ColumnElement[bool]) -> list[tuple[str, str]]:
        """Return from which backends to which the run moves documents, those of moves that meet the conditions.

        Those of all moves are read once, for that reads all of them, and again after `moves_changed`.
        """
        if conditions:
            return backend_pairs(self.catalog, self.run_id, *conditions)
        if self._pairs is None:
            self._pairs = backend_pairs(self.catalog, self.run_id)
        return self._pairs

    def moves_changed(self) -> None:
        """Note that moves were added or taken out, as a refresh does."""
        self._pairs = None

    def counts(self) -> StateCounts:
        """Return documents and bytes by the state of their moves."""
        return count_states(self.catalog, self.run_id)

    def unfinished_others(self) -> list[str]:
        """Return ids of other runs that have staged and not switched."""
        query = sa.select(runs.c.run_id).where(runs.c.run_id != self.run_id, runs.c.state == RunState.STAGING)
        with self.catalog.read() as connection:
            return list(connection.execute(query).scalars())

    def deletes_sources(self) -> bool:
        """Tell whether there is a move whose source is not kept."""
        query = sa.select(moves.c.seq).where(moves.c.run_id == self.run_id, moves.c.source.is_not(None), ~moves.c.keep)
        with self.catalog.read(bulk=True) as connection:
            return connection.execute(query.order_by(moves.c.seq).limit(1)).first() is not None

    def replaces(self) -> bool:
        """Tell whether a move of this run takes the place of content that an earlier run had kept."""
        if not self.record.header.policy.with_changes:
            return False
        query = sa.select(moves.c.seq).where(moves.c.run_id == self.run_id, moves.c.replaces.is_not(None))
        with self.catalog.read(bulk=True) as connection:
            return connection.execute(query.limit(1)).first() is not None

    def index_places(self) -> None:
        """Have moves found by their destination, which only matters beside other unfinished runs."""
        using = " USING hash" if self.catalog.is_postgresql else ""
        with self.writing(bulk=True) as connection:
            connection.exec_driver_sql(
                f"CREATE INDEX IF NOT EXISTS reconcile_moves_by_place ON reconcile_moves{using} (dest_key)"
            )

    def later_runs(self) -> list[str]:
        """Return ids of runs that switched after this one and stand: not undone, and no undo of one that is."""
        number = sa.select(runs.c.number).where(runs.c.run_id == self.run_id).scalar_subquery()
        undone = sa.select(runs.c.run_id).where(runs.c.state == RunState.UNDONE)
        query = sa.select(runs.c.run_id).where(
            runs.c.number > number,
            runs.c.switched_at.is_not(None),
            runs.c.state != RunState.UNDONE,
            runs.c.undo_of.is_(None) | runs.c.undo_of.not_in(undone),
        )
        with self.catalog.read() as connection:
            return list(connection.execute(query).scalars())

    def take_over(self, connection: Connection, others: Sequence[str], copies: Sequence[WorkMove]) -> set[int]:
        """Take over the ownership of copies that other unfinished runs wrote; return their seqs."""
        ours: dict[tuple[str, str], list[int]] = {}
        for copy in copies:
            ours.setdefault((copy.dest_store, copy.dest_key), []).append(copy.seq)
        query = sa.select(moves.c.run_id, moves.c.seq, moves.c.dest_store, moves.c.dest_key).where(
            moves.c.run_id.in_(others),
            moves.c.dest_key.in_({key for _store, key in ours}),
            moves.c.origin.in_((Origin.INTENDED, Origin.WRITTEN)),
        )
        found = [row for row in connection.execute(query) if (row.dest_store, row.dest_key) in ours]
        if found:
            theirs = sa.tuple_(moves.c.run_id, moves.c.seq).in_([(row.run_id, row.seq) for row in found])
            connection.execute(sa.update(moves).where(theirs).values(origin=Origin.CEDED))
        return {seq for row in found for seq in ours[row.dest_store, row.dest_key]}

    def retry_unstaged(self) -> None:
        """Make failed and changed moves pending again, for a run that is resumed."""
        with self.writing(bulk=True) as connection:
            connection.execute(
                sa.update(moves)
                .where(moves.c.run_id == self.run_id, moves.c.state.in_((MoveState.FAILED, MoveState.CHANGED)))
                .values(state=MoveState.PLANNED, reason=None, detail=None)
            )

    def named(self, state: MoveState, limit: int) -> list[WorkMove]:
        """Return the first moves of a state, for messages."""
        query = (
            sa.select(moves)
            .where(moves.c.run_id == self.run_id, moves.c.state == state)
            .order_by(moves.c.seq)
            .limit(limit)
        )
        with self.catalog.read(bulk=True) as connection:
            return [work_move(row) for row in connection.execute(query)]


def begin_run(  # noqa: PLR0913
    executor: Executor,
    run_id: str,
    plan: PlanFile,
    plan_digest: str,
    batches: Callable[[Connection], Iterable[Iterable[dict[str, Any]]]],
    *,
    configs: dict[str, Any],
    keep_source: bool,
    asked: Asked | None = None,
    check: Callable[[Connection, str], None] | None = None,
) -> Run:
    """Record a new run with all its moves, in one transaction: a kill in between leaves nothing.

    ``batches`` is called with the connection, to read what it needs in that very transaction, but not within a batch.
    ``configs`` are both configs without secrets, as JSON takes them. ``check`` may raise once all is loaded: then
    nothing is recorded.
    """
    catalog, header = executor.catalog, plan.header
    with catalog.write(bulk=True) as connection:
        executor.guard(connection)
        last = connection.execute(sa.select(sa.func.coalesce(sa.func.max(runs.c.number), 0))).scalar_one()
        connection.execute(
            runs.insert(),
            {
                "run_id": run_id,
                "number": last + 1,
                "plan_id": header.plan_id,
                "plan_digest": plan_digest,
                "plan_path": str(plan.path.absolute()),
                "header": msgspec.json.encode(header).decode(),
                "undo_of": header.undo_of,
                "state": RunState.STAGING,
                "epoch": 1,
                "executor": executor_name(),
                "token": executor.token,
                "database": encoded_record(catalog),
                "configs": msgspec.json.encode(configs).decode(),
                "tool_version": __version__,
                "layout": LAYOUT,
                "keep_source": keep_source,
                "asked": asked,
                "created_at": database_now(connection),
            },
        )
        load(connection, run_id, batches(connection))
        if catalog.is_postgresql:
            connection.execute(sa.text("ANALYZE reconcile_moves"))
        if check is not None:
            check(connection, run_id)
    return Run(catalog, find_runs(catalog, run_id=run_id)[0], epoch=1, executor=executor)


def resume_run(executor: Executor, record: RunRecord, *, keep_source: bool = False, asked: Asked | None = None) -> Run:
    """Take a run over: raises its epoch, so that a paused old executor cannot go on.

    ``keep_source`` keeps its sources from now on; this cannot be reversed.
    """
    keep = record.keep_source or keep_source
    with executor.catalog.write() as connection:
        executor.guard(connection)
        epoch = connection.execute(
            sa.update(runs)
            .where(runs.c.run_id == record.run_id, runs.c.state != RunState.UNDONE)
            .values(
                epoch=runs.c.epoch + 1, executor=executor_name(), token=executor.token, keep_source=keep, asked=asked
            )
            .returning(runs.c.epoch)
        ).scalar_one()
    return Run(executor.catalog, evolve(record, keep_source=keep, asked=asked), epoch, executor)
