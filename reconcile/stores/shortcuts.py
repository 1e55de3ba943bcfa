"""Copies that a server or file system makes by itself, so that the bytes do not go through this client.

A destination says what it can take from a source (`Store.shortcut_from`). What it has copied it has also verified;
what it leaves goes the ordinary way, which then finds the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from reconcile.errors import DocumentError
from reconcile.payload import SPOOL_BYTES
from reconcile.stores.addresses import Key
from reconcile.stores.base import Stat


@frozen
class Transfer:
    """Content that is to be copied byte for byte; ``md5`` is what it must have, ``attributes`` are as in `Write`."""

    source: Key
    dest: Key
    md5: str
    attributes: Mapping[str, Any] = field(factory=dict)


@frozen
class Transferred:
    """The outcome of a `Transfer`: ``stat`` of the confirmed copy; the rest is about the source, as in `Content`."""

    stat: Stat
    md5: str
    version: str | None
    attributes: Mapping[str, Any] = field(factory=dict)
    reproducible: bool = True


@frozen
class Shortcut:
    """One way of copying. ``copy`` answers by the key at the destination, and leaves out what it did not touch.

    A `DocumentError` in its answer says that something may have been written there. It is the shorter way for documents
    of ``at_least`` to ``at_most`` bytes. ``shares_bytes``: source and copy are one until one of them is deleted.
    """

    copy: Callable[[Sequence[Transfer]], dict[Key, Transferred | DocumentError]]
    at_least: int = 0
    at_most: int = SPOOL_BYTES
    shares_bytes: bool = False
