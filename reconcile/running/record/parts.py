"""Parts of a run: ranges of its moves, by their numbers, each of which is worked on as a whole; and the result of one.

A part and its result hold numbers, names of backends and texts of errors: no document, no credential, no location.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from attrs import field, frozen

from reconcile.payload import SPOOL_BYTES
from reconcile.running.record.states import MoveState
from reconcile.stores.addresses import Document

UNSIZED_BYTES = 1 << 20  # what a document counts for whose size the catalog does not know


@frozen
class Outline:
    """A move, as far as cutting parts needs it; ``size`` is its document's in bytes, None where that is not known."""

    seq: int
    document: Document
    size: int | None

    @classmethod
    def of(cls, row: Sequence[Any]) -> Outline:
        """Make it from a row: number, user, bucket, archiveId, size."""
        seq, user, bucket, archive_id, size = row
        return cls(seq, (user, bucket, archive_id), size)


@frozen
class Part:
    """Those of a run's moves from ``first`` to ``last`` that are still to be done; ``size`` is in bytes."""

    first: int
    last: int
    documents: int
    size: int

    @classmethod
    def of(cls, outlines: Sequence[Outline]) -> Part:
        """Make a part of moves in their order."""
        size = sum(UNSIZED_BYTES if outline.size is None else outline.size for outline in outlines)
        return cls(outlines[0].seq, outlines[-1].seq, len(outlines), size)

    def __len__(self) -> int:
        return self.documents


@frozen
class Fate:
    """How many documents of a part, from one backend to one other, had the same outcome.

    ``detail`` is the text of the first one's error. ``was_read``: it is the destination that the error is about.
    """

    source: str
    dest: str
    state: MoveState
    reason: str | None = None
    was_read: bool = False
    documents: int = 0
    size: int = 0
    detail: str = ""

    @property
    def why_failed(self) -> str | None:
        """The code of the reason; None unless they failed."""
        return self.reason if self.state == MoveState.FAILED else None


@frozen
class PartResult:
    """The result of a part. ``failed`` are the numbers of moves that were not staged.

    ``grown`` is by how many bytes more than was read was written, ``seconds`` how long it took.
    """

    fates: list[Fate]
    failed: list[int] = field(factory=list)
    grown: int = 0
    seconds: float = 0.0

    @property
    def documents(self) -> int:
        """How many moves it was."""
        return sum(fate.documents for fate in self.fates)

    @property
    def size(self) -> int:
        """Their documents' bytes, as far as the catalog knows them."""
        return sum(fate.size for fate in self.fates)


def by_size(batches: Iterable[list[Outline]], documents: int, most: int) -> Iterator[Part]:
    """Make parts of what comes in batches: of so many documents at most, and of ``most`` bytes in memory.

    Rows of one document stay together.
    """
    cut, size = list[Outline](), 0
    for outline in chain.from_iterable(batches):
        more = UNSIZED_BYTES if outline.size is None else min(outline.size, SPOOL_BYTES)
        is_full = len(cut) >= documents or size + more > most
        if cut and is_full and cut[-1].document != outline.document:
            yield Part.of(cut)
            cut, size = [], 0
        cut.append(outline)
        size += more
    if cut:
        yield Part.of(cut)
