"""Rows that have changed since the plan: found, named, and how to resume the run (R4)."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from reconcile.catalog.tables import archive_metadata
from reconcile.commands import command_line
from reconcile.errors import StaleError
from reconcile.formatting import count
from reconcile.logs import printable
from reconcile.planning.model import PlanHeader
from reconcile.planning.planfile import PlanFile
from reconcile.running.record.next_steps import apply_command, plan_again, undo_command
from reconcile.running.record.run import Run
from reconcile.running.record.states import MoveState
from reconcile.running.record.tables import as_before, moves, same_row

SHOWN = 20
_STAGED = (MoveState.STAGED, MoveState.CHANGED)


def changed_rows(connection: Connection, run_id: str, states: Sequence[MoveState] = _STAGED) -> tuple[int, list[str]]:
    """Return how many rows of moves in these states have changed since the plan, and a line for each of the first."""
    otherwise = sa.or_(archive_metadata.c.userId.is_(None), ~as_before(archive_metadata))
    mine = (moves.c.run_id == run_id, moves.c.state.in_(states), otherwise)
    joined = moves.outerjoin(archive_metadata, same_row(archive_metadata))
    number = connection.execute(sa.select(sa.func.count()).select_from(joined).where(*mine)).scalar_one()
    now = archive_metadata.c
    columns = (now.userId.label("there"), now.content_url, now.digest, now.last_updated)
    query = sa.select(moves, *columns).select_from(joined).where(*mine)
    lines = []
    for row in connection.execute(query.order_by(moves.c.seq).limit(SHOWN)):
        name = printable(f"{row.user_id}/{row.bucket}/{row.archive_id}")
        if row.there is None:
            lines.append(f"{name}: the row was deleted")
            continue
        found = {"content_url": row.content_url, "digest": row.digest, "last_updated": row.last_updated}
        then = {
            "content_url": row.before_url,
            "digest": row.before_digest,
            "last_updated": row.before_last_updated,
        }
        differences = [f"{k} was {then[k]}, is {found[k]}" for k in found if found[k] != then[k]]
        lines.append(f"{name}: {printable('; '.join(differences) or 'is_compressed or size differs')}")
    return int(number), lines


def rows_changed(run: Run, number: int, lines: list[str]) -> StaleError:
    """Return the error about so many rows that have changed since the plan; it names the first."""
    since = "since the run" if run.record.undo_of else "since the plan"
    return StaleError(
        f"{count(number, f'row has changed {since}', f'rows have changed {since}')};"
        f" nothing was switched:\n{_first(lines, number)}",
        hint=_include_them(run),
    )


def rows_added(run: Run, number: int, lines: list[str]) -> StaleError:
    """Return the error about so many rows that were added at a source; it names the first."""
    added = count(number, "row was", "rows were")
    return StaleError(
        f"{added} added at a source since the plan was made; nothing was switched:\n{_first(lines, number)}",
        hint=_include_them(run),
    )


def refuse_overtaken(connection: Connection, run_id: str, plan: PlanFile) -> None:
    """Raise `StaleError` for a plan of which every row has changed, such as one that was applied and forgotten."""
    joined = moves.join(archive_metadata, same_row(archive_metadata))
    mine = moves.c.run_id == run_id, moves.c.state == MoveState.PLANNED
    some = sa.select(moves.c.seq).select_from(joined).where(*mine, as_before(archive_metadata)).limit(1)
    if connection.execute(some).first() is None:
        rows = plan.header.summary.moves.documents
        _number, lines = changed_rows(connection, run_id, (MoveState.PLANNED,))
        raise StaleError(
            f"each of the plan's {count(rows, 'row')} has changed since the plan; no run was "
            f"begun:\n{_first(lines, rows)}",
            hint=_refresh_or_plan(command_line("apply", plan.path, refresh=True), plan.header),
        )


def _first(lines: list[str], rows: int) -> str:
    """Return the lines of the first rows, and how many more there are."""
    more = [f"and {rows - SHOWN:,} more"] if rows > SHOWN else []
    return "\n".join(f"  {line}" for line in [*lines, *more])


def _include_them(run: Run) -> str:
    record, header = run.record, run.record.header
    if record.undo_of is not None:
        return f"{undo_command(record, record.undo_of, with_changes=True)}    includes them as they are now"
    return _refresh_or_plan(apply_command(record, refresh=True), header)


def _refresh_or_plan(refresh: str, header: PlanHeader) -> str:
    again = f"{plan_again(header)}    makes a new plan, which adopts what is staged"
    return again if header.policy.limited else f"{refresh}    includes them as they are now\n{again}"
