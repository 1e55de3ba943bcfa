"""Hard links between two data dirs of one file system: no byte is copied, and each file is read once to verify it.

Source and copy are one file until the source is deleted, and the services overwrite files in place. So this is only for
sources that the run deletes and that nothing else refers to; the run sees to that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from attrs import frozen

from reconcile.errors import DocumentError
from reconcile.stores.addresses import Key
from reconcile.stores.base import Content, Known, Stat
from reconcile.stores.localfs import FileStore
from reconcile.stores.shortcuts import Shortcut, Transfer, Transferred


@frozen
class Links:
    """The way from one data dir to another."""

    source: FileStore
    dest: FileStore

    def shortcut(self) -> Shortcut:
        """Return the way."""
        return Shortcut(self.copy, at_most=self.dest.address.max_size, shares_bytes=True)

    def copy(self, transfers: Sequence[Transfer]) -> dict[Key, Transferred | DocumentError]:
        """Link the files, sync them as one batch, and read them at their new names."""
        linked = [t for t, done in zip(transfers, self.dest.each(self._linked, transfers), strict=True) if done]
        if linked:
            self.dest.make_durable([transfer.dest for transfer in linked])
        verified = zip(linked, self.dest.each(self._verified, linked), strict=True)
        return {transfer.dest: done for transfer, done in verified if done is not None}

    def _linked(self, transfer: Transfer) -> bool:
        """Link one file unless something is there; False leaves it to the ordinary way, which finds the reason."""
        with suppress(OSError, DocumentError):
            if self.dest.data_dir.suits(self.source.data_dir.status(transfer.source)):
                self.dest.link(self.source.data_dir.path(transfer.source), transfer.dest)
                return True
        return False

    def _verified(self, transfer: Transfer) -> Transferred | None:
        """Read the file; one that is not what the catalog says loses its new name again."""
        content = self.dest.read([transfer.dest])[transfer.dest]
        if isinstance(content, Content) and content.md5 == transfer.md5:
            stat = Stat(len(content.data), content.md5, content.version)
            return Transferred(stat, content.md5, content.version)
        with suppress(OSError, DocumentError):
            old, new = self.source.data_dir.status(transfer.source), self.dest.data_dir.status(transfer.dest)
            if os.path.samestat(old, new):
                self.dest.ready_to_delete()
                found = self.dest.look([transfer.dest]).get(transfer.dest)
                self.dest.delete([Known(transfer.dest, found.version or "")] if found else [])
        return None
