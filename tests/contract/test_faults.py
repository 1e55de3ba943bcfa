"""Transient errors are tried again, permanent ones are not: the stores behind a network, each on a real server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import stamina

from reconcile.errors import BackendError, DeniedError, DocumentError, TransientError
from reconcile.payload import md5
from reconcile.stores import Content, Known, Stat, Store, Write, open_store, per_object
from reconcile.stores.addresses import Document, Key
from reconcile.stores.objects import ObjectStore
from tests.contract.conftest import make_backend
from tests.servers.proxy import FaultProxy, Forward, Request, Response

DOCUMENTS: list[Document] = [("admin", "bucket", f"{number:02}") for number in range(20)]


class Trouble:
    """A rule: the first ``times`` tries of every request come to grief."""

    def __init__(self, times: int, fault: Callable[[Request, Forward], Response]) -> None:
        self.times, self.fault = times, fault
        self.tries: Counter[tuple[str, str]] = Counter()

    def __call__(self, request: Request, forward: Forward) -> Response:
        path = request.path.partition("&X-Amz-")[0]  # a signature in the query is another one each second
        self.tries[request.method, path] += 1
        if "/auth/" in path or self.tries[request.method, path] > self.times:
            return forward(request)
        return self.fault(request, forward)


def busy(_request: Request, _forward: Forward) -> Response:
    return Response(503, {"retry-after": "0"}, b"<Error><Code>SlowDown</Code></Error>")


def throttled(_request: Request, _forward: Forward) -> Response:
    return Response(429, {"retry-after": "0"}, b"")


def broken(_request: Request, _forward: Forward) -> Response:
    return Response(500, {}, b"<Error><Code>InternalError</Code></Error>")


def reset(_request: Request, _forward: Forward) -> Response:
    raise ConnectionResetError


def answer_lost(request: Request, forward: Forward) -> Response:
    """Do what is asked and reset the connection: the client cannot know."""
    forward(request)
    raise ConnectionResetError


def body_cut(request: Request, forward: Forward) -> Response:
    response = forward(request)
    if request.method == "GET" and response.body:
        response.cut = len(response.body) // 2
    return response


def denied(_request: Request, _forward: Forward) -> Response:
    return Response(403, {}, b"<Error><Code>AccessDenied</Code></Error>")


@pytest.fixture(params=["s3", "swift"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, FaultProxy]]:
    server = request.getfixturevalue("swift")
    proxy = FaultProxy(server.url)
    changed = {"url": proxy.url} if request.param == "s3" else {"auth": f"{proxy.url}/auth/v1.0"}
    opened = open_store(make_backend(request.param, server, Path(), **changed), None, "test")  # type: ignore[arg-type]
    stamina.set_testing(True, attempts=5, cap=True)  # no waiting between tries
    opened.prepare(create=True)
    yield opened, proxy
    stamina.set_testing(False)
    proxy.close()


def writes(store: Store) -> list[Write]:
    return [Write(store.address.key(name), name[2].encode(), md5(name[2].encode())) for name in DOCUMENTS]


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.matrix)])
@pytest.mark.parametrize("fault", [busy, throttled, broken, reset, answer_lost, body_cut], ids=lambda f: f.__name__)
def test_transient_errors_are_tried_again(store: tuple[Store, FaultProxy], fault: object, times: int) -> None:
    """Every verb, every request of it; what was lost is neither done twice nor taken for somebody else's."""
    subject, proxy = store
    keys: list[Key] = [subject.address.key(name) for name in DOCUMENTS]
    proxy.rule = Trouble(times, fault)  # type: ignore[arg-type]
    written = subject.write(writes(subject))
    assert all(isinstance(stat, Stat) for stat in written.values()), written
    proxy.rule = Trouble(times, fault)  # type: ignore[arg-type]
    read = subject.read(keys)
    assert [c.data for key in keys if isinstance(c := read[key], Content)] == [n[2].encode() for n in DOCUMENTS]
    assert set(subject.look(keys)) == set(keys)
    assert {key for key, _stat in subject.listing()} == set(keys)
    known = [Known(key, stat.version or "") for key, stat in written.items() if isinstance(stat, Stat)]
    assert set(subject.delete(known).values()) == {None}
    proxy.rule = None
    assert not list(subject.listing())


