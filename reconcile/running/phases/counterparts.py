"""The other side of a move, looked at before this one is deleted: the document must still be readable there.

Clean looks at the copies, rollback at the sources. It counts only for documents whose row is as this run left it, or
found it: once a service has rewritten or removed the row, neither side is what the catalog leads to. What a service is
just writing is given a moment for its row to follow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import sqlalchemy as sa
from attrs import frozen

from reconcile.catalog.tables import archive_metadata
from reconcile.planning.decide import DesiredState
from reconcile.running.record.run import Run
from reconcile.running.record.tables import as_after, as_before, moves, same_row
from reconcile.running.record.work_moves import WorkMove, of_batch
from reconcile.stores import Stat, Store
from reconcile.stores.addresses import Key

# Seconds until a look is repeated. The services write or delete the content first and its row right after it
# (`anchore_engine.subsys.object_store.manager`): in between a document looks broken that is not.
_BETWEEN_CONTENT_AND_ROW = 1


@frozen
class _Expected:
    """What is on record of one side: its place and key, and what tells that it is what it was."""

    place: str
    key: Key
    version: str | None
    mark: str | None
    size: int | None
    digest: str | None


@frozen
class Looked:
    """The result of checking the other side, by seq: ``concerned`` are those whose rows lead there.

    ``broken`` are those of them whose content is not as on record, ``absent`` those of them where nothing is.
    """

    concerned: frozenset[int]
    broken: frozenset[int]
    absent: frozenset[int]


def look_at_copies(
    run: Run, desired: DesiredState, stores: Mapping[str, Store], batch: Sequence[WorkMove], *, of_rows: bool = True
) -> Looked:
    """Check that the copies are as they were confirmed; with ``of_rows`` those that rows lead to, else all."""
    return _looked_at(run, desired, stores, batch, _copy_of, as_after if of_rows else None)


def look_at_sources(run: Run, desired: DesiredState, stores: Mapping[str, Store], batch: Sequence[WorkMove]) -> Looked:
    """Check that the sources are as they were read."""
    return _looked_at(run, desired, stores, batch, _source_of, as_before)


def is_another(stat: Stat, version: str | None, mark: str | None, size: int | None) -> bool:
    """Tell whether what is there may be other content now; only reading it can show."""
    unsure = stat.unverified and (stat.mark is None or stat.mark != mark)
    return unsure or _differs(stat.size, size) or _differs(stat.version, version) or _differs(stat.mark, mark)


def _differs(now: object, then: object) -> bool:
    return now is not None and then is not None and now != then


def _looked_at(
    run: Run,
    desired: DesiredState,
    stores: Mapping[str, Store],
    batch: Sequence[WorkMove],
    expected: Callable[[DesiredState, WorkMove], _Expected],
    condition: Callable[[sa.Table], sa.ColumnElement[bool]] | None,
) -> Looked:
    first = _looked_once(run, desired, stores, batch, expected, condition)
    if not first.broken or condition is None:
        return first
    time.sleep(_BETWEEN_CONTENT_AND_ROW)
    broken = [work for work in batch if work.seq in first.broken]
    again = _looked_once(run, desired, stores, broken, expected, condition)
    rewritten = first.broken - again.concerned
    return Looked(first.concerned - rewritten, again.broken, again.absent)


def _looked_once(
    run: Run,
    desired: DesiredState,
    stores: Mapping[str, Store],
    batch: Sequence[WorkMove],
    expected: Callable[[DesiredState, WorkMove], _Expected],
    condition: Callable[[sa.Table], sa.ColumnElement[bool]] | None,
) -> Looked:
    everything = {work.seq for work in batch}
    concerned = everything if condition is None else _rows_that_are(run, batch, condition(archive_metadata))
    wanted = {work.seq: expected(desired, work) for work in batch if work.seq in concerned}
    intact, present = set[int](), set[int]()
    for place in sorted({side.place for side in wanted.values()}):
        stores[place].check_place()
        sides = {seq: side for seq, side in wanted.items() if side.place == place}
        found = stores[place].look(_keys(sides.values()))
        present |= {seq for seq, side in sides.items() if side.key in found}
        intact |= _intact(stores[place], sides, found)
    return Looked(frozenset(wanted), frozenset(wanted.keys() - intact), frozenset(wanted.keys() - present))


def _rows_that_are(run: Run, batch: Sequence[WorkMove], condition: sa.ColumnElement[bool]) -> set[int]:
    query = (
        sa.select(moves.c.seq)
        .join(archive_metadata, same_row(archive_metadata))
        .where(moves.c.run_id == run.run_id, of_batch(batch), condition)
    )
    # Whoever executes asks in a transaction that holds a lock: nobody may answer from a replica that lags behind.
    with run.writing() if run.executor else run.catalog.read() as connection:
        return set(connection.execute(query).scalars()) & {work.seq for work in batch}


def _intact(store: Store, sides: Mapping[int, _Expected], found: Mapping[Key, Stat]) -> set[int]:
    """Return the seqs whose content is there and as on record: by its version, else by its digest."""
    sure, unsure = set(), dict[int, _Expected]()
    for seq, side in sides.items():
        stat = found.get(side.key)
        if stat is None:
            continue
        known = side.version is not None or side.mark is not None
        if known and not is_another(stat, side.version, side.mark, side.size) and not stat.unverified:
            sure.add(seq)
        else:
            unsure[seq] = side
    if unsure:
        read = store.look(_keys(unsure.values()), digest=True)
        for seq, side in unsure.items():
            stat = read.get(side.key)
            if stat is not None and _is_right(stat, side):
                sure.add(seq)
    return sure


def _is_right(stat: Stat, side: _Expected) -> bool:
    if side.digest is not None:
        return stat.md5 == side.digest
    return side.version is None and not _differs(stat.size, side.size)  # neither was ever known


def _keys(sides: Iterable[_Expected]) -> list[Key]:
    return list({side.key: None for side in sides})


def _copy_of(desired: DesiredState, work: WorkMove) -> _Expected:
    move = work.move
    key = desired.places[move.dest].address.keys(move.after.content_url, move.document)[0]
    return _Expected(move.dest, key, work.copy_version, work.copy_mark, work.after_size, work.after_digest)


def _source_of(desired: DesiredState, work: WorkMove) -> _Expected:
    move, before = work.move, work.move.before
    key = desired.places[move.source].address.keys(before.content_url, move.document)[0]
    return _Expected(move.source, key, work.source_version, None, before.size, before.digest)
