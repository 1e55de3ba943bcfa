"""The data dir of driver ``localfs``: where files are, and the directories that come and go with them.

New files and directories take owner, group and mode of the data dir, so that services running as another user can read
them. No symbolic link is followed below it: it could lead out, or into another data dir.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from reconcile.errors import DocumentError
from reconcile.stores.addresses import Key
from reconcile.stores.syncing import sync_directory

_PRUNED = 100  # times in a row that a new directory may be pruned under us


class DataDir:
    """The directory ``root`` and what is below it. Many threads may make and prune directories at once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._status: os.stat_result | None = None
        self._real: set[Path] = set()  # directories known to be reached by no symbolic link

    def look(self) -> None:
        """Learn whose the data dir is, and on which file system."""
        self._status = self._root.stat()

    def is_beside(self, other: DataDir) -> bool:
        """Tell whether both are on one file system."""
        here, there = self._status, other._status
        return here is not None and there is not None and here.st_dev == there.st_dev

    def path(self, key: Key) -> Path:
        """Return where the key's file is."""
        return self._root / str(key)

    def safe_path(self, key: Key) -> Path:
        """Return where the key's file is. Raises `DocumentError` if a symbolic link, or no file, stands on the path."""
        path = self.path(key)
        with suppress(FileNotFoundError, NotADirectoryError):
            kind = path.lstat().st_mode
            if stat.S_ISLNK(kind):
                raise DocumentError("leaves_data_dir", f"{path} is a symbolic link")
            if not stat.S_ISREG(kind):
                raise DocumentError("refused", f"{path} is no file")
        directory = path.parent
        while directory not in self._real and directory != self._root:
            if directory.is_symlink():
                raise DocumentError("leaves_data_dir", f"{directory} is a symbolic link")
            directory = directory.parent
        self._real.add(path.parent)
        return path

    def make(self, directory: Path, *, synced: bool) -> None:
        """Make missing directories from the top down; ``synced`` makes each durable at once."""
        missing = []
        while directory != self._root and not directory.exists():
            missing.append(directory)
            directory = directory.parent
        for path in reversed(missing):
            with suppress(FileExistsError, FileNotFoundError):  # another thread made it, or pruned what is above
                path.mkdir()
                self._own(path, self._mode() | stat.S_IXUSR)
                if synced:
                    sync_directory(path.parent)

    def new_file(self, path: Path, *, synced: bool) -> IO[bytes]:
        """Open a new file, its directories made first; another thread may be pruning them as empty just then."""
        for _attempt in range(_PRUNED):
            self.make(path.parent, synced=synced)
            with suppress(FileNotFoundError):
                file = path.open("wb")
                self._own(path, self._mode() & 0o666)
                return file
        return path.open("wb")

    def suits(self, status: os.stat_result) -> bool:
        """Tell whether a file has the owner, group and mode that a new one gets here."""
        if self._status is None:
            return False
        wanted = (self._status.st_uid, self._status.st_gid, self._mode() & 0o666)
        return (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == wanted

    def prune(self, directories: Iterable[Path]) -> set[Path]:
        """Remove directories that have become empty; return the first above each that stays."""
        return {self._pruned(directory) for directory in directories}

    def _pruned(self, directory: Path) -> Path:
        while directory != self._root:
            try:
                directory.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                return directory
            directory = directory.parent
        return directory

    def _own(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        if self._status is not None:
            with suppress(PermissionError):  # the plan said so: see planning.summary
                os.chown(path, self._status.st_uid, self._status.st_gid)

    def _mode(self) -> int:
        return stat.S_IMODE(self._status.st_mode) if self._status else 0o755
