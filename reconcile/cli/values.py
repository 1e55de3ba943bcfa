"""What options take besides text and numbers: sizes, durations, times of day, shares, digests."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from reconcile.formatting import size_of
from reconcile.running.phases.options import Share
from reconcile.timetable import timetable

_DAY_SECONDS = 86_400


class Value(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs alone
    """A type of values that a function reads; it raises `ValueError` with what is wrong, and an example."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        if not isinstance(value, str):
            return value
        try:
            return self._read(value.strip())
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002 - click's own
        return self.name


def _share(text: str) -> Share:
    found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", text)
    if not found or float(found[2] or 0) > 100:  # noqa: PLR2004
        raise ValueError(f"{text!r} is not a number of documents or a percentage")
    return Share(float(found[1] or found[2]), percent=found[2] is not None)


def _percentage(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%?", text)
    if not found or not 0 < float(found[1]) <= 100:  # noqa: PLR2004
        raise ValueError(f"{text!r} is not a percentage above 0% and up to 100%")
    return float(found[1])


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0
    if not 0 < rate < math.inf:
        raise ValueError(f"{text!r} is not a number above 0")
    return rate


def _duration(text: str) -> int:
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.lower())
    if not found or not any(found.groups()):
        raise ValueError(f"{text!r} is not a duration, such as 45s, 90m or 2h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _seconds_until(text: str) -> int:
    try:
        wanted = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - local, as people mean it
    except ValueError:
        raise ValueError(f"{text!r} is not a time of day, such as 04:30") from None
    now = datetime.now().astimezone()
    then = now.replace(hour=wanted.hour, minute=wanted.minute, second=0, microsecond=0)
    return int((then - now).total_seconds()) % _DAY_SECONDS


def _instant(text: str) -> int:
    days = re.fullmatch(r"(\d{1,5})d", text.lower())
    if days:
        return int(time.time()) - int(days[1]) * _DAY_SECONDS
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number of days, such as 90d, or a date, such as 2026-01-31") from None
    return int((then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp())


def _digest(text: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        raise ValueError(f"{text!r} is not the digest of a plan, expected sha256: and 64 hex digits")
    return text


SHARE = Value("N|P%", _share)  # `Share`: so many documents, or so many of a hundred
PERCENTAGE = Value("P%", _percentage)  # float, above 0 and up to 100
RATE = Value("N", _rate)  # float, above 0
SIZE = Value("SIZE", size_of)  # int: bytes, given as such or in KiB, MiB, GiB
DURATION = Value("TIME", _duration)  # int: seconds
TIME_OF_DAY = Value("HH:MM", _seconds_until)  # int: seconds until it comes next, by this machine's clock
BANDWIDTH = Value("SIZE|TIMETABLE", timetable)  # `Timetable`: bytes a second by the time of day
INSTANT = Value("DAYS|DATE", _instant)  # int: Unix seconds; a date without an offset is in UTC
DIGEST = Value("sha256:HEX", _digest)  # str, as `show` prints it
