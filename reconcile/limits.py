"""Limits that the machine sets to a process: threads, memory, open files. Where one is reached, it is named.

Fewer threads do the same work, so a pool that gets no more of them continues with those it has.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reconcile.errors import MachineLimitError

_NO_THREAD = "can't start new thread"  # what Python says, as a RuntimeError
_CONTAINER = Path("/sys/fs/cgroup")
_LEFT_FREE = 160 << 20  # bytes; a thread reserves 8 MiB for its stack and 64 for its heap (glibc), the rest is for work
_M_ARENA_MAX = -8  # of glibc's malloc.h
_FEWER = "raise the limit, or run the same command again with --workers 1 and a small --memory: it resumes"


def keep_few_arenas() -> None:
    """Have glibc keep freed memory in two places, where it has up to sixteen of them for threads on two cores.

    Documents come and go in 32 threads: each place keeps what its threads held at most, some 25 MiB in all.
    """
    import ctypes  # noqa: PLC0415

    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if set_option is not None:
        set_option(_M_ARENA_MAX, 2)


class Threads(ThreadPoolExecutor):
    """A pool that does with the threads it has where the machine gives no more. Without any it raises."""

    def _adjust_thread_count(self) -> None:
        """Start a thread for the work that was just queued; if none can be started, those that run take it."""
        if self._threads and not _is_room_for_a_thread():
            return
        try:
            super()._adjust_thread_count()
        except RuntimeError as error:
            if not self._threads:
                raise exceeded(error) or error from error


def _is_room_for_a_thread() -> bool:
    """Tell whether address space would be left for documents beside one more thread, where it is limited."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return True
    try:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        return True
    return soft - held > _LEFT_FREE


def exceeded(error: BaseException) -> MachineLimitError | None:
    """Return the error that names the limit that caused this one; None if no limit did."""
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        return _limit("no more threads can be started", [*_memory(), *_processes()])
    if isinstance(error, MemoryError):
        return _limit("no more memory can be allocated", _memory())
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return _limit("no more files can be opened", _files())
    if type(error).__name__ == "PanicException":  # of a library in Rust, which makes threads of its own
        text = str(error)
        if "TooManyOpenFiles" in text:
            return _limit("no more files can be opened", _files())
        if "WouldBlock" in text or "OutOfMemory" in text:
            return _limit("no more threads can be started", [*_memory(), *_processes()])
    return None


def files_exhausted() -> MachineLimitError | None:
    """Return the error if no file can be opened now: for libraries that hide why they could not."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return exceeded(error)
    return None


def _limit(what: str, limits: Iterator[str] | list[str]) -> MachineLimitError:
    known = ", ".join(limits)
    return MachineLimitError(
        f"{what}: {known or 'the machine has no more'}; everything on record is complete", hint=_FEWER
    )


def _memory() -> Iterator[str]:
    soft, _hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield f"this process may use {soft >> 20:,} MiB of address space (ulimit -v)"
    held = _of_container("memory.max")
    if held is not None:
        yield f"this container may use {held >> 20:,} MiB (memory.max)"


def _processes() -> Iterator[str]:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY:
        yield f"this user may have {soft:,} processes and threads (ulimit -u)"
    held = _of_container("pids.max")
    if held is not None:
        yield f"this container may have {held:,} processes and threads (pids.max)"


def _files() -> Iterator[str]:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield f"this process may have {soft:,} files open (ulimit -n)"


def _of_container(name: str) -> int | None:
    try:
        return int((_CONTAINER / name).read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None
