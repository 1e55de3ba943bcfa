"""One place under two names (another host name, a share mounted twice): a marker written at one shows at the other.

The marker's name follows from the run, so that the same command finds and removes what a kill left of it; what is in it
is random.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping

from attrs import define, field

from reconcile.errors import BackendError, DocumentError
from reconcile.payload import md5
from reconcile.stores import Known, Store, Write
from reconcile.stores.addresses import Document, Key


@define
class SamePlace:
    """Finds out whether two stores are one place, by the names of their backends. Each pair is tried once a run."""

    run_id: str
    stores: Mapping[str, Store]
    _known: dict[tuple[str, str], bool] = field(factory=dict)
    _one_at_a_time: threading.Lock = field(factory=threading.Lock, repr=False, eq=False)

    def __call__(self, source: str, dest: str) -> bool:
        """Tell whether what seems to be two places is one. Raises `BackendError` if it cannot be found out."""
        with self._one_at_a_time:
            if (source, dest) not in self._known:
                here, there = self.stores[source], self.stores[dest]
                may_be = here.address.scheme == there.address.scheme and here.address.identity != there.address.identity
                self._known[source, dest] = may_be and _marker_is_seen(here, there, self.run_id)
            return self._known[source, dest]


def marker(run_id: str) -> Document:
    """Return the name of a run's marker."""
    return (f"reconcile-{run_id}", "marker", "one-place-under-two-names")


def _marker_is_seen(source: Store, dest: Store, run_id: str) -> bool:
    """Write a random object at the destination, look for it at the source, take it away again."""
    token, document = secrets.token_bytes(16), marker(run_id)
    key, there = dest.address.key(document), source.address.key(document)
    _remove(dest, key)  # what a process left that was killed just here
    written = dest.write([Write(key, token, md5(token))])[key]
    if isinstance(written, DocumentError):
        raise BackendError(
            f"{dest.address.identity}: the marker that shows whether two places are one could not be written: "
            f"{written.detail}",
            hint="nothing was deleted; fix the cause, then run the same command again",
        )
    try:
        seen = source.look(list({there, key}), digest=True).values()
        return any(stat.md5 == md5(token) or stat.unverified for stat in seen)
    finally:
        dest.ready_to_delete()
        dest.delete([Known(key, written.version or "")])


def remove_markers(run_id: str, stores: Mapping[str, Store]) -> None:
    """Remove what a killed process may have left of a run's marker."""
    for store in stores.values():
        _remove(store, store.address.key(marker(run_id)))


def _remove(store: Store, key: Key) -> None:
    store.remove_temporaries([key])
    left = store.look([key], digest=True).get(key)
    if left is not None:
        store.ready_to_delete()
        store.delete([Known(key, left.version or "")])
