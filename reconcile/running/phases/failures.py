"""The messages about documents that are not staged: each reason once, the first documents, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from reconcile.commands import command_line
from reconcile.errors import LimitReachedError, StageFailedError
from reconcile.formatting import count
from reconcile.logs import printable
from reconcile.planning.render import meaning_of
from reconcile.running.record.next_steps import plan_again
from reconcile.running.record.records import StateCounts
from reconcile.running.record.run import Run
from reconcile.running.record.states import MoveState
from reconcile.running.record.tables import moves

_SHOWN, _SHOWN_OF_A_REASON = 20, 5


def stage_failed(run: Run, what: str, hint: str | None = None) -> StageFailedError:
    """Return the error that says what could not be staged, and why, each reason once."""
    staged = run.counts().get(MoveState.STAGED, (0, 0))[0]
    lines = list(_failed_by_reason(run))
    if hint is None and _is_occupied(run):
        hint = (
            "a plan made with --overwrite replaces content that no catalog row refers to, and adopts what is "
            f"staged:\n{plan_again(run.record.header, overwrite=True)}\nor give --leave-failed to switch the "
            "others"
        )
    return StageFailedError(
        f"{what}, so nothing was switched ({staged:,} are staged and stay staged):\n" + "\n".join(lines),
        hint=hint or "fix the cause and run the same command again, or give --leave-failed to switch the others",
    )


def limit_reached(run: Run, counts: StateCounts, reached: str | None, dest: Path) -> LimitReachedError:
    """Return the error that says how far a limit let the staging come: ``reached``, in words, if it is known which."""
    staged, left = counts.get(MoveState.STAGED, (0, 0))[0], counts[MoveState.PLANNED][0]
    return LimitReachedError(
        f"staging was ended by {reached or 'a limit'}: {count(staged)} staged, which stay staged, and {left:,} still "
        "to stage; nothing was switched",
        hint=f"the same command resumes\n{command_line('verify', dest, run=run.run_id)}    checks what is staged",
    )


def _failed_by_reason(run: Run) -> Iterator[str]:
    """Yield each reason once, with how many documents failed for it and the first of them."""
    works = run.named(MoveState.FAILED, _SHOWN)
    failed = sa.and_(moves.c.run_id == run.run_id, moves.c.state == MoveState.FAILED)
    number = sa.func.count()
    query = sa.select(moves.c.reason, number).where(failed).group_by(moves.c.reason).order_by(number.desc())
    with run.catalog.read(bulk=True) as connection:
        counts = connection.execute(query).all()
    for reason, documents in counts:
        named = [work for work in works if work.reason == reason][:_SHOWN_OF_A_REASON]
        if documents > 1:
            yield f"  {reason}: {count(documents)}: {meaning_of(reason or '')}"
        for work in named:
            name, detail = printable("/".join(work.move.document)), printable(work.detail or "")
            yield f"    {name}: {detail}" if documents > 1 else f"  {name}: {reason}: {detail}"
        if documents > len(named):
            yield f"    and {documents - len(named):,} more: {command_line('status', run.run_id)}"


def _is_occupied(run: Run) -> bool:
    """Tell whether other content at a destination is in the way of a plan that may be made anew."""
    if run.record.undo_of is not None or run.record.header.policy.overwrite:
        return False
    occupied = sa.select(moves.c.seq).where(
        moves.c.run_id == run.run_id,
        moves.c.state == MoveState.FAILED,
        moves.c.reason == "destination_occupied",
    )
    with run.catalog.read(bulk=True) as connection:
        return connection.execute(occupied.limit(1)).first() is not None
