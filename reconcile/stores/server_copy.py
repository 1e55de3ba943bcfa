"""Copies between two buckets or containers of one server, made by the server and confirmed by its ETag.

Such a copy replaces what is at its key (servers ignore conditions on that): each key is requested by name just
before, and left if time has passed since, such as when the process was stopped. It takes three requests where reading
and writing take two, so it is for documents whose bytes weigh more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from reconcile.errors import BackendError, DocumentError, TransientError
from reconcile.logs import get_logger
from reconcile.stores.addresses import Key
from reconcile.stores.base import Known, Stat
from reconcile.stores.objects import ObjectStore
from reconcile.stores.shortcuts import Shortcut, Transfer, Transferred

AT_LEAST = 256 << 10  # bytes; below, a request costs more than the bytes do

FRESH_SECONDS = 5.0  # that a look at a key counts for; then the document goes by a write on condition

CopyOne = Callable[[Transfer], Stat]

log = get_logger()


def _now() -> float:
    """Return a time that also goes on while the machine is suspended, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class BetweenBuckets:
    """The way from one bucket to another. ``copy_one`` copies, replacing content, and returns what is confirmed."""

    def __init__(self, source: ObjectStore, dest: ObjectStore, copy_one: CopyOne) -> None:
        self._source, self._dest, self._copy_one = source, dest, copy_one
        self._is_refused = False

    def shortcut(self) -> Shortcut:
        """Return the way."""
        return Shortcut(self.copy, at_least=AT_LEAST, at_most=self._dest.address.max_size)

    def copy(self, transfers: Sequence[Transfer]) -> dict[Key, Transferred | DocumentError]:
        """Copy what can be copied. Raises `TransientError` if the server fails on several in a row."""
        answers = self._dest.each(self._copied, transfers)
        return {t.dest: answer for t, answer in zip(transfers, answers, strict=True) if answer is not None}

    def _copied(self, transfer: Transfer) -> Transferred | DocumentError | None:
        """Copy one document; None leaves it, and nothing of ours is at its key."""
        if self._is_refused:
            return None
        there = self._source.outcome(self._source.stat, transfer.source)
        if not isinstance(there, Stat) or there.md5 != transfer.md5:
            return None
        answer = self._dest.outcome(partial(self._attempt, count(1)), transfer)
        if answer is None or isinstance(answer, DocumentError):
            return answer
        if answer.md5 == transfer.md5:
            return Transferred(Stat(there.size, transfer.md5, answer.version), transfer.md5, there.version)
        with self._dest.fence.pending(self._dest.address, [transfer.dest]):
            left = self._dest.delete([Known(transfer.dest, answer.version or "")])[transfer.dest]
        return None if left is None else DocumentError("not_confirmed", "the server's copy differs from its source")

    def _attempt(self, attempts: count[int], transfer: Transfer) -> Stat | None:
        """Copy unless the key is taken; by a second attempt it may be that the first one's answer was lost."""
        attempt, looked_at = next(attempts), _now()
        there = self._dest.stat(transfer.dest)
        if there is not None and (attempt == 1 or there.md5 == transfer.md5):
            return None if attempt == 1 else there
        if there is not None:
            raise DocumentError(
                "not_confirmed", "a copy whose answer was lost may be there, and its ETag does not verify it"
            )
        if _now() - looked_at > FRESH_SECONDS:  # somebody may have written there since
            if attempt == 1:
                return None
            raise TransientError("too much time passed between checking a key and copying to it")
        try:
            return self._copy_one(transfer)
        except (FileNotFoundError, DocumentError):  # the source is another by now, or the server does not know how
            return None
        except TransientError:
            raise
        except BackendError as error:
            log.warning("the server cannot copy objects itself; documents are read and written", reason=error.message)
            self._is_refused = True
            return None
