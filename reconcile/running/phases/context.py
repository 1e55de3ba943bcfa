"""What every phase of a run works with."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from attrs import define, frozen

from reconcile.control import Control
from reconcile.planning.desired import DesiredState
from reconcile.planning.expiry import refuse_expiring
from reconcile.planning.places import is_elsewhere
from reconcile.running.phases.options import RunOptions
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


def open_stores(
    run: Run, desired: DesiredState, options: RunOptions, *conditions: sa.ColumnElement[bool], create: bool
) -> dict[str, Store]:
    """Open every store that the run's moves name, those that meet the conditions, with the fence of its executor.

    Raises `BackendError` for one that is not usable, `ConfigError` for a destination that does not keep documents.
    """
    pairs = run.backend_pairs(*conditions)
    dests = {dest for _source, dest in pairs}
    stores = {}
    for name in sorted(dests | {source for source, _dest in pairs}):
        store = open_store(desired.places[name].backend, run.catalog, run.run_id, run.executor)
        store.set_concurrency(options.workers or store.default_workers)
        if name in dests:
            store.write_with(run.record.header.policy.s3_put)
        store.prepare(create=create and name in dests and not is_elsewhere(name))
        if create and name in dests and run.record.undo_of is None:
            refuse_expiring(name, store)
        stores[name] = store
    return stores
