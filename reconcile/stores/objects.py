"""What ``s3`` and ``swift`` share: a flat space of keys that can be listed in order, and deleted many at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from reconcile.control import in_batches
from reconcile.errors import BackendError, DocumentError, TransientError
from reconcile.stores.addresses import Key, ObjectAddress
from reconcile.stores.base import Known, Stat, Write
from reconcile.stores.per_object import DocumentStore

A = TypeVar("A")
T = TypeVar("T")

_WORTH_LISTING = 16
_MARK = "reconcile-owner"  # below the prefix: no document has a key with fewer than two slashes


class ObjectStore(DocumentStore):
    """A bucket or container. A listing shows what is there; what it does not show is requested by name."""

    default_workers: ClassVar[int] = 32
    page: ClassVar[int]  # names that one listing request gives
    delete_page: ClassVar[int]  # keys that one deleting request takes
    lists_at_once: ClassVar[bool]  # a listing shows what was written before it, as a rule
    keeps_marks = True
    _deletes_many = True  # as far as it is known

    def __init__(self, address: ObjectAddress) -> None:
        super().__init__(address)
        import_module("reconcile.retries")  # by now: when requests fail there may be no descriptor to load it with
        self._prefix = address.prefix

    @abstractmethod
    def _prepare(self, *, create: bool) -> None:
        """Do what `prepare` promises; transient errors are tried again."""

    @property
    @abstractmethod
    def _where(self) -> str:
        """The place, for messages."""

    @abstractmethod
    def _list_after(self, name: str, prefix: str, names: int) -> tuple[list[tuple[str, Stat]], bool]:
        """Return a page of so many names in their order, beginning after this one, and whether more follows."""

    @abstractmethod
    def _delete_many(self, keys: list[str]) -> dict[Key, DocumentError | None]:
        """Delete a page of keys in one request; return those that could not be deleted."""

    def prepare(self, *, create: bool) -> None:
        try:
            self._again(lambda _nothing: self._prepare(create=create), None)
        except DocumentError as error:
            raise BackendError(
                error.detail, hint="check the settings in the config, and which server answers there"
            ) from None

    def look(self, keys: Sequence[Key], *, digest: bool = False) -> dict[Key, Stat]:
        found = self._listed(sorted(map(str, keys)))[0] if len(keys) >= _WORTH_LISTING else {}
        found = {key: stat for key, stat in found.items() if stat.version is not None}  # else it is asked for by name
        unseen = [key for key in keys if key not in found or (digest and found[key].md5 is None)]
        return found | super().look(unseen, digest=digest)

    def glance(self, keys: Sequence[Key]) -> dict[Key, Stat]:
        if len(keys) < _WORTH_LISTING or not self.lists_at_once:
            return self.look(keys, digest=True)
        seen, all_of_them = self._listed(sorted(map(str, keys)))
        unsure = [key for key in keys if (seen[key].md5 is None if key in seen else not all_of_them)]
        return seen | super().look(unsure, digest=True)

    @property
    def mark_key(self) -> str:
        """The key of the owner mark."""
        return f"{self._prefix}{_MARK}"

    def foreign_kind(self, key: Key) -> str | None:
        return "owner_mark" if key == self.mark_key else None

    def place(self) -> dict[str, Any]:
        return super().place() | {"mark": self.mark_key}

    def mark(self) -> bytes | None:
        found = self._again(lambda _nothing: self._mark(), None)
        return found[0] if found else None

    def swap_mark(self, old: bytes | None, new: bytes | None) -> bool:
        found = self._again(lambda _nothing: self._mark(), None)
        if (found[0] if found else None) != old:
            return False
        if new is None:
            self._again(self._unmark, found[1] if found else "")
            return True
        self._again(partial(self._put_mark, new), found[1] if found else None)
        there = self.mark()
        if there == old:  # a server that refuses the condition itself: then whoever writes last has it
            self._again(partial(self._put_mark, new, conditional=False), None)
            there = self.mark()
        return there == new

    @abstractmethod
    def _mark(self) -> tuple[bytes, str] | None:
        """Return the owner mark and its ETag."""

    @abstractmethod
    def _put_mark(self, mark: bytes, etag: str | None, *, conditional: bool = True) -> None:
        """Write the owner mark; where ``conditional``, only over the one with this ETag, or over none."""

    @abstractmethod
    def _unmark(self, etag: str) -> None:
        """Remove the owner mark; no error if it is gone."""

    def delete(self, known: Sequence[Known]) -> dict[Key, DocumentError | None]:
        present = self.look([content.key for content in known])
        answer: dict[Key, DocumentError | None] = {}
        doomed: list[str] = []
        for content in known:
            stat = present.get(content.key)
            answer[content.key] = None
            if stat is None:
                continue
            if stat.unverified:
                answer[content.key] = DocumentError("refused", "the server does not report what is there")
            elif stat.version == content.version:
                doomed.append(str(content.key))
            else:
                answer[content.key] = DocumentError("content_changed", "the ETag is not that of the copied content")
        for page in self._pages(doomed):
            if self._deletes_many:
                try:
                    answer |= self._again(partial(self._answered, self._delete_many, page), page)
                    continue
                except DocumentError:  # a server that does not know the request
                    self._deletes_many = False
            versions = {content.key: content.version for content in known}
            one_by_one = [(key, versions[key]) for key in page]
            answer |= dict(zip(page, self.each(partial(self.outcome, self._delete_one), one_by_one), strict=True))
        return answer

    def _pages(self, keys: list[str]) -> list[list[str]]:
        """Cut keys into those of one deleting request each."""
        return list(in_batches(keys, self.delete_page))

    def _delete_one(self, key_and_version: tuple[str, str]) -> None:
        self._answered(self._delete_version, [key_and_version[0]], key_and_version)

    def _delete_version(self, key_and_version: tuple[str, str]) -> None:
        """Delete one key, where the server heeds such a condition only in this version."""
        self._delete(key_and_version[0])

    def _answered(self, request: Callable[[A], T], keys: Sequence[Key], argument: A) -> T:
        """Send a deleting request; one that is not answered may still arrive, and is put on record as such."""
        try:
            return request(argument)
        except TransientError:
            self.fence.unanswered(self.address, keys)
            raise

    def _confirm_by_reading(self, write: Write, etag: str | None) -> None:
        """Confirm a copy where the ETag that its write was answered with is not the MD5.

        Raises `DocumentError` if what is read is not what was written. A damaged copy of ours is taken away again.
        """
        there = self._get(write.key)
        if there.md5 == write.md5:
            return
        if there.version == etag:  # ours, and not what a service wrote there since
            with self.fence.pending(self.address, [write.key]):
                self._answered(self._delete, [write.key], write.key)
        raise DocumentError("not_confirmed", f"{self._where} does not hold what was written")

    def is_listed(self, key: Key) -> bool:
        return key in self._listed([str(key)])[0]

    def listing(self) -> Iterator[tuple[Key, Stat]]:
        last, more = "", True
        while more:
            entries, more = self._page_after(last, self._prefix, self.page)
            yield from entries
            last = entries[-1][0] if entries else last

    def _page_after(self, last: str, prefix: str, names: int) -> tuple[list[tuple[str, Stat]], bool]:
        """Return a page of the listing. What goes wrong with it is no single document's."""
        try:
            return self._again(lambda name: self._list_after(name, prefix, names), last)
        except FileNotFoundError:
            raise BackendError(
                f"{self.address.identity}: it does not exist, or was deleted",
                hint="fix the cause, then run the same command again: it resumes",
            ) from None
        except DocumentError as error:
            raise BackendError(
                f"listing failed: {error.detail}", hint="check which server answers there, and its log"
            ) from None

    def _listed(self, keys: list[str]) -> tuple[dict[Key, Stat], bool]:
        """Learn from a listing what is there, as many names a request as keys; gives up where those are far apart.

        Returns what was seen, and whether the listing was read as far as the last key.
        """
        wanted, found, last = set(keys), dict[Key, Stat](), keys[0][:-1]  # a listing begins after a name
        names, left = min(self.page, len(keys) + 1), self.page + 2 * len(keys)
        while left > 0:
            entries, more = self._page_after(last, "", names)
            left -= names
            found.update((name, stat) for name, stat in entries if name in wanted)
            last = entries[-1][0] if entries else last
            if not more or last >= keys[-1]:
                return found, True
        return found, False
