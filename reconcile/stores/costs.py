"""What a batch of documents asks of each driver, for forecasts: the drivers' ways, told without opening a store."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from reconcile.payload import SPOOL_BYTES
from reconcile.stores.addresses import Address, FileAddress

_BLOCK_BYTES = 4096  # of a file system


@frozen
class Costs:
    """A driver's ways. Requests are asked for one by one unless a field says otherwise.

    ``by_batch``: one statement takes a whole batch. ``worth_listing``: that many keys are looked at by a listing, one
    request a batch; ``doubted``: what it does not show is asked for all the same. ``bulk_delete``: a request deletes
    a batch. ``block``: content takes whole blocks of so many bytes.
    """

    by_batch: bool = False
    worth_listing: int | None = None
    doubted: bool = False
    bulk_delete: bool = True
    block: int = 1


COSTS = {
    "db": Costs(by_batch=True),
    "db2": Costs(by_batch=True),
    "file": Costs(bulk_delete=False, block=_BLOCK_BYTES),
    "s3": Costs(worth_listing=16),
    "swift": Costs(worth_listing=16, doubted=True),
}


def copied_up_to(source: Address, dest: Address, *, is_postgresql: bool, keep_source: bool) -> int:
    """Return up to which size two stores copy content by themselves, if its bytes stay; -1 where they do not."""
    if (source.scheme, dest.scheme) == ("db", "db2"):
        return SPOOL_BYTES if is_postgresql else -1
    if isinstance(source, FileAddress) and isinstance(dest, FileAddress):  # a kept source needs bytes of its own
        same = not keep_source and _device(source) == _device(dest)
    else:
        same = source.scheme == dest.scheme and _server(source) == _server(dest)
    return dest.max_size if same else -1


def _server(address: Address) -> str:
    """Return the endpoint, and the account, that an object store is at."""
    return address.identity.rpartition("/")[0]


def _device(address: FileAddress) -> int | str:
    """Return what tells the file system of a data dir, which may be still to be made."""
    data_dir = Path(address.data_dir)
    return next((path.stat().st_dev for path in (data_dir, data_dir.parent) if path.is_dir()), address.data_dir)
