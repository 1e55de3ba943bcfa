"""Whether it is the documents that fail or a store as a whole: one that has none, takes none, or confirms none."""

from __future__ import annotations

from collections import Counter

from attrs import define, field

from reconcile.errors import BackendError, UnconfirmedError
from reconcile.planning.desired import DesiredState
from reconcile.running.record.parts import Fate
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

    def count(self, fate: Fate) -> None:
        """Count documents that came to the same end."""
        if fate.state == MoveState.STAGED:
            self._sound |= {fate.source, fate.dest}
        elif fate.reason == "source_missing":
            self._missing[fate.source] += fate.documents
        elif fate.reason == "refused":
            refuses = fate.dest if fate.was_read else fate.source
            self._refused[refuses] += fate.documents
            self._refusals.setdefault(refuses, fate.detail)
        elif fate.reason == "not_confirmed":
            self._unconfirmed[fate.dest] += fate.documents

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
