"""No client follows a redirect to another host: it would get credentials, and be believed (R8, R3)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from reconcile.errors import BackendError, RedirectedError
from reconcile.payload import md5
from reconcile.secret import Secret
from reconcile.stores import Known, Store, Write, open_store
from tests.archives import new_sqlite
from tests.contract.conftest import make_backend
from tests.integration.test_s3_servers import by_path
from tests.integration.test_swift import V2, V3, by_keystone
from tests.servers.certificates import make_certificates
from tests.servers.keystone import PASSWORD, KeystoneServer
from tests.servers.moto import MotoServer
from tests.servers.proxy import FaultProxy, Forward, Request, Response, Rule
from tests.servers.swift import SwiftServer
from tests.world import DB, World, s3

TOKEN = "canary-session-token"
KEYS = [("admin", "policy_bundles", f"{number:02}") for number in range(20)]


def to(url: str) -> Rule:
    def redirects(request: Request, _forward: Forward) -> Response:
        return Response(307, {"location": url + request.path}, b"<Error><Code>TemporaryRedirect</Code></Error>")

    return redirects


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[FaultProxy, FaultProxy]]:
    """The server that the config names, and another host, which would answer just as well."""
    upstream = request.getfixturevalue(getattr(request, "param", "moto")).url
    named, other = FaultProxy(upstream), FaultProxy(upstream, host="127.0.0.2")
    yield named, other
    named.close()
    other.close()


def with_a_token(server: MotoServer, url: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    backend = make_backend("s3", server, Path(), url=url, iamauto=True, access_key=None, secret_key=None)
    return open_store(backend, None, "test")  # type: ignore[arg-type]


def use(store: Store, verb: str) -> None:
    keys = [store.address.key(name) for name in KEYS]
    if verb == "look":
        store.look(keys[:1])
    elif verb == "read":
        store.read(keys)
    elif verb == "write":
        store.write([Write(key, b"x", md5(b"x")) for key in keys])
    elif verb == "delete":
        store.delete([Known(key, "version") for key in keys])
    elif verb == "list":
        list(store.listing())
    else:
        store.prepare(create=False)


VERBS = ["look", "read", "write", "delete", "list", "prepare"]
SOME_VERBS = [verb if verb in ("read", "prepare") else pytest.param(verb, marks=pytest.mark.matrix) for verb in VERBS]
SPELLINGS = ["127.1", *(pytest.param(host, marks=pytest.mark.matrix) for host in ("LOCALHOST", "[::ffff:127.0.0.1]"))]


@pytest.mark.parametrize("verb", VERBS)
def test_s3_goes_to_no_other_host(
    pair: tuple[FaultProxy, FaultProxy], moto: MotoServer, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """The message names the host, and nothing is said to it."""
    named, other = pair
    store = with_a_token(moto, named.url, monkeypatch)
    store.prepare(create=True)
    use(store, "write")
    named.rule = to(other.url)
    with pytest.raises(RedirectedError) as error:
        use(store, verb)
    assert not other.seen
    assert other.url in error.value.message
    assert TOKEN not in f"{error.value.message} {error.value.hint}"
    assert any(TOKEN in request.headers.get("x-amz-security-token", "") for request in named.seen)


def test_a_run_ends_with_the_name_of_the_host(
    pair: tuple[FaultProxy, FaultProxy], moto: MotoServer, folder: Path
) -> None:
    named, other = pair
    world = World(folder, new_sqlite(folder))
    world.fill(4)
    behind = s3(moto, f"redirects-{uuid.uuid4().hex[:8]}", url=named.url)
    plan = world.plan(world.config("config", DB), world.config("dest", behind))
    named.rule = to(other.url)
    with pytest.raises(RedirectedError, match=f"redirects to {other.url}"):
        world.apply(plan)
    named.rule = None
    assert not other.seen
    world.apply(plan)


def test_another_port_of_the_host_gets_no_signature(
    pair: tuple[FaultProxy, FaultProxy], moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """obstore cannot be kept from another port, and does not sign what it asks there. boto3 asks first, and refuses."""
    named, _other = pair
    beside = FaultProxy(moto.url)
    try:
        store = with_a_token(moto, named.url, monkeypatch)
        store.prepare(create=True)
        named.rule = to(beside.url)
        with pytest.raises(RedirectedError, match=beside.url):
            store.prepare(create=False)
        assert not beside.seen
        use(store, "look")
        assert {request.method for request in beside.seen} == {"HEAD"}
        assert not any("authorization" in request.headers for request in beside.seen)
    finally:
        beside.close()


@pytest.mark.parametrize("verb", SOME_VERBS)
def test_with_a_real_proxy_too(
    pair: tuple[FaultProxy, FaultProxy], moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Every request goes through the proxy that the environment names, and none of them to another host."""
    _named, other = pair
    authority, certificate = make_certificates(tmp_path, "s3.example.test", "other.example.test")
    proxy = FaultProxy(moto.url, certificate, tunnel=True)
    proxy.rule = by_path
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("https_proxy", proxy.url)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    try:
        store = with_a_token(moto, "https://s3.example.test", monkeypatch)
        store.prepare(create=True)
        use(store, "write")
        seen = {request.headers["host"] for request in proxy.seen}
        assert seen == {"s3.example.test"}
        proxy.rule = to("https://other.example.test")
        with pytest.raises(RedirectedError, match=r"https://other\.example\.test"):
            use(store, verb)
        assert {request.headers["host"] for request in proxy.seen} == {"s3.example.test"}
        assert not other.seen
    finally:
        proxy.close()


