"""What came of a batch of documents, counted for those who take the log: by backend, state and reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def tallied(outcomes: Iterable[tuple[str, str, str | None, int | None]]) -> list[dict[str, str | int]]:
    """Count documents and bytes. An outcome is a backend, a state, the reason of a failure, and a size in bytes."""
    documents, sizes = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    for backend, state, reason, size in outcomes:
        kind = (backend, str(state), reason or "")
        documents[kind] += 1
        sizes[kind] += size or 0
    return [
        {"backend": kind[0], "state": kind[1], "reason": kind[2], "documents": number, "bytes": sizes[kind]}
        for kind, number in documents.items()
    ]
