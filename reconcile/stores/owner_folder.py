"""The folder of the tool's own inside a data dir: the owner mark, and files that an executor moves aside to delete.

Services refuse to start where anything stands at the top of a data dir but folders named by 32 hex digits (they are
MD5s of account names), so this one is named so too. A file is deleted in two steps: it is renamed into the executor's
own directory here, and removed there. Whoever takes a run over removes that directory first, its files put back: from
then on the old executor's rename fails, and what it would still remove is no longer there. That holds however
long it was stopped, and needs no clock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

from reconcile.errors import LockedError, SupersededError
from reconcile.payload import md5
from reconcile.stores.addresses import Key
from reconcile.stores.data_dir import DataDir
from reconcile.stores.syncing import sync_directory

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}  # of file systems, and of the kernel for others' files
_LOCK_SECONDS, _POLL_SECONDS = 10, 0.1
FOLDER = md5(b"reconcile")
MARK = f"{FOLDER}/.owner"  # no document has a path of two parts


class OwnerFolder:
    """The folder inside one data dir. Many threads of one executor may move files aside at once."""

    def __init__(self, data_dir: DataDir) -> None:
        self._data_dir = data_dir
        self._path = data_dir.path(FOLDER)
        self._making = threading.Lock()
        self._own: str | None = None

    def take_aside(self, key: Key, token: str) -> str | None:
        """Rename a file into the executor's directory; return its new path, None if it is gone.

        Raises `SupersededError` where that directory was taken away, `DocumentError`, `OSError`.
        """
        directory = f"{self._path}/{token}"
        path, aside = self._data_dir.safe_path(key), f"{directory}/{_name(key)}"
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            if not os.path.isdir(directory):
                raise SupersededError(
                    f"{path}: another process has taken over this data dir, so this process deletes nothing more",
                    hint="reconcile status    shows who executes the run",
                ) from None
            return None
        return aside

    def put_back(self, aside: str, key: Key) -> None:
        """Give a file its name back, unless something else has that name: then it stays in the folder."""
        path = self._data_dir.safe_path(key)
        if not os.path.lexists(aside):
            return  # removed, or put back by another process
        try:
            self._data_dir.placed(path, partial(os.link, aside, path, follow_symlinks=False), synced=True)
        except FileNotFoundError:
            return  # another process put it back
        except OSError as error:
            if error.errno in NO_LINKS and not os.path.lexists(path):
                os.rename(aside, path)
                return
            if not isinstance(error, FileExistsError) and error.errno not in NO_LINKS:
                raise
            if not _same_file(aside, path):
                os.rename(aside, f"{self._path}/{os.path.basename(aside)}")
                return
        with suppress(FileNotFoundError):
            os.unlink(aside)
        sync_directory(os.path.dirname(path))

    def give_back(self, keys: Iterable[Key], tokens: Collection[str]) -> None:
        """Put back what executors with these tokens moved aside, and remove their directories for good.

        ``keys`` are read only if there is such a directory.
        """
        others = self._others(tokens)
        names = {_name(key): key for key in keys} if others else {}
        for token in others:
            self._empty(f"{self._path}/{token}", names)

    def remove_own(self) -> None:
        """Remove the executor's directory, if it is empty, and the folder, if nothing else is in it."""
        for directory in (self._own, self._path):
            if directory is not None:
                with suppress(OSError):
                    os.rmdir(directory)

    def mark(self) -> bytes | None:
        """Return the owner mark."""
        try:
            with open(self._data_dir.path(MARK), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def swap_mark(self, old: bytes | None, new: bytes | None) -> bool:
        """Replace the owner mark if it is ``old``, under a lock of the file system's where it has such."""
        self._data_dir.make(self._path, synced=True)
        path = self._data_dir.path(MARK)
        with self._locked():
            if self.mark() != old:
                return False
            self._remove_unplaced()
            if new is None:
                with suppress(FileNotFoundError):
                    os.unlink(path)
            else:
                self._write(path, new)
        if new is None:
            self.remove_own()
        return True

    def _write(self, path: str, mark: bytes) -> None:
        temporary = f"{path}.{os.getpid()}.tmp"
        descriptor = self._data_dir.new_file(temporary, synced=True)
        try:
            os.write(descriptor, mark)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._place(temporary, path)

    def _place(self, temporary: str, path: str) -> None:
        os.replace(temporary, path)
        sync_directory(self._path)

    def _remove_unplaced(self) -> None:
        """Remove what a process left that was killed before its mark had its name."""
        head = os.path.basename(MARK) + "."
        for name in os.listdir(self._path):
            if name.startswith(head) and name.endswith(".tmp"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{self._path}/{name}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        """Wait a while for whoever has the folder locked: it may be a process that is stopped, for ever perhaps."""
        give_up = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise LockedError(
                        f"{self._path}: another process has held its lock for {_LOCK_SECONDS} seconds to "
                        "change the owner mark; nothing was done",
                        hint=f"fuser -v {shlex.quote(self._path)} shows that process: end it if it is stopped, "
                        "then run the same command again",
                    ) from None
                time.sleep(_POLL_SECONDS)
            except OSError:  # some network file systems have no locks: the mark is read again after all
                return
            else:
                return

    def prepare(self, token: str) -> None:
        """Create the executor's directory, once: if it was removed, it is not created again.

        It is there before anything is marked: an executor that takes over finds it, or finds that nothing was marked.
        """
        with self._making:
            if self._own is None:
                directory = f"{self._path}/{token}"
                self._data_dir.make(directory, synced=True)
                self._own = directory

    def _others(self, tokens: Collection[str]) -> list[str]:
        try:
            return sorted(set(os.listdir(self._path)) & set(tokens))
        except FileNotFoundError:
            return []

    def _empty(self, directory: str, names: Mapping[str, Key]) -> None:
        """Remove a directory whose owner may still be renaming files into it."""
        while True:
            try:
                for name in os.listdir(directory):
                    aside = f"{directory}/{name}"
                    if name in names:
                        self.put_back(aside, names[name])
                    else:  # nobody on record is about to delete it: it stays, as left over
                        os.rename(aside, f"{self._path}/{name}")
                os.rmdir(directory)
            except FileNotFoundError:
                if not os.path.isdir(directory):
                    return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                return


def _name(key: Key) -> str:
    """Return a file's name while it is taken aside: of a length that every file system takes."""
    return f"{md5(str(key).encode())}.json"


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other))
    except FileNotFoundError:
        return False
