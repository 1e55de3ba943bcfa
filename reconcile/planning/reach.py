"""Whether the places beside the configured ones can be reached at all, with the credentials of today."""

from __future__ import annotations

import threading

from attrs import define, field

from reconcile.catalog import Catalog
from reconcile.errors import BackendError, TransientError
from reconcile.planning.decide import Decision, DesiredState
from reconcile.planning.model import Blocker, Move
from reconcile.planning.places import is_elsewhere
from reconcile.stores import open_store


@define
class Reach:
    """Asks each such place once. Raises `TransientError` for one that may answer another time."""

    catalog: Catalog
    desired: DesiredState
    _problems: dict[str, str | None] = field(init=False, factory=dict)
    _one_at_a_time: threading.Lock = field(init=False, factory=threading.Lock, repr=False, eq=False)

    def check(self, decision: Decision) -> Decision:
        """Return the decision, or a blocker for a move whose source is out of reach."""
        problem = self.problem(decision.source) if isinstance(decision, Move) else None
        if not isinstance(decision, Move) or problem is None:
            return decision
        before = decision.before
        return Blocker(*decision.document, decision.documentName, before.content_url, before.size, "not_owned", problem)

    def problem(self, name: str) -> str | None:
        """Return why a place cannot be reached; None for places that are reached, and for configured ones."""
        if not is_elsewhere(name):
            return None
        with self._one_at_a_time:
            if name not in self._problems:
                self._problems[name] = self._asked(name)
            return self._problems[name]

    def _asked(self, name: str) -> str | None:
        try:
            open_store(self.desired.places[name].backend, self.catalog, "plan").prepare(create=False)
        except TransientError:
            raise
        except BackendError as error:
            said = error.message.partition("\n")[0]
            return f"the source config names another place, and this one cannot be reached with its credentials: {said}"
        return None
