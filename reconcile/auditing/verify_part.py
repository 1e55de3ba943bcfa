"""Verify a part of the catalog: what came of it in numbers, without a name of a document."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

import sqlalchemy as sa
from attrs import define, frozen

from reconcile.auditing.audit_parts import rows_of_part
from reconcile.auditing.contents import Judge, Verdict
from reconcile.catalog import CatalogRow
from reconcile.catalog.tables import archive_metadata
from reconcile.running.record.parts import Part

_BATCH_DOCUMENTS = 1000  # a page of a listing
_BATCH_BYTES = 32 << 20  # what a batch may have in memory where only reading shows more
_UNSIZED_BYTES = 1 << 20


@frozen
class Verified:
    """Documents of one backend that are as the catalog says; ``unverifiable`` of them have no digest there."""

    backend: str
    documents: int
    size: int
    unverifiable: int


@frozen
class VerifiedPart:
    """What came of a part. ``documents`` were read from the catalog, ``gone`` of them were deleted meanwhile.

    ``problems`` is how many seem missing or wrong; ``seconds`` is how long the part took.
    """

    intact: list[Verified]
    documents: int = 0
    gone: int = 0
    problems: int = 0
    seconds: float = 0.0

    @property
    def size(self) -> int:
        """The intact documents' bytes."""
        return sum(verified.size for verified in self.intact)


@define
class PartVerifier:
    """Verifies parts of one audit, on as many threads at once as call it. ``sample`` is in percent."""

    judge: Judge
    audit: str
    sample: float | None = None

    def verify(self, part: Part) -> VerifiedPart:
        """Verify the rows of a part. Raises `BackendError` for a store that cannot be used at all."""
        begun, problems, gone = time.monotonic(), 0, 0
        sums: dict[str, list[int]] = {}
        rows = self.rows(part)
        for batch in batches(rows):
            verdicts = self.judge.judge(batch)
            gone += len(batch) - len(verdicts)
            problems += sum(verdict.problem is not None for verdict in verdicts)
            for verdict in verdicts:
                if verdict.problem is None:
                    _add(sums.setdefault(verdict.backend, [0, 0, 0]), verdict)
        intact = [Verified(backend, *numbers) for backend, numbers in sums.items()]
        return VerifiedPart(intact, len(rows), gone, problems, round(time.monotonic() - begun, 4))

    def rows(self, part: Part) -> list[CatalogRow]:
        """Return the rows of a part that are to be verified."""
        with self.judge.catalog.snapshot() as connection:
            return rows_of_part(connection, self.audit, part, self._chosen())

    def _chosen(self) -> sa.ColumnElement[bool]:
        """Return the condition of the audit's sample: the same one whoever asks, and another one in each audit."""
        if self.sample is None:
            return sa.true()
        key = sa.func.concat(*archive_metadata.primary_key.columns, self.audit)
        return sa.func.substr(sa.func.md5(key), 1, 8) < f"{int(self.sample / 100 * 0xFFFFFFFF):08x}"


def _add(sums: list[int], verdict: Verdict) -> None:
    for place, number in enumerate((1, verdict.size, verdict.row.digest is None)):
        sums[place] += number


def batches(rows: Iterable[CatalogRow]) -> Iterator[Sequence[CatalogRow]]:
    """Cut the rows into batches, bounded in documents and in bytes."""
    batch, size = list[CatalogRow](), 0
    for row in rows:
        more = _UNSIZED_BYTES if row.size is None else row.size
        if batch and (len(batch) == _BATCH_DOCUMENTS or size + more > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += more
    if batch:
        yield batch
