"""Making files durable: one sync for a batch where the file system guarantees that, else one for each."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

_KEEP_THEIR_WORD = {"ext4", "xfs"}  # syncfs writes everything out; network and user-space file systems may not
_TELLS_ERRORS = (5, 8)  # from this Linux on syncfs fails where writing out failed


def syncs_batches(root: Path) -> bool:
    """Tell whether `sync_batch` is as good as a sync of each file below the directory."""
    release = platform.release().split(".")
    if platform.system() != "Linux" or tuple(int(part) for part in release[:2] if part.isdigit()) < _TELLS_ERRORS:
        return False
    return file_system(root) in _KEEP_THEIR_WORD


def file_system(directory: Path) -> str | None:
    """Return the kind of file system that a directory is on, as Linux calls it; None where that is not known."""
    with suppress(OSError, ValueError, IndexError):
        device = directory.stat().st_dev
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields, _dash, kind = line.partition(" - ")
            if fields.split()[2] == f"{os.major(device)}:{os.minor(device)}":
                return kind.split()[0]
    return None


def sync_batch(root: Path) -> None:
    """Make all files and names of the directory's file system durable. Raises `OSError`."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc().syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def sync_directory(directory: Path | str) -> None:
    """Make the names in one directory durable. Raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
