"""Trying again what failed and may pass, with growing pauses; each further attempt is logged.

Whoever calls imports this when there is something to try again: a plan of a healthy archive starts without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from reconcile.logs import get_logger

T = TypeVar("T")


def try_again(
    first: Exception,
    call: Callable[[], T],
    *,
    on: Callable[[Exception], bool | float],
    attempts: int,
    seconds: float = 45,
    first_pause: float = 0.1,
) -> T:
    """Go on after a first attempt that failed with ``first``; ``attempts`` counts it.

    ``on`` tells of an error whether to try again, or after how many seconds. No attempt begins after ``seconds``.
    Raises the last error.
    """
    failed: Exception | None = first
    for attempt in stamina.retry_context(
        on=on, attempts=attempts, timeout=seconds, wait_initial=first_pause, wait_max=5, wait_jitter=0.3
    ):
        with attempt:
            if failed is not None:
                error, failed = failed, None
                raise error
            return call()
    raise AssertionError  # pragma: no cover - the context returns or raises


def _log(details: RetryDetails) -> None:
    """Log that something is tried again, in one short line."""
    error = getattr(details.caused_by, "orig", None) or details.caused_by
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    get_logger().warning(
        "trying again", attempt=details.retry_num + 1, in_seconds=round(details.wait_for, 1), reason=reason
    )


set_on_retry_hooks([_log])
