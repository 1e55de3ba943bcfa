"""Driver ``localfs``: files below a data dir, written so that a crash leaves the whole file or none.

A file is written under a temporary name in its own directory, synced, linked to its final name (which
fails if that exists), its directory synced, and read back; a batch of them with one sync for all, where that is as
good.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from zlib import crc32

from attrs import evolve

from reconcile.errors import (
    BackendError,
    DeniedError,
    DocumentError,
    MissingStoreError,
    PlaceChangedError,
    SupersededError,
)
from reconcile.limits import exceeded
from reconcile.payload import Data
from reconcile.stores.addresses import FileAddress, Key
from reconcile.stores.base import Capabilities, Content, Known, Stat, Store, Write
from reconcile.stores.data_dir import DataDir
from reconcile.stores.descriptors import md5_of, read_all, write_all
from reconcile.stores.owner_folder import FOLDER, MARK, NO_LINKS, OwnerFolder
from reconcile.stores.per_object import DocumentStore
from reconcile.stores.shortcuts import Shortcut
from reconcile.stores.syncing import sync_batch, sync_directory, syncs_batches

_WHOLE_STORE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN}
_TEMPORARY = ".tmp"  # the end of a temporary name; it begins with a dot


class FileStore(DocumentStore):
    """Files below ``archive_data_dir``. ``tag`` is part of temporary names and marks their run."""

    keeps_marks = True

    def __init__(self, address: FileAddress, tag: str) -> None:
        super().__init__(address)
        self._root = Path(address.data_dir)
        self._tag, self._own_tag = tag, f"{tag}.{secrets.token_hex(4)}"  # of the run, of this store alone
        self.data_dir = DataDir(str(self._root))
        self._folder = OwnerFolder(self.data_dir)

    def prepare(self, *, create: bool) -> None:
        with self._errors():
            if create and not self._root.exists() and self._root.parent.is_dir():
                self._root.mkdir(mode=0o755)
                sync_directory(self._root.parent)
        if not self._root.is_dir():
            raise MissingStoreError(
                f"{self._root}: the data dir is not there",
                hint="check that it is mounted at the same path on this machine",
                made_by_apply=self._root.parent.is_dir(),
            )
        if create and os.statvfs(self._root).f_flag & os.ST_RDONLY:
            raise BackendError(
                f"{self._root}: the file system is mounted read-only",
                hint="mount it writable; if it was writable when the machine started, its disk may have "
                "failed (see dmesg)",
            )
        needed = os.R_OK | os.X_OK | (os.W_OK if create else 0)
        if not os.access(self._root, needed):
            raise DeniedError(
                f"{self._root}: the data dir cannot be {'written' if create else 'read'} by this user",
                hint="run as the same user as the services, or as root",
            )
        self.data_dir.look()

    def listing(self) -> Iterator[tuple[Key, Stat]]:
        for directory, _names, files in os.walk(self._root):
            for name in files:
                path = Path(directory, name)
                with suppress(FileNotFoundError):
                    yield str(path.relative_to(self._root)), _stat(path.stat())

    def capabilities(self) -> Capabilities:
        return Capabilities(
            conditional_put=True, confirmation="reading the file back after it was synced", bulk_delete=False
        )

    def rights(self) -> Mapping[str, str]:
        reading, writing = (f"permission to {verb} {self._root} and everything below it" for verb in ("read", "write"))
        return {
            "prepare": writing,
            "look": reading,
            "read": reading,
            "write": writing,
            "delete": writing,
            "listing": reading,
        }

    def foreign_kind(self, key: Key) -> str | None:
        if key == MARK:
            return "owner_mark"
        name = str(key).rpartition("/")[2]
        is_ours = str(key).startswith(f"{FOLDER}/") or (name.startswith(".") and name.endswith(_TEMPORARY))
        return "temporary" if is_ours else None

    def place(self) -> dict[str, Any]:
        with self._errors():
            return super().place() | self.data_dir.place()

    def check_place(self) -> None:
        with self._errors():
            if not self.data_dir.is_in_place():
                raise PlaceChangedError(
                    f"{self._root}: the path now leads to another directory than when this run opened it; "
                    "nothing more is done there",
                    hint="mount the data dir again, then run the same command again",
                )

    def mark(self) -> bytes | None:
        with self._errors():
            return self._folder.mark()

    def swap_mark(self, old: bytes | None, new: bytes | None) -> bool:
        with self._errors():
            return self._folder.swap_mark(old, new)

    def ready_to_delete(self) -> None:
        if self.fence.folder is not None:
            with self._errors():
                self._folder.prepare(self.fence.folder)

    def give_back(self, keys: Iterable[Key], tokens: Collection[str]) -> None:
        with self._errors():
            self._folder.give_back(keys, tokens)

    def remove_temporaries(self, keys: Sequence[Key]) -> None:
        """Remove what any store of the run left, such as the store of a worker that lost its part."""
        beginnings: dict[str, list[str]] = {}
        for key in keys:
            with suppress(DocumentError):
                directory, _slash, name = self.data_dir.safe_path(key).rpartition("/")
                beginnings.setdefault(directory, []).append(f"{_beginning(key, name)}{self._tag}")
        for directory, starts in beginnings.items():
            with self._errors(), suppress(FileNotFoundError, NotADirectoryError):
                for name in os.listdir(directory):
                    if name.endswith(_TEMPORARY) and name.startswith(tuple(starts)):
                        os.unlink(f"{directory}/{name}")
        self._prune(set(beginnings))

    def _give_up(self, keys: Sequence[Key]) -> None:
        """Remove this store's own temporary files."""
        emptied = set()
        for key in keys:
            with suppress(FileNotFoundError, NotADirectoryError, DocumentError), self._errors(key):
                path = self.data_dir.safe_path(key)
                emptied.add(os.path.dirname(path))
                os.unlink(self._temporary(key, path))
        self._prune(emptied)

    def delete(self, known: Sequence[Known]) -> dict[Key, DocumentError | None]:
        self.check_place()
        answer = super().delete(known) if self.fence.folder is None else self._delete_aside(known, self.fence.folder)
        self._prune({os.path.dirname(self.data_dir.path(content.key)) for content in known})
        return answer

    def _delete_aside(self, known: Sequence[Known], token: str) -> dict[Key, DocumentError | None]:
        """Take the files aside, ask the fence, then remove them; if it says no, they get their names back."""
        aside: dict[Key, str] = {}
        try:
            take = partial(self.outcome, partial(self._take_aside, aside, token))
            answers = self.each(take, known)
            self.fence.check()
            self.each(self._remove, list(aside.values()))
        except BaseException:
            with self._errors():
                for key, path in aside.items():
                    self._folder.put_back(path, key)
            raise
        return {content.key: answer for content, answer in zip(known, answers, strict=True)}

    def _take_aside(self, aside: dict[Key, str], token: str, content: Known) -> None:
        """Take one file aside if it is the known content; what turns out to be another gets its name back."""
        with self._errors(content.key):
            try:
                if _stat(self.data_dir.status(content.key)).version != content.version:
                    raise DocumentError("content_changed", "what is there now is not the content that was copied")
            except (FileNotFoundError, NotADirectoryError):
                return
            self.fence.check_recent()
            path = self._folder.take_aside(content.key, token)
            if path is None:
                return
            if _stat(os.lstat(path)).version != content.version:  # written between the look and the rename
                self._folder.put_back(path, content.key)
                raise DocumentError("content_changed", "it was written again just before it was deleted")
            aside[content.key] = path

    def _remove(self, path: str) -> None:
        self.fence.check_recent()
        with self._errors():
            try:
                os.unlink(path)
            except FileNotFoundError:  # it has its name back, by whoever took this part or the run over
                raise SupersededError(f"{path}: another process has taken over, and put it back") from None

    def _prune(self, directories: set[str]) -> None:
        """Remove what has become empty, and make durable that files are gone."""
        with self._errors():
            left = self.data_dir.prune(directories)
            if self._syncs_batches and len(left) > 1:
                sync_batch(self._root)
                return
            for directory in left:
                with suppress(FileNotFoundError, NotADirectoryError):  # another thread pruned it, and synced above
                    sync_directory(directory)

    def _stat(self, key: Key) -> Stat | None:
        with self._errors(key):
            try:
                return _stat(self.data_dir.status(key))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def _get(self, key: Key) -> Content:
        with self._errors(key):
            try:
                data, status = self._read(key)
            except (FileNotFoundError, NotADirectoryError):
                raise DocumentError("source_missing", f"no file {self.data_dir.path(key)}") from None
        return Content(data, version=_stat(status).version)

    def _read(self, key: Key) -> tuple[Data, os.stat_result]:
        """Return what a file holds, and its status from before: one that is written meanwhile has another version."""
        descriptor, status = self.data_dir.opened(key)
        try:
            return read_all(descriptor, status.st_size), status
        finally:
            os.close(descriptor)

    def write(self, writes: Sequence[Write]) -> dict[Key, Stat | DocumentError]:
        if len(writes) == 1 or not self._syncs_batches:
            return super().write(writes)
        try:
            answer = self._each_outcome(self._laid, writes, {})
            self._sync()
            answer = self._each_outcome(self._named, writes, answer)
            self._sync()
            return self._each_outcome(self._confirmed, writes, answer)
        except BaseException:
            self._give_up([write.key for write in writes])
            raise

    def _each_outcome(
        self, step: Callable[[Write], Stat | None], writes: Sequence[Write], answer: dict[Key, Stat | DocumentError]
    ) -> dict[Key, Stat | DocumentError]:
        """Take a step with every document that has no answer yet."""
        todo = [write for write in writes if write.key not in answer]
        outcomes = zip(todo, self.each(partial(self.outcome, step), todo), strict=True)
        return answer | {write.key: outcome for write, outcome in outcomes if outcome is not None}

    @cached_property
    def _syncs_batches(self) -> bool:
        return syncs_batches(self._root)

    def _sync(self) -> None:
        with self._errors():
            sync_batch(self._root)

    def _put(self, write: Write) -> Stat:
        self._laid(write, synced=True)
        found = self._named(write)
        if found is not None:
            return found
        with self._errors(write.key):
            sync_directory(os.path.dirname(self.data_dir.path(write.key)))
        return self._confirmed(write)

    def _laid(self, write: Write, *, synced: bool = False) -> None:
        """Write the file under its temporary name."""
        with self._errors(write.key):
            path = self.data_dir.safe_path(write.key)
            self._write_new(self._temporary(write.key, path), write.data, synced=synced)

    def _named(self, write: Write) -> Stat | None:
        """Give the file its final name; return what is there already if it is the same."""
        with self._errors(write.key):
            path = self.data_dir.path(write.key)
            temporary = self._temporary(write.key, path)
            try:
                self._name(temporary, path)
            except DocumentError as occupied:
                found = evolve(self._found(occupied, write), found=True)
                self.make_durable([write.key])
                return found
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
        return None

    def _confirmed(self, write: Write) -> Stat:
        """Read the file back."""
        with self._errors(write.key):
            descriptor, status = self.data_dir.opened(write.key)
            try:
                found = md5_of(descriptor, status.st_size)
            finally:
                os.close(descriptor)
            if found != write.md5:
                path = self.data_dir.path(write.key)
                self.ready_to_delete()
                self.delete([Known(write.key, _stat(status).version or "")])  # what was read, and no later one
                raise DocumentError("not_confirmed", f"{path} does not read back as written")
            return evolve(_stat(status), md5=write.md5)

    def _delete(self, key: Key) -> None:
        with self._errors(key), suppress(FileNotFoundError):
            os.unlink(self.data_dir.safe_path(key))

    def shortcut_from(self, source: Store) -> Shortcut | None:
        from reconcile.stores.hardlinks import Links  # noqa: PLC0415 - which is made of two of these

        if not isinstance(source, FileStore) or not self.data_dir.is_beside(source.data_dir):
            return None
        return Links(source, self).shortcut()

    def shares_bytes(self, key: Key, other: Store, other_key: Key) -> bool:
        if not isinstance(other, FileStore):
            return False
        with suppress(OSError):
            here, there = os.lstat(self.data_dir.path(key)), os.lstat(other.data_dir.path(other_key))
            return os.path.samestat(here, there) and here.st_nlink > 1  # one name seen by two ways has one link
        return False

    def link(self, path: str, key: Key) -> None:
        """Make a hard link of a file, at a key. Raises `OSError`, `DocumentError`."""
        new = self.data_dir.safe_path(key)
        self.data_dir.placed(new, partial(os.link, path, new, follow_symlinks=False), synced=not self._syncs_batches)

    def make_durable(self, keys: Sequence[Key]) -> None:
        if self._syncs_batches:
            self._sync()
            return
        directories = set[str]()
        for key in keys:
            with self._errors(key):
                descriptor, _status = self.data_dir.opened(key)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                directories |= self.data_dir.above(key)
        with self._errors():
            for directory in directories:
                sync_directory(directory)

    def _temporary(self, key: Key, path: str) -> str:
        """Return a name that no other key has, also where the file system takes two names for one."""
        directory, _slash, name = path.rpartition("/")
        return f"{directory}/{_beginning(key, name)}{self._own_tag}{_TEMPORARY}"

    def _write_new(self, path: str, data: Data, *, synced: bool) -> None:
        descriptor = self.data_dir.new_file(path, synced=synced)
        try:
            write_all(descriptor, data)
            if synced:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _name(self, temporary: str, path: str) -> None:
        """Give the file its final name, which must be free."""
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise DocumentError("destination_occupied", f"{path} exists already") from None
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if os.path.lexists(path):
                raise DocumentError("destination_occupied", f"{path} exists already") from None
            os.rename(temporary, path)

    @contextmanager
    def _errors(self, key: Key | None = None) -> Iterator[None]:
        """Name what the file system refused: a document's file, or, without a key, the data dir as a whole."""
        try:
            yield
        except OSError as error:
            limit = exceeded(error)
            if limit is not None:
                raise limit from None
            if key is None or error.errno in _WHOLE_STORE or not os.path.isdir(self._root):
                hint = "fix the cause, then run the same command again"
                raise BackendError(f"{self._root}: {error.strerror}", hint=hint) from None
            raise DocumentError("refused", f"{self.data_dir.path(key)}: {error.strerror}") from None


def _stat(status: os.stat_result) -> Stat:
    return Stat(size=status.st_size, version=f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}")


def _beginning(key: Key, name: str) -> str:
    return f".{name}.{crc32(str(key).encode()):08x}."
