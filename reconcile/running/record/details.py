"""What a run's record says of single documents: what failed, what was left, which sources stay and why."""

from __future__ import annotations

import sqlalchemy as sa

from reconcile.catalog import Catalog
from reconcile.running.record.states import MoveState, Removal
from reconcile.running.record.tables import moves

_SAME_URL = "the document kept its URL, so only the recorded runs show which endpoint holds it"
_ELSEWHERE = "the source config does not name its bucket, prefix or data dir, and the plan has no --clean-elsewhere"
_ONLY_COPY = "no copy can restore the source byte for byte"


def why_kept_for_good() -> sa.ColumnElement[str]:
    """Return why a source is kept that no clean may delete."""
    return sa.case(
        (moves.c.before_url == moves.c.after_url, _SAME_URL),
        (moves.c.source.contains("@"), _ELSEWHERE),
        else_=_ONLY_COPY,
    )


def troubles(catalog: Catalog, run_id: str, limit: int) -> list[tuple[str, str]]:
    """Return name and reason of documents that were not moved or whose sources were kept."""
    query = (
        sa.select(moves)
        .where(
            moves.c.run_id == run_id,
            moves.c.state.in_((MoveState.FAILED, MoveState.CHANGED, MoveState.BLOCKED))
            | (moves.c.cleaned == Removal.KEPT),
        )
        .order_by(moves.c.seq)
        .limit(limit)
    )
    with catalog.read(bulk=True) as connection:
        return [
            (
                f"{row.user_id}/{row.bucket}/{row.archive_id}",
                f"source kept: {row.detail}"
                if row.cleaned == Removal.KEPT
                else f"{row.state}: {row.reason}: {row.detail}",
            )
            for row in connection.execute(query)
        ]


def why_kept(catalog: Catalog, run_id: str, *, only_lasting: bool = False) -> dict[str, int]:
    """Return how many sources a run keeps, by reason; ``only_lasting``: for lasting reasons only."""
    reason = sa.case((moves.c.keep, why_kept_for_good()), else_=moves.c.detail)
    kept = moves.c.keep if only_lasting else moves.c.keep | (moves.c.cleaned == Removal.KEPT)
    query = (
        sa.select(reason.label("reason"), sa.func.count())
        .where(
            moves.c.run_id == run_id,
            moves.c.state == MoveState.STAGED,
            moves.c.cleaned.is_distinct_from(Removal.DELETED),
            kept,
        )
        .group_by(reason)
        .order_by(reason)
    )
    with catalog.read(bulk=True) as connection:
        return {row[0] or "kept": row[1] for row in connection.execute(query)}
