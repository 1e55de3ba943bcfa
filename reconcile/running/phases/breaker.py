"""Whether documents fail or a whole store: one that has no document, accepts none, or confirms none."""

from __future__ import annotations

from collections import Counter

from attrs import define, field

from reconcile.errors import BackendError, UnconfirmedError
from reconcile.planning.decide import DesiredState
from reconcile.running.record.parts import Fate
from reconcile.running.record.states import MoveState

_ALL_MISSING = 20  # so many documents missing and none there: it is the store, not the documents
_ALL_REFUSED = 20
_ALL_UNCONFIRMED = 5
_AT_END = 2


@define
class Health:
    """Counts the outcome of documents, store by store. A store of which a document was staged is known to work."""

    desired: DesiredState
    _sound: set[str]
    _missing: Counter[str] = field(factory=Counter)
    _refused: Counter[str] = field(factory=Counter)
    _refusals: dict[str, str] = field(factory=dict)
    _unconfirmed: Counter[str] = field(factory=Counter)

    def count(self, fate: Fate) -> None:
        """Count documents with the same outcome."""
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
        """Raise `BackendError` for a store that has or accepts nothing, `UnconfirmedError` if it confirms nothing."""
        for name, missing in self._missing.items():
            if name not in self._sound and missing >= (_AT_END if at_end else _ALL_MISSING):
                raise self._all_missing(name, missing)
        for name, refused in self._refused.items():
            if name not in self._sound and refused >= (_AT_END if at_end else _ALL_REFUSED):
                raise BackendError(
                    f"{name} ({self._identity(name)}) refuses every document, {refused:,} so far; the first: "
                    f"{self._refusals[name]}. Nothing was switched",
                    hint="check privileges, quota and whether it is read-only, then run the same command again\n"
                    "reconcile check CONFIG    tests each privilege",
                )
        for name, unconfirmed in self._unconfirmed.items():
            if name not in self._sound and unconfirmed >= (_AT_END if at_end else _ALL_UNCONFIRMED):
                raise UnconfirmedError(
                    f"{name} ({self._identity(name)}) holds none of the first {unconfirmed:,} documents as "
                    "they were sent to it",
                    hint="nothing was switched, and what it held was deleted; find out what alters or drops "
                    "the content",
                )

    def _all_missing(self, name: str, missing: int) -> BackendError:
        return BackendError(
            f"none of the first {missing:,} documents is in {name} ({self._identity(name)}); nothing was switched",
            hint="check that the data dir is mounted at the same path here"
            if self.desired.places[name].address.scheme == "file"
            else "check that the source config is the one that the services used until now",
        )

    def _identity(self, name: str) -> str:
        return self.desired.places[name].address.identity
