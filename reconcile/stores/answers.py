"""Refusals of servers: their own sentence in one line, and its meaning, for every protocol."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from reconcile.logs import printable
from reconcile.secret import scrub

_LONGEST = 300  # characters of a server's sentence that are shown
_TAG = re.compile(r"<[^<>]*>")
_FULL = re.compile(r"quota|storagefull|diskfull|insufficientstorage", re.IGNORECASE)
_TOO_LARGE, _INSUFFICIENT_STORAGE = 413, 507
FULL_HINT = "free space there, or have the quota raised; then run the same command again: it resumes"


def sentence(text: str | None) -> str:
    """Return a server's message in one line, without markup and credentials, to be shown after a colon."""
    words = " ".join(_TAG.sub(" ", text or "").split())
    shown = printable(scrub(words))
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    return f": {shown}" if shown else ""


def is_full(status: int, code: str, message: str) -> bool:
    """Tell whether an answer reports a full store: a quota, or the disks. ``code`` is the error's name, if any.

    Swift answers 413 if a quota is exceeded, its s3api EntityTooLarge; only the message shows that it is the quota.
    """
    is_too_large = status == _TOO_LARGE or code == "EntityTooLarge"
    exceeds_quota = is_too_large and "quota" in message.lower()
    return status == _INSUFFICIENT_STORAGE or exceeds_quota or _FULL.search(code) is not None


def clocks(server_time: str | None) -> tuple[float, str] | None:
    """Return by how many seconds this machine's clock is ahead of a server's, and both in words.

    ``server_time`` is as S3 writes it in an error (``2026-11-26T12:00:00Z``), or an HTTP ``Date``.
    """
    here = datetime.now(UTC)
    try:
        there = datetime.fromisoformat(server_time or "")
    except ValueError:
        try:
            there = parsedate_to_datetime(server_time or "")
        except ValueError:
            return None
    there = there if there.tzinfo else there.replace(tzinfo=UTC)
    return (
        here - there
    ).total_seconds(), f"this machine has {here:%Y-%m-%d %H:%M:%S} UTC, the server {there:%Y-%m-%d %H:%M:%S} UTC"
