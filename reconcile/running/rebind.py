"""Rebind: make this database the owner of a run, after a restore, an upgrade, or a move to another server.

Copies of a database look alike, and only one of them may delete. Only a person can decide which one. What can be found
out is shown first: what was on record, what is here now, and whether the former database still answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from attrs import field, frozen

from reconcile.catalog import Catalog
from reconcile.control import Control
from reconcile.errors import BackendError, DocumentError, PlaceChangedError
from reconcile.logs import get_logger
from reconcile.planning.decide import DesiredState
from reconcile.running.phases.mark import Mark
from reconcile.running.phases.options import RunOptions
from reconcile.running.record import late_requests
from reconcile.running.record.executor import Executor, executing, executor_name
from reconcile.running.record.identity import (
    database_record,
    database_text,
    encoded_record,
    holds_run,
    is_same_server,
    same_database,
)
from reconcile.running.record.place_record import place_text, rename_place
from reconcile.running.record.records import RunRecord, run_record
from reconcile.running.record.tables import places, runs
from reconcile.stores import Store, open_store

log = get_logger()


@frozen
class Binding:
    """What a run is bound to, and what is here.

    ``former`` and ``present`` describe the database; ``places`` are, by backend, what was on record, what is there now,
    and the owner mark, each in words. ``certain``: it is known that the former database is no longer in use.
    """

    record: RunRecord
    former: str
    present: str
    places: dict[str, tuple[str, str, str]] = field(factory=dict)
    certain: bool = False


def binding_of(catalog: Catalog, run_id: str, desired: DesiredState) -> Binding:
    """Find out what a run is bound to.

    Raises `PlaceChangedError` while the former database still answers and has the run.
    """
    record = run_record(catalog, run_id)
    recorded, here = record.database or {"identity": record.header.database}, database_record(catalog)
    address: Mapping[str, Any] | None = recorded.get("address")
    certain = address is None or address == here["address"]
    if address is not None and not certain and not is_same_server(catalog, address):
        answer = holds_run(catalog, address, run_id)
        if answer:
            raise PlaceChangedError(
                f"the former database of run {run_id} still answers and has the run: "
                f"{database_text(recorded)}. If both databases owned the run, they would delete each other's "
                "documents. Nothing was changed",
                hint="end the run there (reconcile undo or apply on that database), or shut that database "
                "down; to rehearse on a copy, give the copy its own stores",
            )
        certain = answer is not None
    found = {}
    for name, (row, store) in _places(catalog, run_id, desired).items():
        mark = Mark.decode(store.mark())
        owner = mark.describe() if mark.owner else "no owner mark"
        found[name] = (place_text(row.details), place_text(msgspec.json.encode(store.place())), owner)
    certain = certain and same_database(recorded["identity"], here["identity"])
    return Binding(record, database_text(recorded), database_text(here), found, certain)


def rebind(catalog: Catalog, run_id: str, desired: DesiredState, options: RunOptions, control: Control) -> Binding:
    """Bind a run to this database and to the places that are there now; their owner marks become this database's.

    Raises as `binding_of` does, `LockedError` while somebody executes here.
    """
    with executing(catalog, options.lock_wait, control.check) as executor:
        binding = binding_of(catalog, run_id, desired)
        found = _places(catalog, run_id, desired, executor)
        with catalog.write(bulk=True) as connection:
            executor.guard(connection)
            connection.execute(
                sa.update(runs)
                .where(runs.c.run_id == run_id)
                .values(
                    database=encoded_record(catalog),
                    epoch=runs.c.epoch + 1,
                    executor=executor_name(),
                    token=executor.token,
                )
            )
            for name, (row, store) in found.items():
                mine = (places.c.run_id == run_id, places.c.name == name)
                details = msgspec.json.encode(store.place()).decode()
                values = {"store": store.address.identity, "details": details, "mark": None, "mark_before": None}
                connection.execute(sa.update(places).where(*mine).values(**values))
                if row.store != store.address.identity:
                    rename_place(connection, row.store, store.address.identity)
            late_requests.note_all(connection, run_id)
        for name, (_row, store) in found.items():
            _take_mark(name, store)
    log.info("run bound to this database", run=run_id)
    return binding


def _places(
    catalog: Catalog, run_id: str, desired: DesiredState, executor: Executor | None = None
) -> Mapping[str, tuple[Any, Store]]:
    """Return the places of a run on record, each with its store as it is now."""
    with catalog.read() as connection:
        rows = connection.execute(sa.select(places).where(places.c.run_id == run_id).order_by(places.c.name)).all()
    found = {}
    for row in rows:
        store = open_store(desired.places[row.name].backend, catalog, run_id, executor)
        store.prepare(create=False)
        found[row.name] = (row, store)
    return found


def _take_mark(name: str, store: Store) -> None:
    """Take away an owner mark that another database left: the next executor of the run writes its own."""
    text = store.mark()
    mark = Mark.decode(text)
    if mark.owner is None:
        return
    try:
        store.swap_mark(text, Mark(None, mark.shared).encode())
    except (BackendError, DocumentError) as error:
        log.warning("owner mark not removed", backend=name, reason=str(error))
