"""What a plan forecasts is what a run asks of a server, requests and statements counted while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archives import new_sqlite
from tests.servers.moto import MotoServer
from tests.servers.proxy import FaultProxy, Request
from tests.world import DB, World, s3


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[FaultProxy]:
    server = FaultProxy(moto.url)
    yield server
    server.close()


def kinds(proxy: FaultProxy) -> Counter[str]:
    """Return the requests for documents by kind, those for the bucket itself left out."""
    found = Counter(kind for request in proxy.seen if (kind := _kind(request)))
    proxy.seen.clear()
    return found


def _kind(request: Request) -> str | None:
    if "reconcile-" in request.path:  # owner marks, and the marker that tells one place from two
        return None
    if "list-type=2" in request.path:
        return "list"
    if request.method == "POST" and "delete" in request.path:
        return "delete"
    key = request.path.partition("?")[0].strip("/").partition("/")[2]
    kind = {"HEAD": "look", "GET": "read", "PUT": "write", "DELETE": "delete"}[request.method]
    return kind if key else None


def test_a_run_asks_for_what_was_forecast(folder: Path, moto: MotoServer, proxy: FaultProxy) -> None:
    """There and back. What a run asks once beside: is the server one that heeds conditions, are two places one?"""
    world = World(folder, new_sqlite(folder))
    world.fill(60)
    proxied = s3(moto, "forecast", url=proxy.url)
    source, dest = world.config("config", DB), world.config("dest", proxied)
    plan = world.plan(source, dest)
    world.apply(plan)
    assert_near(kinds(proxy), plan, "dest.object_store")

    back = world.plan(dest, source, "back.json")
    world.apply(back)
    assert_near(kinds(proxy), back, "source.object_store")


def assert_near(seen: Counter[str], plan: object, backend: str) -> None:
    forecast = plan.header.summary.forecast  # type: ignore[attr-defined]
    requests = next(requests for requests in forecast.requests if requests.backend == backend)
    for kind in ("list", "look", "read", "write", "delete"):
        assert abs(seen[kind] - getattr(requests, kind)) <= 4, (kind, seen, requests)
