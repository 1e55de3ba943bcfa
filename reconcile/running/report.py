"""What a run's record says of single documents: what failed, what was left, which sources stay and why."""

from __future__ import annotations

import sqlalchemy as sa

from reconcile.catalog import Catalog
from reconcile.running.worktables import BLOCKED, CHANGED, FAILED, KEPT, moves


def cleaned_counts(catalog: Catalog, run_id: str) -> dict[str, int]:
    """Return how many sources are deleted, kept or marked for deletion."""
    query = (
        sa.select(moves.c.cleaned, sa.func.count())
        .where(moves.c.run_id == run_id, moves.c.cleaned.is_not(None))
        .group_by(moves.c.cleaned)
    )
    with catalog.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


def troubles(catalog: Catalog, run_id: str, limit: int) -> list[tuple[str, str]]:
    """Return name and reason of documents that were not moved or whose sources were kept."""
    query = (
        sa.select(moves)
        .where(
            moves.c.run_id == run_id,
            moves.c.state.in_((FAILED, CHANGED, BLOCKED)) | (moves.c.cleaned == KEPT),
        )
        .order_by(moves.c.seq)
        .limit(limit)
    )
    with catalog.read() as connection:
        return [
            (
                f"{row.user_id}/{row.bucket}/{row.archive_id}",
                f"source kept: {row.detail}" if row.cleaned == KEPT else f"{row.state}: {row.reason}: {row.detail}",
            )
            for row in connection.execute(query)
        ]
