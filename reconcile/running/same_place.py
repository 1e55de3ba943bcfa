"""One place under two names (another host name, a share mounted twice): a marker written at one shows at the other."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from attrs import define, field

from reconcile.errors import BackendError, DocumentError
from reconcile.payload import md5
from reconcile.stores import Known, Store, Write
from reconcile.stores.addresses import Document


@define
class SamePlace:
    """Tells of two stores, by the names of their backends, whether they are one. Each pair is tried once."""

    stores: Mapping[str, Store]
    _known: dict[tuple[str, str], bool] = field(factory=dict)

    def __call__(self, source: str, dest: str) -> bool:
        """Tell whether what seems to be two places is one. Raises `BackendError` if it cannot be found out."""
        if (source, dest) not in self._known:
            here, there = self.stores[source], self.stores[dest]
            may_be = here.address.scheme == there.address.scheme and here.address.identity != there.address.identity
            self._known[source, dest] = may_be and _marker_is_seen(here, there)
        return self._known[source, dest]


def _marker_is_seen(source: Store, dest: Store) -> bool:
    """Write a random object at the destination, look for it at the source, take it away again."""
    token = secrets.token_bytes(16)
    document: Document = (f"reconcile-{token.hex()}", "marker", "one-place-under-two-names")
    key = dest.address.key(document)
    written = dest.write([Write(key, token, md5(token))])[key]
    if isinstance(written, DocumentError):
        raise BackendError(
            f"{dest.address.identity}: the marker that tells one place from two could not be written: {written.detail}",
            hint="nothing was deleted. Mend it, then run the same command again",
        )
    try:
        return source.address.key(document) in source.look([source.address.key(document)]) or key in source.look([key])
    finally:
        dest.delete([Known(key, written.version or "")])
