"""Stores whose server knows single objects: a batch becomes many concurrent requests, each retried while that may help.

A driver derives from `DocumentStore` and writes five small methods; threads and retries are here, in none of them.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, ClassVar, TypeVar

from attrs import evolve

from reconcile.errors import DocumentError, TransientError
from reconcile.limits import Threads
from reconcile.stores.addresses import Address, Key
from reconcile.stores.base import Content, Known, Stat, Store, Write
from reconcile.stores.concurrency import Gate
from reconcile.stores.traffic import count_request

A = TypeVar("A")
T = TypeVar("T")

_LONGEST_PAUSE = 30.0  # seconds that a server's Retry-After is heeded for


class DocumentStore(Store):
    """A store whose server knows single objects: batches become loops, transient errors are retried."""

    attempts: ClassVar[int] = 5
    documents_in_a_row: ClassVar[int] = 3  # so many that the server would not serve, and it is the server
    _unserved = 0

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.set_concurrency(self.default_workers)

    def set_concurrency(self, workers: int) -> None:
        self._workers = workers
        self._gate = Gate(workers)
        self._threads = Threads(workers, thread_name_prefix="store")

    @abstractmethod
    def _stat(self, key: Key) -> Stat | None:
        """Return what is at the key, None if nothing."""

    @abstractmethod
    def _get(self, key: Key) -> Content:
        """Return the content. Raises `DocumentError` ``source_missing``."""

    @abstractmethod
    def _put(self, write: Write) -> Stat:
        """Write if the key is empty. Raises `DocumentError` ``destination_occupied``."""

    @abstractmethod
    def _delete(self, key: Key) -> None:
        """Delete the key; no error if it is gone."""

    def look(self, keys: Sequence[Key], *, digest: bool = False) -> dict[Key, Stat]:
        stats = self.each(partial(self._look_at, digest=digest), keys)
        return {key: stat for key, stat in zip(keys, stats, strict=True) if stat is not None}

    def stat(self, key: Key) -> Stat | None:
        """Return what is at the key by requesting it by name. Raises `DocumentError` if the server reports nothing."""
        return self._again(self._stat, key)

    def _look_at(self, key: Key, *, digest: bool) -> Stat | None:
        stat = self._sure(self._stat, key)
        if isinstance(stat, Stat) and digest and stat.md5 is None:
            content = self._sure(self._get, key)
            if isinstance(content, Content):
                stat = evolve(stat, size=len(content.data), md5=content.md5, version=content.version)
        return Stat(unverified=True) if isinstance(stat, DocumentError) else stat

    def read(self, keys: Sequence[Key]) -> dict[Key, Content | DocumentError]:
        return dict(zip(keys, self.each(partial(self.outcome, self._get), keys), strict=True))

    def write(self, writes: Sequence[Write]) -> dict[Key, Stat | DocumentError]:
        answers = self.each(self._written, writes)
        return {write.key: answer for write, answer in zip(writes, answers, strict=True)}

    def delete(self, known: Sequence[Known]) -> dict[Key, DocumentError | None]:
        answers = self.each(partial(self.outcome, self._delete_known), known)
        return {content.key: answer for content, answer in zip(known, answers, strict=True)}

    def each(self, verb: Callable[[A], T], arguments: Sequence[A]) -> list[T]:
        """Call a verb for every argument, many at once. The first error ends it, and is raised."""
        if min(self._workers, len(arguments)) <= 1:  # also from one of the threads themselves
            return [verb(argument) for argument in arguments]
        todo = deque(enumerate(arguments))
        answers: dict[int, T] = {}

        def work() -> None:
            with suppress(_NothingLeft):
                while True:
                    index, argument = _taken(todo)
                    answers[index] = verb(argument)

        threads = [self._threads.submit(work) for _thread in range(min(self._workers, len(arguments)))]
        for thread in as_completed(threads):
            if thread.exception() is not None:
                todo.clear()
        for thread in threads:
            thread.result()
        return [answers[index] for index in range(len(arguments))]

    def _written(self, write: Write) -> Stat | DocumentError:
        """Put; if the key is taken, by our own lost attempt or by the same content, that is as good."""
        attempts = count(1)

        def put(write: Write) -> Stat:
            attempt = next(attempts)
            try:
                return self._put(write)
            except DocumentError as error:
                if error.reason != "destination_occupied":
                    raise
                return evolve(self._found(error, write), found=attempt == 1)

        return self.outcome(put, write)

    def _found(self, occupied: DocumentError, write: Write) -> Stat:
        """Return what is at the key if it is what was to be written; else raise."""
        stat = self.look([write.key], digest=True).get(write.key)
        if stat is None or stat.md5 != write.md5:
            raise occupied
        return stat

    def _delete_known(self, known: Known) -> None:
        stat = self._stat(known.key)
        if stat is None:
            return
        if stat.version != known.version:
            raise DocumentError("content_changed", "what is there now is not the content that was copied")
        self._delete(known.key)

    def outcome(self, verb: Callable[[Any], T], argument: object) -> T | DocumentError:
        """Call a verb for one document. A server error counts for that document, until all documents fail."""
        try:
            result = self._sure(verb, argument)
        except TransientError as error:
            self._unserved += 1
            if self._unserved >= self.documents_in_a_row:
                raise
            return DocumentError("unserved", error.message)
        self._unserved = 0
        return result

    def _sure(self, verb: Callable[[Any], T], argument: object) -> T | DocumentError:
        """Call a verb whose answer must not be guessed at: the server's trouble is raised."""
        try:
            return self._again(verb, argument)
        except DocumentError as error:
            return error

    def _again(self, verb: Callable[[Any], T], argument: object) -> T:
        """Call a verb, trying again while the backend's trouble may pass.

        The first attempt is made outside of the loop of attempts, which costs as much as a small request.
        """
        count_request(self.address.scheme, again=False)
        failed = []
        try:
            return self._attempt(verb, argument)
        except TransientError as error:
            failed.append(error)

        def once_more() -> T:
            count_request(self.address.scheme, again=True)
            return self._attempt(verb, argument)

        from reconcile.retries import try_again  # noqa: PLC0415 - data dirs do without; `ObjectStore` has loaded it

        return try_again(
            failed.pop(), once_more, on=_wait_after, attempts=self.attempts, seconds=120, first_pause=0.1, jitter=0.3
        )

    def _attempt(self, verb: Callable[[Any], T], argument: object) -> T:
        """Call a verb once, when the server has room for one more request."""
        with self._gate:
            try:
                return verb(argument)
            except TransientError as error:
                if error.throttled:
                    self._gate.narrow()
                raise


class _NothingLeft(Exception):  # noqa: N818 - it is none
    """Every argument is taken."""


def _taken(todo: deque[tuple[int, A]]) -> tuple[int, A]:
    try:
        return todo.popleft()
    except IndexError:
        raise _NothingLeft from None


def _wait_after(error: Exception) -> bool | float:
    """Tell whether to try again: after the pause that the server asked for (``Retry-After``), else the usual one."""
    if not isinstance(error, TransientError):
        return False
    return True if error.retry_after is None else min(error.retry_after, _LONGEST_PAUSE) + random.uniform(0, 0.3)  # noqa: S311


def seconds_asked(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of ``Retry-After``; its other form, a date, is ignored."""
    text = headers.get("retry-after") or ""
    return float(text) if text.isascii() and text.isdigit() else None
