"""Are the services stopped? What is waited for before the switch, what refuses it, and what is said (R4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from reconcile.catalog.services import QUIET_SECONDS, Heartbeat
from reconcile.control import Control, Silent
from reconcile.errors import Interrupted, ServicesRunningError
from reconcile.running.phases import switch

START = 1_000_000


class Clock:
    """The time, in seconds, which goes on when somebody sleeps."""

    now = 0

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds)


class Saying(Silent):
    """What is said to the operator."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str, *, strong: bool = False) -> None:
        self.said.append(text)


class Installation:
    """Services and their heartbeats. ``beats`` gives of each one its last beat before the start, and later ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, has_table: bool = True, **beats: list[int]) -> None:
        self.clock, self.progress, self.beats, self.looks = Clock(), Saying(), beats, 0
        monkeypatch.setattr(switch, "time", SimpleNamespace(monotonic=lambda: self.clock.now, sleep=self.clock.sleep))
        monkeypatch.setattr(switch, "heartbeats", self._heartbeats)
        monkeypatch.setattr(
            switch, "other_sessions", lambda _connection: [f"anchore-catalog from 10.0.0.7 ({self.clock.now})"]
        )
        monkeypatch.setattr(switch, "resume_command", lambda _record: "reconcile apply p.json")
        self.control = Control(progress=self.progress)
        self.run: Any = SimpleNamespace(
            catalog=SimpleNamespace(has_table=lambda _table: has_table, read=self._read), record=None
        )

    def wait(self, seconds: int = QUIET_SECONDS) -> list[Heartbeat]:
        """Wait as a run does before its switch."""
        return switch.wait_for_quiet(self.run, self.control, seconds)

    @contextmanager
    def _read(self) -> Iterator[None]:
        yield None

    def _heartbeats(self, _connection: None) -> list[Heartbeat]:
        self.looks += 1
        seen = {name: [at for at in beats if at <= self.clock.now] for name, beats in self.beats.items()}
        last = {name: max(beats) for name, beats in seen.items() if beats}
        return [Heartbeat("host", name, START + at, self.clock.now - at) for name, at in last.items()]


def test_where_there_are_no_services_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database without their table, and one whose table is empty."""
    without = Installation(monkeypatch, has_table=False)
    assert without.wait() == []
    assert without.looks == 0
    empty = Installation(monkeypatch)
    assert empty.wait() == []
    assert (empty.clock.now, empty.progress.said) == (0, [])


def test_services_that_were_stopped_long_ago_are_on_record_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = Installation(monkeypatch, catalog=[-QUIET_SECONDS], policy=[-9000])
    assert [(beat.service, beat.age) for beat in stopped.wait()] == [("catalog", QUIET_SECONDS), ("policy", 9000)]
    assert (stopped.clock.now, stopped.progress.said) == (0, [])


def test_a_heartbeat_that_does_not_advance_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the youngest is as old as one of a stopped service; what is on record is how it was at the start."""
    stopped = Installation(monkeypatch, catalog=[-30], policy=[-100], simplequeue=[-9000])
    assert [beat.age for beat in stopped.wait()] == [30, 100, 9000]
    assert stopped.clock.now == QUIET_SECONDS - 30
    assert stopped.progress.said == [
        "2 services had a recent heartbeat; waiting up to 120 s to see whether one is running"
    ]


@pytest.mark.parametrize(
    "later", [{"catalog": [-30, 15]}, {"catalog": [-30], "policy": [15]}, {"catalog": [-30], "policy": [-9000, 15]}]
)
def test_a_heartbeat_that_advances_refuses_at_once(
    monkeypatch: pytest.MonkeyPatch, later: dict[str, list[int]]
) -> None:
    """Of a service that was seen before, of one that is new, and of one that seemed to be stopped."""
    running = Installation(monkeypatch, **later)
    with pytest.raises(ServicesRunningError) as error:
        running.wait()
    assert running.clock.now == 15
    name = list(later)[-1]
    assert error.value.message == (
        f"services may be running: {name} on host (heartbeat 0 s ago). Other sessions on the database: "
        "anchore-catalog from 10.0.0.7 (15). Nothing was switched; what is staged stays staged"
    )
    assert error.value.hint == "stop them, then run the same command again (it waits for their heartbeats to expire)"


def test_without_waiting_every_young_heartbeat_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is the command that waits."""
    young = Installation(monkeypatch, catalog=[-30], policy=[-100], simplequeue=[-9000])
    with pytest.raises(ServicesRunningError, match=r"catalog on host .*, policy on host ") as error:
        young.wait(0)
    assert "simplequeue" not in error.value.message
    assert error.value.hint == "stop them, then: reconcile apply p.json    waits for their heartbeats to expire"
    assert (young.clock.now, young.progress.said) == (0, [])


def test_what_is_waited_for_no_longer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    young = Installation(monkeypatch, catalog=[-30])
    with pytest.raises(ServicesRunningError, match=r"catalog on host \(heartbeat 50 s ago\)"):
        young.wait(20)
    assert young.clock.now == 20
    assert young.progress.said == ["1 service had a recent heartbeat; waiting up to 20 s to see whether one is running"]


def test_a_signal_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    young = Installation(monkeypatch, catalog=[-30])
    young.control.signal = 2
    with pytest.raises(Interrupted):
        young.wait()
    assert young.clock.now == 0
