"""What a network and a server can do to a run. What is left is said by the exit code, and the same command finishes.

Each test runs the command line against a real S3 server (Swift's s3api) behind a proxy that does wrong.
"""

from __future__ import annotations

import random
import re
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import define, evolve, field

from tests.archives import Place, md5, new_sqlite
from tests.cli.runner import Result, reconcile
from tests.contract.test_faults import broken, busy, denied, reset, throttled
from tests.servers.proxy import FaultProxy, Forward, Request, Response, Rule
from tests.servers.swift import SwiftServer
from tests.world import DB, DB2, World, s3

DOCUMENTS = 30
_CONTENTS = re.compile(rb"<Contents>.*?</Contents>", re.DOTALL)


@define
class Scene:
    """An archive, two configs, and the proxy before the S3 server of one of them."""

    world: World
    proxy: FaultProxy
    source: Path
    dest: Path
    truth: dict[str, Any]
    before: dict[str, Any]
    tried: set[str] = field(factory=set)

    def apply(self, rule: Rule | None = None, *options: str) -> Result:
        """Apply under a rule; R1 holds whatever comes of it."""
        self.proxy.rule = rule
        self.proxy.seen.clear()
        result = reconcile("--log-level", "error", "apply", "p.json", "--yes", *options, cwd=self.world.folder)
        self.proxy.rule = None
        self.tried = {request.path for request in self.proxy.seen if _is_document(request)}
        assert self.truth in (self.world.read(self.source), self.world.read(self.dest)), result.all
        assert "Traceback" not in result.all
        return result

    def finish(self) -> None:
        """The fault is gone: the same command finishes, and undo takes it back (R6, R5)."""
        done = self.apply()
        assert done.code == 0, done.all
        assert self.world.read(self.dest) == self.truth
        self.world.undo()
        assert self.world.tables() == self.before
        assert self.world.read(self.source) == self.truth


def scene(world: World, server: SwiftServer, proxy: FaultProxy, *, to_s3: bool) -> Scene:
    world.fill(DOCUMENTS)
    behind = s3(server, f"faults-{uuid.uuid4().hex[:12]}")
    behind["storage_driver"]["config"]["url"] = proxy.url
    start, there = world.config("start", DB), world.config("s3", behind)
    source, dest = (start, there) if to_s3 else (there, world.config("back", DB2))
    if not to_s3:
        world.apply(world.plan(start, there, "setup.json"))
    truth = world.read(source)
    world.plan(source, dest)
    return Scene(world, proxy, source, dest, truth, world.tables())


@pytest.fixture
def proxy(swift: SwiftServer) -> Iterator[FaultProxy]:
    server = FaultProxy(swift.url)
    yield server
    server.close()


@pytest.fixture
def to_s3(folder: Path, swift: SwiftServer, proxy: FaultProxy) -> Scene:
    return scene(World(folder, new_sqlite(folder)), swift, proxy, to_s3=True)


@pytest.fixture
def from_s3(folder: Path, swift: SwiftServer, proxy: FaultProxy) -> Scene:
    return scene(World(folder, new_sqlite(folder)), swift, proxy, to_s3=False)


def sometimes(fault: Rule, share: float, seed: int = 1) -> Rule:
    chance = random.Random(seed)

    def rule(request: Request, forward: Forward) -> Response:
        return fault(request, forward) if chance.random() < share else forward(request)

    return rule


def after(number: int, fault: Rule) -> Rule:
    """Let so many documents be written or read, then come to grief for good."""
    count = 0

    def rule(request: Request, forward: Forward) -> Response:
        nonlocal count
        count += "fill" not in request.path and _is_document(request)
        return forward(request) if count <= number else fault(request, forward)

    return rule


def _is_document(request: Request) -> bool:
    return request.method in ("PUT", "GET") and "/sha256" in request.path


def on(method: str, fault: Rule) -> Rule:
    def rule(request: Request, forward: Forward) -> Response:
        hit = request.method == method and "/sha256" in request.path
        return fault(request, forward) if hit else forward(request)

    return rule


