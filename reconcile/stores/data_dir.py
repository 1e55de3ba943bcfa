"""The data dir of driver ``localfs``: where files are, and the directories that come and go with them.

New files and directories take owner, group and mode of the data dir, so that services running as another user can read
them. No symbolic link is followed below it: it could lead out, or into another data dir.

Paths are strings and files descriptors here: a run goes through this several times a document, where objects of
``pathlib`` cost more than the file system.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from reconcile.errors import DocumentError
from reconcile.stores.addresses import Key
from reconcile.stores.syncing import sync_directory

T = TypeVar("T")

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # nobody waits at the other end of a pipe
_PRUNED = 100  # times in a row that a new directory may be pruned under us


class DataDir:
    """The directory ``root`` and what is below it. Many threads may make and prune directories at once."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._head = os.path.join(root, "")
        self._status: os.stat_result | None = None
        self._descriptor: int | None = None
        self._real: set[str] = set()  # directories known to be reached by no symbolic link

    def look(self) -> None:
        """Read the owner and file system of the data dir; keeps it open, so that its numbers stay its own."""
        if self._descriptor is None:
            self._descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._descriptor)
        self._status = os.fstat(self._descriptor)

    def is_in_place(self) -> bool:
        """Tell whether the path still leads to the same directory: not after ``umount -l``, for example."""
        try:
            return self._status is None or os.path.samestat(os.stat(self._root), self._status)
        except FileNotFoundError:
            return False

    def place(self) -> dict[str, Any]:
        """Return what identifies the directory: device, inode, and the file system's own id."""
        status = self._status or os.stat(self._root)
        return {
            "device": status.st_dev,
            "inode": status.st_ino,
            "filesystem": f"{os.statvfs(self._root).f_fsid:x}",
        }

    def is_beside(self, other: DataDir) -> bool:
        """Tell whether both are on one file system."""
        here, there = self._status, other._status
        return here is not None and there is not None and here.st_dev == there.st_dev

    def path(self, key: Key) -> str:
        """Return where the key's file is."""
        return f"{self._head}{key}"

    def safe_path(self, key: Key) -> str:
        """Return where the key's file is. Raises `DocumentError` if a directory on the way is a symbolic link."""
        path = self.path(key)
        directory = os.path.dirname(path)
        if directory not in self._real:
            above = directory
            while above not in self._real and above != self._root:
                if os.path.islink(above):
                    raise DocumentError("leaves_data_dir", f"{above} is a symbolic link")
                above = os.path.dirname(above)
            self._real.add(directory)
        return path

    def above(self, key: Key) -> set[str]:
        """Return the directories on the way to the key's file, the data dir included."""
        found, directory = {self._root}, os.path.dirname(self.path(key))
        while directory not in found and len(directory) > len(self._root):
            found.add(directory)
            directory = os.path.dirname(directory)
        return found

    def status(self, key: Key) -> os.stat_result:
        """Return the status of the key's file. Raises `DocumentError` if something else is there, `OSError`."""
        path = self.safe_path(key)
        return _of_a_file(path, os.lstat(path))

    def opened(self, key: Key) -> tuple[int, os.stat_result]:
        """Open the key's file for reading; return descriptor and status. Raises as `status` does."""
        path = self.safe_path(key)
        try:
            descriptor = os.open(path, _READ)
        except OSError:
            self.status(key)  # a symbolic link, or what cannot be opened, is named
            raise
        try:
            return descriptor, _of_a_file(path, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise

    def make(self, directory: str, *, synced: bool) -> None:
        """Make missing directories from the top down; ``synced`` makes each durable at once."""
        missing = []
        while directory != self._root and not os.path.exists(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
        for path in reversed(missing):
            with suppress(FileExistsError, FileNotFoundError):  # another thread made it, or pruned what is above
                os.mkdir(path)
                self._own(path, self._mode() | stat.S_IXUSR)
                if synced:
                    sync_directory(os.path.dirname(path))

    def new_file(self, path: str, *, synced: bool) -> int:
        """Open a new file, its directories made first where they are missing; return the descriptor."""
        descriptor = self.placed(path, partial(os.open, path, _NEW, 0o666), synced=synced)
        try:
            if not self.suits(os.fstat(descriptor)):
                self._own(descriptor, self._mode() & 0o666)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def placed(self, path: str, act: Callable[[], T], *, synced: bool) -> T:
        """Give something the new name ``path``; its directories are made where it turns out that they are missing.

        Another thread may be pruning them as empty just then.
        """
        for _attempt in range(_PRUNED):
            with suppress(FileNotFoundError):
                return act()
            self.make(os.path.dirname(path), synced=synced)
        return act()

    def suits(self, status: os.stat_result) -> bool:
        """Tell whether a file has the owner, group and mode that a new one gets here."""
        if self._status is None:
            return False
        wanted = (self._status.st_uid, self._status.st_gid, self._mode() & 0o666)
        return (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == wanted

    def prune(self, directories: Iterable[str]) -> set[str]:
        """Remove directories that have become empty; return the first above each that stays."""
        return {self._pruned(directory) for directory in directories}

    def _pruned(self, directory: str) -> str:
        while directory != self._root:
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                pass
            except OSError:
                return directory
            directory = os.path.dirname(directory)
        return directory

    def _own(self, path: str | int, mode: int) -> None:
        os.chmod(path, mode)
        if self._status is not None:
            with suppress(PermissionError):  # the plan said so: see planning.summary
                os.chown(path, self._status.st_uid, self._status.st_gid)

    def _mode(self) -> int:
        return stat.S_IMODE(self._status.st_mode) if self._status else 0o755


def _of_a_file(path: str, status: os.stat_result) -> os.stat_result:
    """Return the status if it is a file's."""
    if stat.S_ISLNK(status.st_mode):
        raise DocumentError("leaves_data_dir", f"{path} is a symbolic link")
    if not stat.S_ISREG(status.st_mode):
        raise DocumentError("refused", f"{path} is not a file")
    return status
