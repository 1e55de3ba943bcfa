"""Whether it is the documents that fail or a store as a whole: one that has none, takes none, or confirms none."""

from __future__ import annotations

from collections import Counter

from attrs import define, field

from reconcile.errors import BackendError, UnconfirmedError
from reconcile.planning.desired import DesiredState
from reconcile.running.phases.copy import CopyOutcome
from reconcile.running.record.states import MoveState

_ALL_MISSING = 20  # so many documents missing and none there: it is the store, not the documents
_ALL_REFUSED = 20
_ALL_UNCONFIRMED = 5
_AT_END = 2


@define
class Health:
    """Counts what came of documents, store by store. Stores of documents that were staged are above suspicion."""

    desired: DesiredState
    _sound: set[str]
    _missing: Counter[str] = field(factory=Counter)
    _refused: Counter[str] = field(factory=Counter)
    _refusals: dict[str, str] = field(factory=dict)
    _unconfirmed: Counter[str] = field(factory=Counter)

    def count(self, outcome: CopyOutcome) -> None:
        """Count one document."""
        move = outcome.copy.work.move
        if outcome.state == MoveState.STAGED:
            self._sound |= {move.source, move.dest}
        elif outcome.error is not None and outcome.error.reason == "source_missing":
            self._missing[move.source] += 1
        elif outcome.error is not None and outcome.error.reason == "refused":
            refuses = move.source if outcome.copy.content is None else move.dest  # what was read was to be written
            self._refused[refuses] += 1
            self._refusals.setdefault(refuses, outcome.error.detail)
        elif outcome.error is not None and outcome.error.reason == "not_confirmed":
            self._unconfirmed[move.dest] += 1

    def check(self, *, at_end: bool = False) -> None:
        """Raise `BackendError` for a store that has or takes nothing, `UnconfirmedError` if it confirms nothing."""
        for name, missing in self._missing.items():
            if name not in self._sound and missing >= (_AT_END if at_end else _ALL_MISSING):
                raise self._all_missing(name, missing)
        for name, refused in self._refused.items():
            if name not in self._sound and refused >= (_AT_END if at_end else _ALL_REFUSED):
                raise BackendError(
                    f"{name} ({self._identity(name)}) refuses every document, {refused} so far; the first:"
                    f" {self._refusals[name]}. Nothing was switched",
                    hint="let it take and give documents (rights, quota, read-only?), then run the same command again;"
                    " reconcile check CONFIG    tries each right",
                )
        for name, unconfirmed in self._unconfirmed.items():
            if name not in self._sound and unconfirmed >= (_AT_END if at_end else _ALL_UNCONFIRMED):
                raise UnconfirmedError(
                    f"{name} ({self._identity(name)}) holds none of the first {unconfirmed} documents as they were"
                    " sent to it",
                    hint="nothing was switched, and what it held was taken away; find out what alters or drops it",
                )

    def _all_missing(self, name: str, missing: int) -> BackendError:
        return BackendError(
            f"none of the first {missing} documents is in {name} ({self._identity(name)})",
            hint="is the data dir mounted at the same path here?"
            if self.desired.places[name].address.scheme == "file"
            else "is the source config the one that the services used until now?",
        )

    def _identity(self, name: str) -> str:
        return self.desired.places[name].address.identity
