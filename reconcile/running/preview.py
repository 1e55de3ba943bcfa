"""Preview of an undo or a later clean: nothing is written, no lock is taken.

It reads what the command reads: the work tables, the catalog, and the stores. It does not find out whether two places
are one, since that takes a marker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import sqlalchemy as sa
from attrs import field, frozen

from reconcile.catalog import Catalog
from reconcile.catalog.tables import archive_metadata
from reconcile.planning.decide import DesiredState
from reconcile.running.clean_kept import kept_sources, nothing_to_do
from reconcile.running.phases.clean import MOVED_ON, OTHER_NAME, REFERRED, STAGED_BY_ANOTHER
from reconcile.running.phases.clean_part import NOT_INTACT
from reconcile.running.phases.context import StorePool, open_stores
from reconcile.running.phases.counterparts import look_at_copies
from reconcile.running.phases.options import RunOptions
from reconcile.running.phases.references import (
    has_moved_on,
    is_referred_source,
    referred_by_other_names,
    staged_by_others,
)
from reconcile.running.record.identity import check_database
from reconcile.running.record.records import RunRecord
from reconcile.running.record.result import UNDONE
from reconcile.running.record.run import Run
from reconcile.running.record.states import MoveState, Origin, Removal, RunState
from reconcile.running.record.tables import as_after, moves, same_row
from reconcile.running.record.work_moves import WorkMove
from reconcile.stores import Stat, Store
from reconcile.stores.addresses import Key

_BATCH_DOCUMENTS = 500
_CHANGED = "what is there now is not the content that was copied"


@frozen
class CleanPreview:
    """The outcome that a later clean would have, as `clean_kept.Cleaned`. ``same_place`` pairs are not yet checked."""

    run_id: str
    deleted: int = 0
    stays: dict[str, int] = field(factory=dict)
    already: str | None = None
    same_place: tuple[tuple[str, str], ...] = ()


@frozen
class UndoPreview:
    """The outcome that an undo would have. ``copies`` of a run that never switched are the ones on record as its own.

    ``changed`` counts rows that are no longer as the run left them: an undo refuses them, unless with changes.
    """

    run_id: str
    documents: int = 0
    copies: int = 0
    changed: int = 0
    already: str | None = None


def preview_clean(
    catalog: Catalog, run_id: str, desired: DesiredState, options: RunOptions, older_than: int | None = None
) -> CleanPreview:
    """Return the outcome that `clean_kept.clean` would have now. Raises as it does."""
    kept = kept_sources(catalog, run_id)
    check_database(catalog, kept.record)
    why = nothing_to_do(catalog, kept, older_than)
    if why is not None:
        return CleanPreview(run_id, stays=kept.stays, already=why)
    run = Run(catalog, kept.record, epoch=0)
    stores = open_stores(run, StorePool.of(run, desired, options), create=False)
    stays = Counter(kept.stays)
    deleted = 0
    for why_one in _reasons(run, desired, stores):
        if why_one is None:
            deleted += 1
        else:
            stays[why_one] += 1
    pairs = run.backend_pairs(moves.c.state == MoveState.STAGED)
    unsure = tuple((source, dest) for source, dest in pairs if _may_be_one(stores[source], stores[dest]))
    return CleanPreview(run_id, deleted, dict(sorted(stays.items())), same_place=unsure)


def _may_be_one(here: Store, there: Store) -> bool:
    return here.address.scheme == there.address.scheme and here.address.identity != there.address.identity


def _reasons(run: Run, desired: DesiredState, stores: Mapping[str, Store]) -> Iterator[str | None]:
    """Yield for each source that may go why it stays; None where it would be deleted."""
    sources = {source for source, _dest in run.backend_pairs()}
    others = referred_by_other_names(run.catalog, [desired.places[name].address for name in sources])
    staged, later = staged_by_others(run), run.later_runs()
    left = (moves.c.cleaned.is_distinct_from(Removal.DELETED), ~moves.c.keep)
    for batch in run.batches(MoveState.STAGED, _BATCH_DOCUMENTS, *left):
        by_rows = _told_by_rows(run, batch, later)
        broken = look_at_copies(run, desired, stores, batch).broken
        keys = {work.seq: _source_key(work, desired) for work in batch}
        for name in {work.move.source for work in batch}:
            mine = [work for work in batch if work.move.source == name]
            there = _looked_at(stores[name], [keys[work.seq] for work in mine])
            for work in mine:
                location = stores[name].address.location(keys[work.seq])
                stat = there.get(keys[work.seq])
                if work.seq in by_rows:
                    yield by_rows[work.seq]
                elif location in others:
                    yield OTHER_NAME
                elif location in staged:
                    yield STAGED_BY_ANOTHER
                elif work.seq in broken:
                    yield NOT_INTACT
                else:
                    yield None if stat is None or stat.version == work.source_version else _CHANGED


def _source_key(work: WorkMove, desired: DesiredState) -> Key:
    address = desired.places[work.move.source].address
    return address.keys(work.move.before.content_url, work.move.document)[0]


def _told_by_rows(run: Run, batch: list[WorkMove], later: list[str]) -> dict[int, str]:
    """Return by seq why sources of the batch stay, as far as the catalog and the work tables tell."""
    mine = sa.and_(moves.c.run_id == run.run_id, moves.c.seq.in_([work.seq for work in batch]))
    found: dict[int, str] = {}
    conditions = [(MOVED_ON, condition) for condition in (has_moved_on(later) if later else [])]
    with run.catalog.read(bulk=True) as connection:
        for why, condition in [*conditions, (REFERRED, is_referred_source())]:
            found |= dict.fromkeys(connection.execute(sa.select(moves.c.seq).where(mine, condition)).scalars(), why)
    return found


def _looked_at(store: Store, keys: list[Key]) -> dict[Key, Stat]:
    """Return what is at the keys, each with its version: some stores tell that only with the digest."""
    found = store.look(list(set(keys)))
    unknown = [key for key, stat in found.items() if stat.version is None]
    return found | (store.look(unknown, digest=True) if unknown else {})


def preview_undo(catalog: Catalog, record: RunRecord) -> UndoPreview:
    """Return the outcome that a plain undo of a run would have, from its record and the catalog."""
    if record.state == RunState.UNDONE:
        return UndoPreview(record.run_id, already=UNDONE)
    check_database(catalog, record)
    mine = moves.c.run_id == record.run_id
    count = sa.select(sa.func.count()).select_from(moves)
    if record.switched_at is None:
        own = count.where(mine, moves.c.origin.in_((Origin.INTENDED, Origin.WRITTEN)))
        with catalog.read(bulk=True) as connection:
            return UndoPreview(record.run_id, copies=int(connection.execute(own).scalar_one()))
    switched = sa.and_(mine, moves.c.state == MoveState.STAGED)
    as_left = sa.exists().where(same_row(archive_metadata), as_after(archive_metadata))
    with catalog.read(bulk=True) as connection:
        catalog.favour_hash_joins(connection)
        documents = int(connection.execute(count.where(switched)).scalar_one())
        changed = int(connection.execute(count.where(switched, ~as_left)).scalar_one())
    return UndoPreview(record.run_id, documents, changed=changed)
