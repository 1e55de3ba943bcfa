"""Trying again what failed and may pass, with growing pauses; each further attempt is logged.

It takes long to load, and is needed when something has failed, or is about to be asked of a server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from reconcile.logs import get_logger, is_configured

T = TypeVar("T")


def try_again(
    first: Exception,
    call: Callable[[], T],
    *,
    on: Callable[[Exception], bool | float],
    attempts: int,
    seconds: float,
    first_pause: float,
    jitter: float,
) -> T:
    """Go on after a first attempt that failed with ``first``; ``attempts`` counts it. Raises the last error.

    ``on`` tells of an error whether to try again, or after how many seconds. An attempt that fails more than
    ``seconds`` after the start is the last. Each pause is twice the one before, up to 5 seconds, and up to ``jitter``
    seconds more.
    """
    failed = [first]
    del first  # an error holds the frames that it came through, with what was to be written
    for attempt in stamina.retry_context(
        on=on, attempts=attempts, timeout=seconds, wait_initial=first_pause, wait_max=5, wait_jitter=jitter
    ):
        with attempt:
            if failed:
                raise failed.pop()
            return call()
    raise AssertionError  # pragma: no cover - the context returns or raises


def _log(details: RetryDetails) -> None:
    """Log that something is tried again, in one short line."""
    error = getattr(details.caused_by, "orig", None) or details.caused_by
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    get_logger().warning(
        "trying again", attempt=details.retry_num + 1, in_seconds=round(details.wait_for, 1), reason=reason
    )


if is_configured():  # a program that uses the library has hooks of its own
    set_on_retry_hooks([_log])