def test_what_is_never_served_fails_alone(store: tuple[Store, FaultProxy]) -> None:
    """One key that the server fails on, whatever is tried; the others are served."""
    subject, proxy = store
    keys = [subject.address.key(name) for name in DOCUMENTS]
    proxy.rule = lambda request, forward: busy(request, forward) if "/07" in request.path else forward(request)
    for answers in (subject.write(writes(subject)), subject.read(keys)):
        failed = {key: answer for key, answer in answers.items() if isinstance(answer, DocumentError)}
        assert {key: error.reason for key, error in failed.items()} == {keys[7]: "unserved"}


@pytest.mark.parametrize("verb", ["read", "write", "look", "delete", "list"])
@pytest.mark.parametrize(
    ("fault", "kind", "tries"), [(busy, TransientError, 5), (reset, TransientError, 5), (denied, DeniedError, 1)]
)
def test_errors_that_stay_are_the_backends(
    store: tuple[Store, FaultProxy], verb: str, fault: object, kind: type[BackendError], tries: int
) -> None:
    """Raised, not taken for a missing document; a permanent one after one request."""
    subject, proxy = store
    written = subject.write(writes(subject))
    known = [Known(key, stat.version or "") for key, stat in written.items() if isinstance(stat, Stat)]
    key = known[0].key
    trouble = Trouble(1000, fault)  # type: ignore[arg-type]
    proxy.rule = trouble
    subject.set_concurrency(1)
    with pytest.raises(kind) as error:
        {
            "read": lambda: subject.read([write.key for write in known]),
            "write": lambda: subject.write(writes(subject)),
            "look": lambda: subject.look([key]),
            "delete": lambda: subject.delete(known),
            "list": lambda: list(subject.listing()),
        }[verb]()
    assert type(error.value) is kind
    has_no_words = verb == "look" and kind is DeniedError  # S3 asks a GET for them once
    failed = [
        count
        for (method, path), count in trouble.tries.items()
        if "/auth/" not in path and not (has_no_words and method == "GET")
    ]
    assert failed == [tries] * (3 if verb in ("read", "write") and tries > 1 else 1)


def test_a_pause_that_the_server_asks_for_is_made(
    store: tuple[Store, FaultProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``Retry-After`` in seconds, as far as the client tells of it (obstore does not); a date counts for nothing."""
    subject, proxy = store
    assert isinstance(subject, ObjectStore)
    asked: list[float | None] = []
    original = per_object._wait_after

    def noted(error: Exception) -> bool | float:
        asked.append(error.retry_after if isinstance(error, TransientError) else None)
        return original(error)

    monkeypatch.setattr(per_object, "_wait_after", noted)
    answers = [("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)]
    for said, understood in answers:

        def rule(request: Request, forward: Forward, *, said: str = said) -> Response:
            return Response(429, {"retry-after": said}, b"")

        proxy.rule = Trouble(1, rule)
        asked.clear()
        list(subject.listing())
        assert asked == [understood], said
    proxy.rule = None
    assert original(TransientError("busy", retry_after=7.0)) == pytest.approx(7.15, abs=0.16)
    assert original(TransientError("busy", retry_after=86_400.0)) == pytest.approx(30.15, abs=0.16)
    assert original(TransientError("busy")) is True
    assert original(BackendError("gone")) is False


def test_a_server_that_throttles_is_sent_fewer_requests_at_once(store: tuple[Store, FaultProxy]) -> None:
    subject, proxy = store
    assert isinstance(subject, ObjectStore)
    subject.set_concurrency(8)
    proxy.rule = Trouble(1, busy)
    written = subject.write(writes(subject))
    assert all(isinstance(stat, Stat) for stat in written.values())
    assert subject._gate.width < 8
