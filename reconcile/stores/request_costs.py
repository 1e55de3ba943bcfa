"""Requests of a batch of documents, by driver, for forecasts; known without opening a store."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from reconcile.payload import SPOOL_BYTES
from reconcile.stores.addresses import Address, FileAddress
from reconcile.stores.server_copy import AT_LEAST

_BLOCK_BYTES = 4096  # of a file system


@frozen
class Costs:
    """The costs of a driver. Each key takes its own request unless a field says otherwise.

    ``by_batch``: one statement takes a whole batch. ``worth_listing``: that many keys are checked by a listing, one
    request a batch; ``listing_may_lag``: what it does not show is requested anyway. ``deleted_at_once``: so many keys
    of usual length go into a deleting request, None: a whole batch. ``asks_before_copy``: a copy by the server is
    preceded by a check at both ends. ``block``: content takes whole blocks of so many bytes.
    """

    by_batch: bool = False
    worth_listing: int | None = None
    listing_may_lag: bool = False
    deleted_at_once: int | None = None
    asks_before_copy: bool = False
    block: int = 1


COSTS = {
    "db": Costs(by_batch=True),
    "db2": Costs(by_batch=True),
    "file": Costs(deleted_at_once=1, block=_BLOCK_BYTES),
    "s3": Costs(worth_listing=16, asks_before_copy=True, deleted_at_once=75),
    "swift": Costs(worth_listing=16, listing_may_lag=True, asks_before_copy=True, deleted_at_once=1000),
}


def copied_sizes(source: Address, dest: Address, *, is_postgresql: bool, keep_source: bool) -> range:
    """Return the sizes, in bytes, of content that two stores copy by themselves unchanged; none if they do not."""
    schemes = {source.scheme, dest.scheme}
    if schemes == {"db", "db2"}:
        return range(SPOOL_BYTES + 1) if is_postgresql else range(0)
    if isinstance(source, FileAddress) and isinstance(dest, FileAddress):  # a kept source needs bytes of its own
        is_linked = not keep_source and _device(source) == _device(dest)
        return range(dest.max_size + 1) if is_linked else range(0)
    if len(schemes) == 1 and _server(source) == _server(dest):
        return range(AT_LEAST, dest.max_size + 1)
    return range(0)


def _server(address: Address) -> str:
    """Return the endpoint, and the account, that an object store is at."""
    return address.identity.rpartition("/")[0]


def _device(address: FileAddress) -> int | str:
    """Return what tells the file system of a data dir, which may be still to be made."""
    data_dir = Path(address.data_dir)
    return next((path.stat().st_dev for path in (data_dir, data_dir.parent) if path.is_dir()), address.data_dir)
