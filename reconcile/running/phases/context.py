"""What every phase of a run works with."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, frozen

from reconcile.control import Control
from reconcile.planning.desired import DesiredState
from reconcile.running.record.run import Run
from reconcile.stores import Store


@frozen
class RunContext:
    """One run under way: its record, the configs that lead it, their open stores, and who drives it.

    ``stores`` are by the names of their places, ``pipelines`` says how many batches are in hand at once.
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
        """Who says when to stop, and is told how it goes."""
        return self.context.control

    @property
    def pipelines(self) -> int:
        """How many batches are in hand at once."""
        return self.context.pipelines
