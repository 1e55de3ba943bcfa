"""Stores: the contract (`base`), the rules of URLs and keys (`addresses`), and the drivers."""

from __future__ import annotations

from reconcile.catalog import Catalog
from reconcile.config import Backend
from reconcile.stores.addresses import (
    GIB,
    Address,
    FileAddress,
    Location,
    ObjectAddress,
    SwiftAddress,
    TableAddress,
)
from reconcile.stores.base import Capabilities, Content, Known, Stat, Store, Write
from reconcile.stores.fence import Fence
from reconcile.stores.shortcuts import Shortcut, Transfer, Transferred
from reconcile.stores.store_id import endpoint_identity, swift_identity

__all__ = [
    "Address",
    "Capabilities",
    "Content",
    "Fence",
    "Known",
    "Location",
    "Shortcut",
    "Stat",
    "Store",
    "Transfer",
    "Transferred",
    "Write",
    "address_of",
    "open_store",
]

_LARGEST = {"db": GIB - 1, "db2": GIB // 2 - 1024}  # bytes: a text field; a bytea as hex in one statement


def address_of(backend: Backend) -> Address:
    """Return the rule by which the backend names content. No network; a data dir is inspected."""
    settings = backend.settings
    if backend.driver in _LARGEST:
        return TableAddress(backend.driver, f"database:{backend.driver}", _LARGEST[backend.driver])
    if backend.driver == "localfs":
        return FileAddress(settings["archive_data_dir"])
    if backend.driver == "s3":
        bucket = settings["bucket"]
        identity = f"s3:{endpoint_identity(settings.get('url') or None)}/{bucket}"
        return ObjectAddress("s3", identity, bucket, settings.get("prefix") or "")
    prefix = settings.get("anchore_key_prefix") or ""
    return SwiftAddress("swift", swift_identity(settings), settings["container"], prefix)


def open_store(backend: Backend, catalog: Catalog, tag: str, fence: Fence | None = None) -> Store:
    """Return the backend's store. Heavy libraries are imported here; connections are made on first use.

    ``tag`` marks the run's temporary files: the run's id. ``fence`` is asked before anything is deleted.
    """
    store = _store_of(backend, catalog, tag)
    if fence is not None:
        store.fence = fence
    return store


def _store_of(backend: Backend, catalog: Catalog, tag: str) -> Store:
    address = address_of(backend)
    if backend.driver == "db":
        from reconcile.stores.db import DbStore  # noqa: PLC0415

        return DbStore(address, catalog)
    if backend.driver == "db2":
        from reconcile.stores.db2 import Db2Store  # noqa: PLC0415

        return Db2Store(address, catalog)
    if isinstance(address, FileAddress):
        from reconcile.stores.localfs import FileStore  # noqa: PLC0415

        return FileStore(address, tag)
    if backend.driver == "s3":
        from reconcile.stores import s3  # noqa: PLC0415

        return s3.make(backend, address)
    from reconcile.stores import swift  # noqa: PLC0415

    return swift.make(backend, address)
