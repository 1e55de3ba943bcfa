"""How fast a run may go: timetables, the file of limits, and that both are held to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconcile.control import RateLimit
from reconcile.errors import UsageError
from reconcile.running.phases import speed
from reconcile.running.phases.speed import SpeedLimits, read_limits
from reconcile.timetable import timetable

MIB = 1 << 20
MINUTE = 60


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("50MiB", "12:00", 50 * MIB),
        ("off", "12:00", None),
        ("08:00=20MiB 19:00=off", "08:00", 20 * MIB),
        ("08:00=20MiB 19:00=off", "18:59", 20 * MIB),
        ("08:00=20MiB 19:00=off", "19:00", None),
        ("08:00=20MiB 19:00=off", "07:59", None),  # from the evening before
        ("19:00=1G 08:00=512K", "23:00", 1 << 30),
    ],
)
def test_a_timetable_says_what_holds_at_a_time_of_day(text: str, at: str, expected: int | None) -> None:
    hours, minutes = at.split(":")
    assert timetable(text).at(int(hours) * 60 + int(minutes)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "fast", "0", "-1", "8:00=1M", "24:00=1M", "08:60=1M", "08:00=1M 08:00=2M", "08:00=1M 5M", "08:00=", "5%"],
)
def test_what_is_no_timetable_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        timetable(text)


class Clock:
    """Time that passes only where it is slept."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_bytes_are_held_within_a_tenth_over_a_minute() -> None:
    """Whatever comes: small documents, and some of several seconds; what was written larger is counted as well."""
    clock = Clock()
    limit = RateLimit(10 * MIB, clock, clock.sleep)
    begun = []
    sizes = [40 * MIB if number % 37 == 0 else MIB for number in range(3000)]
    for size in sizes:
        limit.wait(size, lambda: None)
        begun.append((clock.now, size))
        if size > MIB:
            limit.spend(5 * MIB)
            begun.append((clock.now, 5 * MIB))
    for start in range(0, int(clock.now) - MINUTE, 7):
        moved = sum(size for at, size in begun if start <= at < start + MINUTE)
        assert 0.9 <= moved / (MINUTE * 10 * MIB) <= 1.1


def test_a_limit_that_is_lifted_ends_the_wait() -> None:
    clock, rates = Clock(), [1.0]
    limit = RateLimit(lambda: rates[0], clock, clock.sleep)
    limit.wait(100, lambda: None)

    def lift() -> None:
        rates[0] = 1000.0

    limit.wait(1, lift)
    assert clock.now < 1


def test_the_file_of_limits_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It wins over the options; in disorder, what held goes on to hold."""
    monkeypatch.setattr(speed, "LOOK_SECONDS", 0)
    file, workers = folder / "limits.yaml", list[int]()

    def write(text: str) -> None:
        file.write_text(text)
        os.utime(file, ns=(0, 1_000_000_000 * (len(text) + 1)))

    write("max_rate: 5\nmax_bandwidth: 1MiB\nworkers: 3\n")
    limits = SpeedLimits(100, timetable("9MiB"), file, workers.append)
    assert (limits.rate(), limits.bandwidth(), workers) == (5, MIB, [3])
    write("max_bandwidth: off\nworkers: 7 # more\n")
    assert (limits.rate(), limits.bandwidth(), workers) == (100, None, [3, 7])
    for text in (
        "",
        "max_rate: 0",
        "max_bandwidth: fast\nworkers: 1",
        ": : :",
        "max_rates: 5    # misspelt",
        "workers: 0.5",
    ):
        write(text)
        assert (limits.rate(), limits.bandwidth(), workers) == (100, None, [3, 7])
    file.unlink()
    assert limits.bandwidth() is None


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "",
        "max_rate: 0",
        "max_bandwidth: 0",
        "max_rate: .inf",
        "max_rate: 2026-13-45",
        "rate: 5",
        "max_rate: many",
        "max_rate: -1",
        "workers: 1000",
        "workers: true",
        "max_bandwidth: 5%",
        "\xff:",
    ],
)
def test_a_file_in_disorder_is_refused_at_the_beginning(folder: Path, text: str) -> None:
    file = folder / "limits.yaml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="nothing was done"):
        read_limits(file)
    with pytest.raises(UsageError, match="No such file"):
        read_limits(folder / "none.yaml")
