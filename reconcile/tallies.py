"""The outcome of a batch of documents, counted for receivers of the log: by backend, state and reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain


def tallied(
    outcomes: Iterable[tuple[str, str, str | None, int | None]] = (),
    *,
    sums: Iterable[tuple[str, str, str | None, int, int]] = (),
) -> list[dict[str, str | int]]:
    """Count documents and bytes. An outcome is a backend, a state, the reason of a failure, and a size in bytes.

    ``sums`` are outcomes that were counted already: how many documents, and all their bytes.
    """
    documents, sizes = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    ones = ((backend, state, reason, 1, size or 0) for backend, state, reason, size in outcomes)
    for backend, state, reason, number, size in chain(ones, sums):
        kind = (backend, str(state), reason or "")
        documents[kind] += number
        sizes[kind] += size
    return [
        {"backend": kind[0], "state": kind[1], "reason": kind[2], "documents": number, "bytes": sizes[kind]}
        for kind, number in documents.items()
    ]
