"""R1: a request that waits in a load balancer deletes nothing that an undo has made the last copy meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconcile.errors import Interrupted, LockedError
from reconcile.running.record import late_requests
from reconcile.stores import s3_delete
from tests.archives import Place
from tests.cli.forks import forks
from tests.cli.runner import KILLER, reconcile
from tests.crash.paused import REPOSITORY
from tests.servers.proxy import FaultProxy, Forward, Request, Response
from tests.servers.swift import SwiftServer
from tests.world import DB, World, s3

LIFE = 4
DOCUMENTS = 12


class LoadBalancer:
    """Holds requests that delete documents until it is told to let them go."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.held, self.go, self.answers = threading.Event(), threading.Event(), list[int]()
        self.hold = True
        proxy.rule = self.rule

    def rule(self, request: Request, forward: Forward) -> Response:
        if self.hold and request.method == "POST" and "delete" in request.path:
            self.held.set()
            self.go.wait(60)
            answer = forward(request)
            self.answers.append(answer.status)
            return answer
        return forward(request)


@pytest.fixture
def proxy(swift: SwiftServer) -> Iterator[FaultProxy]:
    server = FaultProxy(swift.url)
    server.access_key, server.secret_key = swift.access_key, swift.secret_key  # type: ignore[attr-defined]
    yield server
    server.close()


@pytest.fixture
def killed(
    folder: Path, database: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[World, LoadBalancer]]:
    """An archive in S3 whose move to the database was killed while a request to delete its sources waits."""
    monkeypatch.setattr(s3_delete, "LIFE_SECONDS", LIFE)
    monkeypatch.setattr(late_requests, "HANDLING_SECONDS", 2)
    world = World(folder, database)
    world.fill(DOCUMENTS)
    place = Place(folder, world.url, None)
    source, dest = world.config("config", s3(proxy, place.buckets[0])), world.config("dest", DB)
    world.apply(world.plan(dest, source, "setup.json"))
    plan, balancer = world.plan(source, dest), LoadBalancer(proxy)
    process = forks().start(KILLER, ["nowhere", "apply", plan.path, "--yes"], REPOSITORY, CRASH_LIFE=str(LIFE))
    assert balancer.held.wait(100)
    process.kill()
    process.wait()
    balancer.hold = False
    yield world, balancer
    balancer.go.set()


def test_a_request_that_arrives_after_its_life_is_refused_by_the_server(killed: tuple[World, LoadBalancer]) -> None:
    world, balancer = killed
    source = world.folder / "config.yaml"
    truth = world.read(world.folder / "dest.yaml")
    world.undo()
    assert world.read(source) == truth
    balancer.go.set()
    while not balancer.answers:
        time.sleep(0.05)
    assert set(balancer.answers) == {403}
    assert world.read(source) == truth


@pytest.mark.matrix
def test_a_request_that_arrives_in_time_costs_nothing_either(killed: tuple[World, LoadBalancer]) -> None:
    """The undo has adopted what is deleted then; it waits, finds it gone, and restores it before its switch."""
    world, balancer = killed
    source, truth = world.folder / "config.yaml", world.read(world.folder / "dest.yaml")
    with pytest.MonkeyPatch.context() as patch:
        original = late_requests._wait_for

        def arrives(*args: object) -> None:
            balancer.go.set()
            while not balancer.answers:
                time.sleep(0.05)
            original(*args)  # type: ignore[arg-type]

        patch.setattr(late_requests, "_wait_for", arrives)
        world.undo()
    assert world.read(source) == truth


@pytest.mark.matrix
def test_the_wait_can_be_left_and_taken_up_again(killed: tuple[World, LoadBalancer]) -> None:
    """--takeover-wait 0 ends at once, exit 10, with what is staged; rows lead to the copies until the switch."""
    world, _balancer = killed
    truth = world.read(world.folder / "dest.yaml")
    with pytest.raises(LockedError, match="delete requests of an earlier process") as error:
        world.undo(takeover_wait=0)
    assert error.value.exit_code == 10
    assert world.read(world.folder / "dest.yaml") == truth
    result = reconcile("undo", "p.undo.json", "--yes", "--takeover-wait", "0", cwd=world.folder)
    assert result.code in (0, 10), result.all
    result = reconcile("undo", "p.undo.json", "--yes", cwd=world.folder)
    assert result.code == 0, result.all
    assert world.read(world.folder / "config.yaml") == truth


@pytest.mark.matrix
def test_the_wait_can_be_interrupted(killed: tuple[World, LoadBalancer], monkeypatch: pytest.MonkeyPatch) -> None:
    from reconcile import verbs
    from reconcile.control import Control

    world, _balancer = killed
    control = Control()
    original = late_requests._until

    def until(*args: object) -> int:
        control.signal = signal.SIGINT
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(late_requests, "_until", until)
    with pytest.raises(Interrupted):
        verbs.apply(verbs.prepare(world.folder / "p.undo.json"), control=control)
    monkeypatch.undo()
    truth = world.read(world.folder / "dest.yaml")
    world.undo()
    assert world.read(world.folder / "config.yaml") == truth


def test_a_run_without_such_deletes_does_not_wait(
    folder: Path, database: str, swift: SwiftServer, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(late_requests, "_wait_for", lambda *_: pytest.fail("it waited"))
    world = World(folder, database)
    world.fill(3)
    source, dest = world.config("config", DB), world.config("dest", s3(swift, f"nowait-{os.getpid()}"))
    world.apply(world.plan(source, dest))
    world.undo()


@pytest.mark.matrix
def test_a_clean_that_ended_by_itself_leaves_nothing_to_wait_for(
    folder: Path, database: str, swift: SwiftServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after a batch: all that it sent was answered."""
    from reconcile import verbs
    from reconcile.control import Control
    from reconcile.running.phases import clean
    from reconcile.running.phases.clean_part import CleanedPart
    from reconcile.running.record.parts import Part

    world = World(folder, database)
    world.fill(DOCUMENTS)
    source, dest = world.config("config", s3(swift, f"ended-{os.getpid()}")), world.config("dest", DB)
    world.apply(world.plan(dest, source, "setup.json"))
    truth, plan, control = world.read(source), world.plan(source, dest), Control()
    report = clean.Cleaner._report

    def interrupted(self: clean.Cleaner, part: Part, cleaned: CleanedPart) -> None:
        report(self, part, cleaned)
        control.signal = signal.SIGINT

    monkeypatch.setattr(clean, "_PART_DOCUMENTS", 3)
    monkeypatch.setattr(clean.Cleaner, "_report", interrupted)
    with pytest.raises(Interrupted):
        verbs.apply(verbs.prepare(plan.path), control=control)
    monkeypatch.undo()
    monkeypatch.setattr(late_requests, "_wait_for", lambda *_: pytest.fail("it waited"))
    world.undo()
    assert world.read(source) == truth
