"""May anything be deleted at a place: it is the one on record, and its owner mark is still this run's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field

from reconcile.errors import PlaceChangedError
from reconcile.running.phases.mark import Mark
from reconcile.running.record.identity import database_text, same_database
from reconcile.running.record.next_steps import rebind_command
from reconcile.running.record.run import Run
from reconcile.stores import Store


@define
class PlaceCheck:
    """The places of one run, each with the mark that it is to have there.

    ``unclaimed`` says of some, by the names of their backends, why it is not certain which place they are;
    ``of_others`` are destinations that another installation owns.
    """

    run: Run
    stores: Mapping[str, Store]
    marks: dict[str, bytes] = field(factory=dict, kw_only=True)
    unclaimed: dict[str, str] = field(factory=dict, kw_only=True)
    of_others: set[str] = field(factory=set, kw_only=True)

    def check(self, name: str, *, deletes: bool = True) -> None:
        """Raise before a batch of deletes unless the place is the one on record and still this executor's.

        ``deletes`` False: it is the other side of what is deleted, which may be another installation's, if so told.
        """
        store = self.stores[name]
        store.check_place()
        if name in self.of_others and not deletes:
            return
        if name in self.unclaimed:
            raise PlaceChangedError(
                f"{store.address.identity}: {self.unclaimed[name]}; nothing is deleted there",
                hint=f"if it is the right place, this, then the same command again:\n{rebind_command(self.run.record)}",
            )
        if name in self.marks and store.mark() != self.marks[name]:
            assert self.run.executor is not None  # noqa: S101 - whoever deletes executes
            self.run.executor.check()  # whoever took over has changed the mark, and rightly
            other = Mark.decode(store.mark())
            who = other.describe() if other.owner else "no owner: the mark of this run is gone"
            raise PlaceChangedError(
                f"{store.address.identity}: the owner mark is not this run's any more; it says: {who}. Nothing more is"
                " deleted there",
                hint=f"if this database is the one that the services use:\n{rebind_command(self.run.record)}",
            )

    def may_overwrite(self, name: str) -> bool:
        """Tell whether content at a destination may make room; raises as `check` does."""
        if name in self.of_others or self.why_not_delete(name) is not None:
            return False
        self.check(name)
        return True

    def why_not_delete(self, name: str) -> str | None:
        """Return why nothing may be deleted at a place for good, None where it may."""
        mark = Mark.decode(self.marks.get(name))
        others = self._others(mark)
        return f"the place is shared with {', '.join(map(database_text, others))}" if others else None

    def is_confirmed(self, name: str) -> bool:
        """Tell whether it is certain that the place is the one on record, so that what is gone there was deleted."""
        return name not in self.unclaimed

    def _others(self, mark: Mark) -> list[dict[str, Any]]:
        me = self.run.catalog.identity
        return [other for other in mark.shared if not same_database(other.get("identity", {}), me)]
