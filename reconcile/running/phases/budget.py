"""How much one command may stage: documents, bytes, time. What is left is for the next command."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from attrs import define, field

from reconcile.running.record.parts import Outline

T = TypeVar("T")


@define
class Budget:
    """What may be spent; None is no limit. ``until`` is a time of ``clock``, in seconds, ``clock`` the monotonic one.

    ``reached`` is the option of the limit that ended the staging.
    """

    documents: int | None = None
    size: int | None = None
    until: float | None = None
    clock: Callable[[], float] = time.monotonic
    reached: str | None = field(init=False, default=None)

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return (self.documents, self.size, self.until) != (None, None, None)

    def spend(self, batches: Iterable[list[Outline]]) -> Iterator[list[Outline]]:
        """Yield batches within the limits of documents and bytes; the last one is cut.

        Rows of one document stay together.
        """
        documents = size = 0
        for batch in batches:
            allowed: list[Outline] = []
            for outline in batch:
                more = outline.size or 0
                is_new = not allowed or allowed[-1].document != outline.document
                if is_new and (limit := self._beyond(documents, size + more)):
                    self.reached = limit
                    break
                documents, size = documents + 1, size + more
                allowed.append(outline)
            if allowed:
                yield allowed
            if self.reached:
                return

    def _beyond(self, documents: int, size: int) -> str | None:
        if self.documents is not None and documents >= self.documents:
            return "--limit"
        if self.size is not None and documents and size > self.size:
            return "--max-bytes"
        return None

    def in_time(self, parts: Iterable[T]) -> Iterator[T]:
        """Yield parts until the time is up. Each is asked for when it may begin."""
        for part in parts:
            if self.until is not None and self.clock() >= self.until:
                self.reached = "its time limit"
                return
            yield part
