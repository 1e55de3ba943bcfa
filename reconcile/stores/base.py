"""The contract of a store: what its verbs promise, and which errors they give.

A store is the physical place under a backend. Its verbs take batches, since what is cheap differs: a
table wants one statement, a directory one sync, a bucket one listing. A driver whose server knows single
objects only derives from `DocumentStore` and writes five small methods; the loop and the retries are here.

Promises that every driver keeps, and that the contract suite tests:

- **write** never replaces content. It returns a `Stat`, ``md5`` included, for a key only once the store has
  confirmed that it holds exactly the bytes given, and would still hold them after a crash. A key that is occupied
  gives `DocumentError` ``destination_occupied``, unless what is there is what was to be written.
- **read** returns the bytes as stored, decoding nothing but the driver's own wrapping (base64 in ``db``).
  A missing key gives `DocumentError` ``source_missing``.
- **look** is cheap, and truthful about presence. Keys that are not there are not in its answer.
- **glance** is cheaper, and may leave out what is there: for places that are about to be written to. What **write**
  then finds there after all has ``found`` in its answer.
- **delete** deletes a key only if it still holds the `Known` content; a key that is gone already is success.
- **tidy** removes what a killed **write** of this store's own ``tag`` may have left beside the keys.
- **prepare** raises if the place is not usable; with ``create`` it first makes what the config asks to be made
  (``create_bucket``, a data dir whose parent is there) and nothing else.
- Verbs may be called from many threads at once, and use threads of their own where the server takes many requests.

Errors: what concerns one document is returned in its place as `DocumentError`, so that one bad document
never hides the others. What concerns the whole backend is raised: `TransientError` where trying again may
help, `BackendError` where it cannot. A server that will not serve one document (``unserved``) does not hide the
others either; one that will not serve several in a row is in trouble as a whole. ``look`` does not guess: it raises.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, ClassVar, TypeVar

import stamina
from attrs import Factory, evolve, field, frozen

from reconcile.errors import DocumentError, TransientError
from reconcile.payload import Data, md5
from reconcile.stores.addresses import Address, Key

A = TypeVar("A")
T = TypeVar("T")

_LONGEST_PAUSE = 30.0  # seconds that a server's Retry-After is heeded for


@frozen
class Stat:
    """What a store says of a key: ``size`` in bytes, hex ``md5``, and a ``version`` that changes with the content.

    None where the store does not tell without reading. ``version`` is opaque: an ETag, or size and mtime.
    ``mark`` changes whenever the content is written again, and costs nothing to ask for, where ``version`` does.
    ``in_doubt``: something is there, and only reading tells what (a NULL, several rows, an error).
    ``found``: a write found just this content there, and it was not its own earlier attempt.
    """

    size: int | None = None
    md5: str | None = None
    version: str | None = None
    in_doubt: bool = False
    mark: str | None = None
    found: bool = False


@frozen
class Content:
    """Stored bytes as read, in a spool file where they are many, and their hex ``md5``.

    ``attributes`` are the driver's other columns, to be restored by an undo. ``reproducible`` is False where writing
    data and attributes again would not give the same row. ``is_null``: the column is NULL; services read that as empty.
    """

    data: Data = field(repr=False)
    version: str | None = None
    attributes: Mapping[str, Any] = field(factory=dict)
    reproducible: bool = True
    is_null: bool = False
    md5: str = field(default=Factory(lambda self: md5(self.data), takes_self=True))


@frozen
class Write:
    """Bytes to be written at a key. ``attributes`` come from a `Content` of the same driver, or are empty."""

    key: Key
    data: Data = field(repr=False)
    md5: str
    attributes: Mapping[str, Any] = field(factory=dict)


@frozen
class Transfer:
    """Content that a server is to copy by itself, byte for byte; ``attributes`` as in `Write`."""

    source: Key
    dest: Key
    md5: str
    attributes: Mapping[str, Any] = field(factory=dict)


@frozen
class Transferred:
    """What came of a `Transfer`: ``stat`` of the confirmed copy; the rest tells of the source, as in `Content`."""

    stat: Stat
    md5: str
    version: str | None
    attributes: Mapping[str, Any] = field(factory=dict)
    reproducible: bool = True


@frozen
class Known:
    """The content that a delete is about: its key and the version last seen there."""

    key: Key
    version: str


class Store(ABC):
    """A physical place that holds content. See the module's text for the contract."""

    default_workers: ClassVar[int] = 4

    def __init__(self, address: Address) -> None:
        self.address = address

    def use(self, workers: int) -> None:  # noqa: B027 - one statement does for a whole batch in some stores
        """Have so many requests on their way at once from here on, all callers' together."""

    @abstractmethod
    def prepare(self, *, create: bool) -> None:
        """Raise `BackendError` if the place is not usable; with ``create`` make it first where asked to."""

    @abstractmethod
    def look(self, keys: Sequence[Key], *, digest: bool = False) -> dict[Key, Stat]:
        """Return what is there. With ``digest`` every `Stat` has its ``md5``, read for it if need be."""

    def glance(self, keys: Sequence[Key]) -> dict[Key, Stat]:
        """Return what is easily seen to be there, with its ``md5``."""
        return self.look(keys, digest=True)

    @abstractmethod
    def read(self, keys: Sequence[Key]) -> dict[Key, Content | DocumentError]:
        """Return the content of every key, or why it cannot be had."""

    @abstractmethod
    def write(self, writes: Sequence[Write]) -> dict[Key, Stat | DocumentError]:
        """Write, have confirmed, and make durable; never replace."""

    @abstractmethod
    def delete(self, known: Sequence[Known]) -> dict[Key, DocumentError | None]:
        """Delete what still is the known content; the answer has None for a key that is gone now."""

    def tidy(self, keys: Sequence[Key]) -> None:  # noqa: B027 - most stores have nothing to do
        """Remove what a killed write may have left beside the keys. Most stores leave nothing."""

    @abstractmethod
    def listing(self) -> Iterator[tuple[Key, Stat]]:
        """Yield every key below the backend's prefix, in no particular order."""


