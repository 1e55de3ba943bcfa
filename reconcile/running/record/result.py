"""The outcome of a run, by its record."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from attrs import frozen

from reconcile.catalog import Catalog
from reconcile.running.record.records import find_runs
from reconcile.running.record.states import MoveState, Removal
from reconcile.running.record.tables import moves

APPLIED = "the plan is applied already"
UNDONE = "the run is undone already"


@frozen
class Outcome:
    """The outcome of a run. ``kept`` counts sources that stay although the plan would have them deleted.

    ``not_dropped`` names copies that the undo of a run that never switched kept: no longer its own, or, as many
    as ``last_copies`` says, the last ones. ``not_intact`` names documents whose sources stay since their copies are not
    intact.
    ``unreadable`` counts documents of the whole archive that services with the new config cannot read. ``staged``: the
    run ended before its switch, as requested, ``clean_later``: right after it. ``keep_source``: it
    deletes none. ``changed`` counts rows that
    have changed since the plan.
    """

    run_id: str
    documents: int = 0
    staged: bool = False
    clean_later: bool = False
    keep_source: bool = False
    changed: int = 0
    left: int = 0
    kept: int = 0
    unreadable: int = 0
    not_dropped: tuple[str, ...] = ()
    last_copies: int = 0
    not_intact: tuple[str, ...] = ()
    undo_plan: Path | None = None
    remark: str | None = None
    already: str | None = None


def outcome_of(catalog: Catalog, run_id: str, *, already: str | None = None) -> Outcome:
    """Return the outcome of a run, from its record."""
    record = find_runs(catalog, run_id=run_id)[0]
    number = sa.func.count()
    query = sa.select(
        number.filter(moves.c.state == MoveState.STAGED),
        number.filter(moves.c.state.in_((MoveState.BLOCKED, MoveState.FAILED))),
        number.filter(moves.c.cleaned == Removal.KEPT),
    )
    with catalog.read(bulk=True) as connection:
        documents, left, kept = connection.execute(query.where(moves.c.run_id == run_id)).one()
    return Outcome(
        run_id=run_id,
        documents=documents,
        left=left,
        kept=kept,
        keep_source=record.keep_source,
        undo_plan=Path(record.undo_path) if record.undo_path else None,
        remark=record.remark,
        already=already,
    )
