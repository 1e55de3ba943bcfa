"""Which pairs of stores can copy between themselves, so that the bytes need not come through us."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from reconcile.catalog import Catalog
from reconcile.stores.addresses import Key
from reconcile.stores.base import Store, Transfer, Transferred

Shortcut = Callable[[Sequence[Transfer]], dict[Key, Transferred]]


def shortcut(catalog: Catalog, source: Store, dest: Store) -> Shortcut | None:
    """Return what copies from one store to the other, or None where only reading and writing does.

    It returns what it copied and verified, by the key at the destination, and leaves the rest to the ordinary way.
    """
    tables = {"db", "db2"}
    if catalog.is_postgresql and {source.address.scheme, dest.address.scheme} == tables:
        from reconcile.stores.inside import copy_inside  # noqa: PLC0415
        from reconcile.stores.tables import TableStore  # noqa: PLC0415

        assert isinstance(source, TableStore)  # noqa: S101 - that is what their scheme says
        assert isinstance(dest, TableStore)  # noqa: S101
        return partial(copy_inside, catalog, source, dest)
    return None