class DocumentStore(Store):
    """A store whose server knows single objects: batches become loops, transient errors are tried again."""

    attempts: ClassVar[int] = 5
    documents_in_a_row: ClassVar[int] = 3  # so many that the server would not serve, and it is the server
    _unserved = 0

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.use(self.default_workers)

    def use(self, workers: int) -> None:
        self._workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="store")

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
        stats = self._each(partial(self._look_at, digest=digest), keys)
        return {key: stat for key, stat in zip(keys, stats, strict=True) if stat is not None}

    def _look_at(self, key: Key, *, digest: bool) -> Stat | None:
        stat = self._sure(self._stat, key)
        if isinstance(stat, Stat) and digest and stat.md5 is None:
            content = self._sure(self._get, key)
            if isinstance(content, Content):
                stat = Stat(len(content.data), content.md5, content.version)
        return Stat(in_doubt=True) if isinstance(stat, DocumentError) else stat

    def read(self, keys: Sequence[Key]) -> dict[Key, Content | DocumentError]:
        return dict(zip(keys, self._each(partial(self._outcome, self._get), keys), strict=True))

    def write(self, writes: Sequence[Write]) -> dict[Key, Stat | DocumentError]:
        answers = self._each(self._written, writes)
        return {write.key: answer for write, answer in zip(writes, answers, strict=True)}

    def delete(self, known: Sequence[Known]) -> dict[Key, DocumentError | None]:
        answers = self._each(partial(self._outcome, self._delete_known), known)
        return {content.key: answer for content, answer in zip(known, answers, strict=True)}

    def _each(self, verb: Callable[[A], T], arguments: Sequence[A]) -> list[T]:
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

        return self._outcome(put, write)

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

    def _outcome(self, verb: Callable[[Any], T], argument: object) -> T | DocumentError:
        """Call a verb for one document. The server's trouble is that document's, until it has trouble with all."""
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
        """Call a verb, trying again while the backend's trouble may pass."""
        for attempt in stamina.retry_context(
            on=_wait_after, attempts=self.attempts, timeout=120, wait_initial=0.1, wait_max=5, wait_jitter=0.3
        ):
            with attempt:
                return verb(argument)
        raise AssertionError  # pragma: no cover - the context returns or raises


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
    """Return what ``Retry-After`` says in seconds; its other form, a date, counts for nothing."""
    text = headers.get("retry-after") or ""
    return float(text) if text.isascii() and text.isdigit() else None