@pytest.mark.parametrize(
    "fault",
    [busy, *(pytest.param(fault, marks=pytest.mark.matrix) for fault in (throttled, broken, reset))],
    ids=lambda fault: fault.__name__,
)
def test_some_requests_fail(to_s3: Scene, fault: Rule) -> None:
    """One in seven: nobody notices."""
    result = to_s3.apply(sometimes(fault, 0.15))
    assert result.code == 0, result.all
    to_s3.world.undo()
    assert to_s3.world.tables() == to_s3.before


@pytest.mark.matrix
def test_most_requests_fail(to_s3: Scene) -> None:
    """What could not be written is named; nothing is switched."""
    result = to_s3.apply(on("PUT", sometimes(busy, 0.75)))
    assert result.code == 1
    assert "nothing was switched" in result.err or "server error (503" in result.err
    to_s3.finish()


FATAL: dict[str, tuple[Rule, str]] = {
    "503": (busy, "server error (503 SlowDown)"),
    "500": (broken, "server error (500 InternalError)"),
    "reset": (reset, "no answer"),
    "403": (denied, "access denied (403 AccessDenied)"),
    "404": (
        lambda _request, _forward: Response(404, {}, b"<Error><Code>NoSuchBucket</Code></Error>"),
        "the bucket does not exist",
    ),
    "expired": (
        lambda _request, _forward: Response(400, {}, b"<Error><Code>ExpiredToken</Code></Error>"),
        "access denied (400 Expired",
    ),
}
QUICK = {("to_s3", "503"), ("from_s3", "expired")}


@pytest.mark.parametrize(
    ("way", "kind"),
    [
        pytest.param(way, kind, marks=[] if (way, kind) in QUICK else [pytest.mark.matrix])
        for way in ("to_s3", "from_s3")
        for kind in FATAL
    ],
)
def test_the_server_fails_in_mid_run(request: pytest.FixtureRequest, way: str, kind: str) -> None:
    """The breaker opens after a few documents: credentials that expire do not make a thousand errors."""
    fault, said = FATAL[kind]
    subject: Scene = request.getfixturevalue(way)
    result = subject.apply(after(12, fault), "--workers", "2")
    assert result.code == 1
    assert said in result.err, result.err
    assert "next: " in result.err
    assert len(subject.tried) < 20
    subject.finish()


def test_nobody_listens(to_s3: Scene) -> None:
    text = to_s3.dest.read_text()
    to_s3.dest.write_text(text.replace(to_s3.proxy.url, "http://127.0.0.1:9"))
    (to_s3.world.folder / "p.json").unlink()
    to_s3.world.plan(to_s3.source, to_s3.dest)
    result = reconcile("apply", "p.json", "--yes", cwd=to_s3.world.folder)
    assert result.code == 1
    assert "no answer" in result.err
    assert "check that the endpoint is right" in result.err
    assert to_s3.world.tables() == to_s3.before


def damaged(request: Request, forward: Forward) -> Response:
    response = forward(request)
    return evolve(response, body=bytes(byte ^ 1 for byte in response.body))


