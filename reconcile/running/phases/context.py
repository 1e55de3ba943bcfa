"""What every phase of a run works with."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from attrs import define, field, frozen

from reconcile.catalog import Catalog
from reconcile.control import Control
from reconcile.planning.decide import DesiredState
from reconcile.planning.expiry import refuse_expiring
from reconcile.planning.model import PlanHeader
from reconcile.planning.places import is_elsewhere
from reconcile.running.phases.options import RunOptions
from reconcile.running.record.executor import Executor
from reconcile.running.record.run import Run
from reconcile.stores import Store, open_store


@frozen
class RunContext:
    """One run under way: its record, the configs that lead it, their open stores, and who drives it.

    ``stores`` are by the names of their places, ``pipelines`` says how many batches are worked on at once.
    """

    run: Run
    desired: DesiredState
    stores: Mapping[str, Store]
    control: Control
    pipelines: int


@define
class Phase:
    """A phase of a run, by the context that it shares with the others."""

    context: RunContext

    @property
    def run(self) -> Run:
        """The run's record."""
        return self.context.run

    @property
    def desired(self) -> DesiredState:
        """The two configs that lead the run."""
        return self.context.desired

    @property
    def stores(self) -> Mapping[str, Store]:
        """The open stores, by the names of their places."""
        return self.context.stores

    @property
    def control(self) -> Control:
        """What says when to stop, and receives the progress."""
        return self.context.control

    def keep_workers_out(self) -> None:
        """From now on no worker may work on a part. Raises `LockedError` naming workers that do (exit 10)."""
        assert self.run.executor is not None  # noqa: S101 - whoever switches or deletes executes
        self.run.executor.keep_workers_out(self.control.check)

    @property
    def pipelines(self) -> int:
        """How many batches are worked on at once."""
        return self.context.pipelines


@define
class StorePool:
    """The stores of one run, by the names of their places: each is opened when it is first asked for, and only once.

    What a path leads to then is what it has to lead to until the end: `PlaceChangedError` where it does not. The
    executor is the fence of each store.
    """

    catalog: Catalog
    desired: DesiredState
    run_id: str
    executor: Executor | None = None
    workers: int | None = None
    _stores: dict[str, Store] = field(factory=dict, init=False)
    _dests: set[str] = field(factory=set, init=False)

    @classmethod
    def of(cls, run: Run, desired: DesiredState, options: RunOptions) -> StorePool:
        """Return the pool of a run that is on record."""
        return cls(run.catalog, desired, run.run_id, run.executor, options.workers)

    def source(self, name: str) -> Store:
        """Return a store that is read. Raises `BackendError` if it is not usable."""
        if name not in self._stores:
            store = self._opened(name)
            store.prepare(create=False)
            self._stores[name] = store
        return self._still_there(name)

    def destination(self, name: str, header: PlanHeader, *, create: bool) -> Store:
        """Return a store that is written to, as a plan says; ``create``: what its config asks to be made is made.

        Raises `BackendError` if it is not usable, `ConfigError` if it does not keep documents.
        """
        if name not in self._dests:
            store = self._stores.get(name) or self._opened(name)
            store.write_with(header.policy.s3_put)
            store.prepare(create=create and not is_elsewhere(name))
            if create and header.undo_of is None:  # what is undone goes back, whatever becomes of it there
                refuse_expiring(name, store)
            self._stores[name] = store
            self._dests.add(name)
        return self._still_there(name)

    def _still_there(self, name: str) -> Store:
        self._stores[name].check_place()
        return self._stores[name]

    def _opened(self, name: str) -> Store:
        store = open_store(self.desired.places[name].backend, self.catalog, self.run_id, self.executor)
        store.set_concurrency(self.workers or store.default_workers)
        return store


def open_stores(run: Run, pool: StorePool, *conditions: sa.ColumnElement[bool], create: bool) -> dict[str, Store]:
    """Return every store that the run's moves name, those that meet the conditions. Raises as the pool does."""
    pairs = run.backend_pairs(*conditions)
    dests = {dest for _source, dest in pairs}
    return {
        name: pool.destination(name, run.record.header, create=create) if name in dests else pool.source(name)
        for name in sorted(dests | {source for source, _dest in pairs})
    }
