"""Undo: the reverse moves of a run, as a plan of the same format, applied by the same code.

The plan's file is written before the switch, and can be written again from the run's record at any time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from reconcile._version import __version__
from reconcile.catalog import Catalog
from reconcile.catalog.rows import in_byte_order, streamed
from reconcile.catalog.services import database_now
from reconcile.errors import PlanFileError, SupersededError
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import (
    FORMAT_VERSION,
    After,
    Before,
    Move,
    Pinned,
    PlanHeader,
    Policy,
    Summary,
    Tally,
)
from reconcile.planning.places import other_side
from reconcile.planning.planfile import PlanFile, new_plan
from reconcile.planning.summary import Counts
from reconcile.running.record.executor import Executor
from reconcile.running.record.next_steps import undo_command
from reconcile.running.record.records import RunRecord
from reconcile.running.record.states import MoveState, Origin, RunState
from reconcile.running.record.tables import moves, runs
from reconcile.running.record.work_moves import WorkMove, blocker_row, encode_original, move_row, work_move

_READ_AHEAD = 2000

# By which a service's clock may be behind the database's: rows that young, at the destination and not moved by the run,
# came after its switch, since before it services wrote elsewhere.
CLOCK_SKEW_SECONDS = 3600


def reverse(work: WorkMove) -> Move:
    """Return the reverse of this move: its after pins the row as it was, NULL included."""
    move, before = work.move, work.move.before
    return Move(
        *move.document,
        move.documentName,
        other_side(move.dest),
        other_side(move.source),
        Before(
            move.after.content_url,
            work.after_is_compressed,
            work.after_digest,
            work.after_size,
            before.last_updated,
        ),
        After(
            before.content_url,
            bool(before.is_compressed),
            Pinned(before.is_compressed, before.digest, before.size),
        ),
    )


def staged_moves(connection: Connection, record: RunRecord) -> Iterator[WorkMove]:
    """Yield the moves that a run switched or is about to, in the order that plans have."""
    query = sa.select(moves).where(moves.c.run_id == record.run_id, moves.c.state == MoveState.STAGED)
    if record.refreshed_at is None:
        query = query.order_by(moves.c.seq)
    else:  # what a refresh took along is behind the rest
        key = (moves.c.user_id, moves.c.bucket, moves.c.archive_id, moves.c.document_name)
        query = query.order_by(*(in_byte_order(connection, column) for column in key))
    result = connection.execute(query, execution_options=streamed(_READ_AHEAD))
    return (work_move(row) for row in result)


def write_undo_plan(catalog: Catalog, record: RunRecord, path: Path, desired: DesiredState) -> str:
    """Write the undo plan of a run whose documents are staged; return the file's digest.

    ``desired`` is the run's own (source to dest); the undo plan leads the other way.
    """
    counts = Counts(DesiredState(desired.dest, desired.source))
    with catalog.snapshot() as connection, new_plan(path, replace=True) as writer:
        taken_at = record.switched_at or database_now(connection)
        for work in staged_moves(connection, record):
            move = reverse(work)
            counts.add_move(move)
            writer.add_move(move)
        return writer.save(undo_header(record, counts.summary([]), taken_at))


def undo_header(record: RunRecord, summary: Summary, taken_at: int, *, with_changes: bool = False) -> PlanHeader:
    """Return the header of an undo plan; ``taken_at`` is when the run's rows were last seen, in Unix seconds."""
    header = record.header
    return PlanHeader(
        format_version=FORMAT_VERSION,
        plan_id=f"undo-{record.run_id}",
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
        database=header.database,
        source=header.dest,
        dest=header.source,
        scope=header.scope,
        policy=Policy(with_changes=with_changes),
        summary=attrs.evolve(summary, in_place=Tally(0, 0)),
        undo_of=record.run_id,
        snapshot_at=taken_at,
    )


def undo_rows(
    connection: Connection, record: RunRecord, plan: PlanFile, desired: DesiredState
) -> Iterator[dict[str, Any]]:
    """Yield the work table's rows of an undo run: the plan's moves, each checked against the run's record.

    A pinned move must be the reverse of what the run recorded, any other what the configs lead to (only in a
    plan with changes). Copies that the run adopted were there before it, and stay. Raises `PlanFileError`.
    """
    recorded = staged_moves(connection, record)
    work = next(recorded, None)
    for move in plan.moves():
        while work is not None and work.move.row_key < move.row_key and plan.header.policy.with_changes:
            work = next(recorded, None)
        row = move_row(move, desired.target(move)) | {"restore": None, "source_version": None, "replaces": None}
        same_row = work is not None and work.move.row_key == move.row_key
        if move.after.pinned is not None and work is not None and reverse(work) == move:
            row["keep"] = work.origin == Origin.ADOPTED or move.before.content_url == move.after.content_url
            row["restore"] = encode_original(work.original) if work.original else None
            row["source_version"] = work.copy_version  # of what this run would delete, where it need not be read
        elif plan.header.policy.with_changes and move.after.pinned is None and desired.decide(move.row()) == move:
            row["replaces"] = work.source_version if work is not None and same_row else None
        else:
            raise _not_the_reverse(plan, record, "/".join(move.document))
        work = next(recorded, None) if same_row else work
        yield row
    if work is not None and not plan.header.policy.with_changes:
        raise _not_the_reverse(plan, record, "/".join(work.move.document))

    for blocker in plan.blockers():
        yield blocker_row(blocker)


def _not_the_reverse(plan: PlanFile, record: RunRecord, document: str) -> PlanFileError:
    return PlanFileError(
        f"{plan.path}: its move of {document} is not the reverse of what run {record.run_id} recorded; "
        "nothing was done",
        hint=f"{undo_command(record)}    writes the right plan from the run's record",
    )


def mark_undoing(executor: Executor, record: RunRecord) -> None:
    """Mark a run as being undone: from now on its own apply and clean refuse."""
    with executor.catalog.write() as connection:
        executor.guard(connection)
        changed = connection.execute(
            sa.update(runs)
            .where(runs.c.run_id == record.run_id, runs.c.state == record.state)
            .values(state=RunState.UNDOING, paused_at=None, epoch=runs.c.epoch + 1)
        )
        if changed.rowcount != 1:
            raise SupersededError(
                f"another process has just changed the state of run {record.run_id}; nothing was done",
                hint="run the same command again",
            )


def mark_undone(connection: Connection, run_id: str, ended: int) -> None:
    """Mark a run as undone at ``ended``, in Unix seconds; why it once stopped is of no interest any more."""
    connection.execute(
        sa.update(runs).where(runs.c.run_id == run_id).values(state=RunState.UNDONE, finished_at=ended, remark=None)
    )