def truncated(request: Request, forward: Forward) -> Response:
    response = forward(request)
    return evolve(response, cut=len(response.body) // 2) if response.body else response


@pytest.mark.parametrize("fault", [damaged, truncated], ids=lambda fault: fault.__name__)
def test_what_is_read_is_damaged_once_in_a_while(from_s3: Scene, fault: Rule) -> None:
    """Read again, and right the second time."""
    seen: set[str] = set()

    def rule(request: Request, forward: Forward) -> Response:
        first = request.path not in seen
        seen.add(request.path)
        return fault(request, forward) if first else forward(request)

    result = from_s3.apply(on("GET", rule))
    assert result.code == 0, result.all


@pytest.mark.matrix
def test_what_is_read_is_always_damaged(from_s3: Scene) -> None:
    result = from_s3.apply(on("GET", damaged))
    assert result.code == 1
    assert "wrong_digest" in result.err
    assert "nothing was switched" in result.err
    from_s3.finish()


def swallowed(request: Request, _forward: Forward) -> Response:
    """Acknowledge, with the right ETag, and store nothing."""
    return Response(200, {"etag": f'"{md5(request.body)}"'})


def halved(request: Request, forward: Forward) -> Response:
    """Store half and acknowledge the whole."""
    forward(evolve(request, body=request.body[: len(request.body) // 2]))
    return Response(200, {"etag": f'"{md5(request.body)}"'})


def test_the_server_acknowledges_and_stores_nothing(to_s3: Scene) -> None:
    """R3: the last look finds it out."""
    result = to_s3.apply(on("PUT", swallowed))
    assert result.code == 5, result.all
    assert "does not keep copies that it had confirmed" in result.err
    to_s3.finish()


@pytest.mark.matrix
def test_the_server_gets_other_bytes(to_s3: Scene) -> None:
    """It notices by the digest that goes along, and holds nothing."""

    def flipped(request: Request, forward: Forward) -> Response:
        return forward(evolve(request, body=bytes(byte ^ 1 for byte in request.body)))

    result = to_s3.apply(on("PUT", flipped))
    assert result.code == 5, result.all
    assert "as they were sent to it" in result.err
    to_s3.finish()


@pytest.mark.matrix
def test_a_server_that_checks_nothing_gets_other_bytes(folder: Path, moto: Any, request: pytest.FixtureRequest) -> None:
    """By its ETag the copy is found to be another, and is taken away."""
    proxy = FaultProxy(moto.url)
    request.addfinalizer(proxy.close)
    subject = scene(World(folder, new_sqlite(folder)), moto, proxy, to_s3=True)

    def shortened(request: Request, forward: Forward) -> Response:
        return forward(evolve(request, body=request.body[1:] + b"?"))

    result = subject.apply(on("PUT", shortened))
    assert result.code == 5, result.all
    subject.finish()


@pytest.mark.parametrize("fault", [swallowed, halved], ids=lambda fault: fault.__name__)
def test_a_server_that_lies(folder: Path, moto: Any, request: pytest.FixtureRequest, fault: Rule) -> None:
    """Stores nothing, or half, under the whole's ETag: the last look sees that it is not there, or its size."""
    proxy = FaultProxy(moto.url)
    request.addfinalizer(proxy.close)
    subject = scene(World(folder, new_sqlite(folder)), moto, proxy, to_s3=True)
    result = subject.apply(on("PUT", fault))
    assert result.code == 5, result.all
    assert subject.world.tables()["archive_metadata"] == subject.before["archive_metadata"]


def test_a_listing_leaves_keys_out(to_s3: Scene) -> None:
    """What a listing does not show is asked for by name before it is taken for missing."""

    def rule(request: Request, forward: Forward) -> Response:
        response = forward(request)
        chance = random.Random(2)
        body = _CONTENTS.sub(lambda entry: entry[0] if chance.random() < 0.5 else b"", response.body)
        return evolve(response, body=body)

    assert to_s3.apply(rule).code == 0
    to_s3.world.undo()
    assert to_s3.world.tables() == to_s3.before


@pytest.mark.matrix
def test_what_no_listing_shows_is_adopted_and_stays(to_s3: Scene, swift: SwiftServer) -> None:
    """R3: copies that were there before the run are not its own to delete, though it learnt of them by writing."""
    place = Place(to_s3.world.folder, to_s3.world.url, swift)
    bucket = yaml.safe_load(to_s3.dest.read_text())["services"]["catalog"]["object_store"]
    where = {"Bucket": bucket["storage_driver"]["config"]["bucket"]}
    client = place.client()
    assert to_s3.apply().code == 0
    names = [entry["Key"] for entry in client.list_objects_v2(**where)["Contents"]]
    there = {name: client.get_object(Key=name, **where)["Body"].read() for name in names}
    to_s3.world.undo()
    for name, data in there.items():
        client.put_object(Key=name, Body=data, ContentType="binary/octet-stream", **where)

    assert to_s3.apply(nothing_listed).code == 0
    to_s3.world.undo()
    assert to_s3.world.tables() == to_s3.before
    assert {entry["Key"] for entry in client.list_objects_v2(**where)["Contents"]} == set(there)


def nothing_listed(request: Request, forward: Forward) -> Response:
    response = forward(request)
    return evolve(response, body=_CONTENTS.sub(b"", response.body))


@pytest.mark.parametrize("overwrite", [pytest.param(True, marks=pytest.mark.matrix), False])
@pytest.mark.matrix
def test_what_no_listing_shows_is_still_judged(to_s3: Scene, swift: SwiftServer, overwrite: bool) -> None:
    """Other content in the way is not replaced, but if the plan says so (R3)."""
    place = Place(to_s3.world.folder, to_s3.world.url, swift)
    section = yaml.safe_load(to_s3.dest.read_text())["services"]["catalog"]["object_store"]
    bucket = section["storage_driver"]["config"]["bucket"]
    assert to_s3.apply().code == 0
    names = [entry["Key"] for entry in place.client().list_objects_v2(Bucket=bucket)["Contents"]]
    to_s3.world.undo()
    for name in names:
        place.client().put_object(Bucket=bucket, Key=name, Body=b"other")
    to_s3.world.plan(to_s3.source, to_s3.dest, "o.json", overwrite=overwrite)
    (to_s3.world.folder / "o.json").replace(to_s3.world.folder / "p.json")
    result = to_s3.apply(nothing_listed)
    assert result.code == (0 if overwrite else 1), result.all
    assert "destination_occupied" in result.all or overwrite
    assert to_s3.world.read(to_s3.dest if overwrite else to_s3.source) == to_s3.truth


def test_slow_answers(to_s3: Scene) -> None:
    import time

    def slow(request: Request, forward: Forward) -> Response:
        time.sleep(0.02)
        return forward(request)

    assert to_s3.apply(slow).code == 0


@pytest.mark.matrix
@pytest.mark.parametrize("way", ["to_s3", "from_s3"])
def test_an_answer_that_never_comes(request: pytest.FixtureRequest, way: str) -> None:
    """One request of each kind hangs: after a minute it is given up and sent again, and nobody notices."""
    subject: Scene = request.getfixturevalue(way)
    over, hung = threading.Event(), set[str]()
    request.addfinalizer(over.set)

    def rule(request: Request, forward: Forward) -> Response:
        if request.method in hung or not _is_document(request):
            return forward(request)
        hung.add(request.method)
        over.wait(100)
        raise ConnectionResetError

    result = subject.apply(rule, "--workers", "2")
    assert result.code == 0, result.all
    assert hung == {"PUT" if way == "to_s3" else "GET"}


@pytest.mark.parametrize(
    ("bound", "code"), [("5%", 1), *(pytest.param(bound, 1, marks=pytest.mark.matrix) for bound in ("2", "50%"))]
)
def test_failures_are_bounded(to_s3: Scene, bound: str, code: int) -> None:
    """A tenth of the documents is refused: with a bound that is exceeded staging stops early."""
    names = [f"sha256:{number:04}" for number in range(0, DOCUMENTS, 10)]

    def refuse(request: Request, forward: Forward) -> Response:
        refused = request.method == "PUT" and any(name.replace(":", "%3A") in request.path for name in names)
        return Response(400, {}, b"<Error><Code>InvalidRequest</Code></Error>") if refused else forward(request)

    result = to_s3.apply(refuse, "--max-failures", bound, "--workers", "1")
    assert result.code == code
    assert ("more than --max-failures allows" in result.err) == (bound in ("2", "5%")), result.err
    assert "refused" in result.err
    to_s3.finish()


@pytest.mark.matrix
def test_a_store_that_refuses_every_document_stops_the_run(to_s3: Scene) -> None:
    """Said once, with the first refusal; of the documents as many are named as a screen holds (R7)."""

    def refuse(request: Request, forward: Forward) -> Response:
        refused = request.method == "PUT" and _is_document(request)
        return Response(400, {}, b"<Error><Code>InvalidRequest</Code></Error>") if refused else forward(request)

    result = to_s3.apply(refuse)
    assert result.code == 1
    assert f"refuses every document, {DOCUMENTS} so far; the first: " in result.err
    assert "--leave-failed" not in result.err
    to_s3.proxy.rule = refuse
    result = reconcile("apply", "p.json", "--yes", cwd=to_s3.world.folder)
    assert 0 < result.err.count("document not staged") <= 20 < DOCUMENTS
    assert result.err.count("more documents may fail like this") == 1
    to_s3.finish()


@pytest.mark.parametrize("bound", ["many", "-1", "101%", "3.5"])
def test_a_bound_that_is_none(to_s3: Scene, bound: str) -> None:
    result = to_s3.apply(None, f"--max-failures={bound}")
    assert result.code == 64
    assert "not a number of documents or a percentage" in result.err