def test_a_proxy_that_is_not_for_this_host_is_not_used(
    pair: tuple[FaultProxy, FaultProxy], moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, other = pair
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    store = with_a_token(moto, named.url, monkeypatch)
    store.prepare(create=True)
    use(store, "write")
    assert not other.seen


@pytest.mark.parametrize("host", SPELLINGS)
def test_hosts_in_any_spelling_are_reached(
    pair: tuple[FaultProxy, FaultProxy], moto: MotoServer, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    named, _other = pair
    named.rule = lambda request, forward: forward(evolve(request, headers=request.headers | {"host": "127.0.0.1"}))
    store = with_a_token(moto, named.url.replace("127.0.0.1", host), monkeypatch)
    store.prepare(create=True)
    use(store, "write")
    use(store, "look")


@pytest.mark.parametrize("pair", ["swift"], indirect=True)
@pytest.mark.parametrize("verb", SOME_VERBS)
def test_swift_goes_to_no_other_host(pair: tuple[FaultProxy, FaultProxy], swift: SwiftServer, verb: str) -> None:
    """Neither with its token nor, to get one, with the password."""
    named, other = pair
    backend = make_backend("swift", swift, Path(), auth=f"{named.url}/auth/v1.0")
    store = open_store(backend, None, "test")  # type: ignore[arg-type]
    store.prepare(create=True)
    use(store, "write")
    named.rule = to(other.url)
    with pytest.raises(RedirectedError, match=other.url):
        use(store, verb)
    fresh = open_store(backend, None, "test")  # type: ignore[arg-type]
    with pytest.raises(RedirectedError, match=other.url):
        use(fresh, verb)
    assert not other.seen


@pytest.mark.parametrize("version", [V2, V3], ids=["v2", "v3"])
def test_keystone_goes_to_no_other_host(swift: SwiftServer, version: dict[str, Any]) -> None:
    keystone = KeystoneServer(swift)
    named, other = FaultProxy(keystone.url), FaultProxy(keystone.url, host="127.0.0.2")
    try:
        settings = by_keystone(named.url, "any", **version)["storage_driver"]["config"]
        settings["os_password"] = Secret(PASSWORD)
        backend = evolve(make_backend("swift", swift, Path()), settings=settings)
        named.rule = to(other.url)
        store = open_store(backend, None, "test")  # type: ignore[arg-type]
        with pytest.raises(BackendError, match=other.url) as error:
            store.prepare(create=False)
        assert not other.seen
        assert not keystone.logins
        assert PASSWORD not in str(error.value)
    finally:
        for server in (named, other, keystone):
            server.close()
