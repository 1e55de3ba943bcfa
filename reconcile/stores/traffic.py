"""How many requests stores were sent by this process, and how many of those were retries: for metrics."""

from __future__ import annotations

import threading
from collections import Counter

_counting = threading.Lock()
_requests: Counter[str] = Counter()
_retries: Counter[str] = Counter()


def count_request(scheme: str, *, again: bool) -> None:
    """Count a request to a store whose URLs have this scheme; ``again``: one like it has failed just before."""
    with _counting:
        _requests[scheme] += 1
        _retries[scheme] += again


def counted() -> dict[str, tuple[int, int]]:
    """Return requests, and how many of them were retries, by the URL scheme of the store."""
    with _counting:
        return {scheme: (number, _retries[scheme]) for scheme, number in _requests.items()}
