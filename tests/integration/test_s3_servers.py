"""Driver s3 against servers that differ: what they heed, how they confirm, how one reaches them."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from reconcile import verbs
from reconcile.config import Backend, load_config
from reconcile.errors import BackendError, DocumentError
from reconcile.payload import md5
from reconcile.stores import Content, Known, Stat, Store, Write, open_store
from tests.archives import new_sqlite
from tests.contract.conftest import make_backend
from tests.servers.certificates import make_certificates
from tests.servers.gcs import GcsServer
from tests.servers.moto import MotoServer
from tests.servers.proxy import FaultProxy, Forward, Request, Response
from tests.world import DB, World, s3

_ETAG = re.compile(rb"(?<=<ETag>)[^<]*(?=</ETag>)")


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[FaultProxy]:
    server = FaultProxy(moto.url)
    yield server
    server.close()


def backend_at(moto: MotoServer, url: str) -> Backend:
    return make_backend("s3", moto, Path(), url=url)


def opened(backend: Backend) -> Store:
    store = open_store(backend, None, "test")  # type: ignore[arg-type]
    store.attempts = 2  # type: ignore[attr-defined, misc]
    store.prepare(create=True)
    return store


def put(store: Store, name: str, data: bytes) -> Stat | DocumentError:
    key = store.address.key(("admin", "b", name))
    return store.write([Write(key, data, md5(data))])[key]


def get(store: Store, name: str) -> bytes:
    key = store.address.key(("admin", "b", name))
    content = store.read([key])[key]
    assert isinstance(content, Content), content
    assert isinstance(content.data, bytes)
    return content.data


def deaf(request: Request, forward: Forward) -> Response:
    """Be a server that knows no ``If-None-Match``."""
    return forward(evolve(request, headers={k: v for k, v in request.headers.items() if k != "if-none-match"}))


def refuses_conditions(request: Request, forward: Forward) -> Response:
    if "if-none-match" in request.headers:
        return Response(501, {}, b"<Error><Code>NotImplemented</Code></Error>")
    return forward(request)


def encrypts(request: Request, forward: Forward) -> Response:
    """Be a bucket of AWS whose ETags are no MD5, as with KMS: hex digits all the same."""
    response = forward(request)
    if checksum := request.headers.get("x-amz-checksum-sha256"):
        assert base64.b64decode(checksum) == hashlib.sha256(request.body).digest()
        response.headers["x-amz-checksum-sha256"] = checksum
    if "etag" in response.headers:
        response.headers["etag"] = f'"{md5(response.headers["etag"].encode())}"'
    return evolve(response, body=_ETAG.sub(lambda found: b'"' + md5(found[0]).encode() + b'"', response.body))


def encrypts_and_tells_no_checksum(request: Request, forward: Forward) -> Response:
    response = encrypts(request, forward)
    return evolve(response, headers={k: v for k, v in response.headers.items() if "checksum" not in k})


@pytest.mark.parametrize("rule", [deaf, refuses_conditions])
def test_a_server_that_does_not_heed_conditions_is_found_out(moto: MotoServer, proxy: FaultProxy, rule: Any) -> None:
    """R3: a key is looked up first there, and what is there is not replaced."""
    proxy.rule = rule
    store, other = opened(backend_at(moto, proxy.url)), None
    other = opened(evolve_bucket(store, backend_at(moto, proxy.url)))
    assert isinstance(put(other, "first", b"first"), Stat)
    for name in ("first", "second"):
        answer = put(store, name, b"other")
        assert isinstance(answer, DocumentError) == (name == "first"), answer
    assert isinstance(put(other, "second", b"third"), DocumentError)
    assert get(store, "first") == b"first"
    assert get(store, "second") == b"other"


def evolve_bucket(store: Any, backend: Backend) -> Backend:
    return evolve(backend, settings=backend.settings | {"bucket": store.address.container})


def test_a_server_that_heeds_conditions_is_asked_once(moto: MotoServer, proxy: FaultProxy) -> None:
    """One more PUT and one HEAD a process, not one of them a document."""
    store = opened(backend_at(moto, proxy.url))
    proxy.seen.clear()
    for number in range(20):
        assert isinstance(put(store, str(number), b"x"), Stat)
    assert proxy.counts() == {"PUT": 21, "HEAD": 1}


def test_google_cloud_storage_by_its_s3_interface(folder: Path, gcs: GcsServer) -> None:
    """Neither DeleteObjects nor conditions: found out, done one by one, said by `check`."""
    world = World(folder, new_sqlite(folder))
    world.fill(20)
    source, dest = world.config("config", DB), world.config("dest", s3(gcs, f"gcs-{uuid.uuid4().hex[:8]}"))
    before, truth = world.tables(), world.read(source)
    (backend,) = verbs.check(dest).backends
    assert backend.ok, backend.steps
    assert not backend.capabilities.conditional_put
    assert not backend.capabilities.bulk_delete
    world.apply(world.plan(source, dest))
    assert world.read(dest) == truth
    world.undo()
    assert world.tables() == before
    assert not list(open_store(load_config(dest).object_store, None, "test").listing())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "gets"), [(encrypts, 1), (encrypts_and_tells_no_checksum, 20)], ids=["checksum", "no checksum"]
)
def test_where_the_etag_is_no_md5(moto: MotoServer, proxy: FaultProxy, rule: Any, gets: int) -> None:
    """R3: confirmed by the server's SHA-256 where it tells one, else by reading back."""
    proxy.rule = rule
    store = opened(backend_at(moto, proxy.url))
    proxy.seen.clear()
    answers = [put(store, str(number), b"x%d" % number) for number in range(20)]
    assert [answer.md5 for answer in answers if isinstance(answer, Stat)] == [md5(b"x%d" % n) for n in range(20)]
    assert proxy.counts()["GET"] == gets
    keys = [store.address.key(("admin", "b", str(number))) for number in range(20)]
    found = store.look(keys, digest=True)
    assert [found[key].md5 for key in keys] == [md5(b"x%d" % number) for number in range(20)]
    known = [Known(key, answer.version or "") for key, answer in zip(keys, answers, strict=True)]  # type: ignore[union-attr]
    assert set(store.delete(known).values()) == {None}


def test_a_checksum_of_other_bytes_confirms_nothing(moto: MotoServer, proxy: FaultProxy) -> None:
    """R3: what the server holds is read back, found wrong, and taken away."""

    def damages(request: Request, forward: Forward) -> Response:
        if request.method == "PUT" and request.body:
            request = evolve(request, body=b"?" + request.body[1:])
        return encrypts_and_tells_no_checksum(request, forward)

    store = opened(backend_at(moto, proxy.url))
    proxy.rule = damages
    answer = put(store, "x", b"document")
    assert isinstance(answer, DocumentError)
    assert answer.reason == "not_confirmed"
    assert not store.look([store.address.key(("admin", "b", "x"))])


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_a_private_authority_is_trusted_where_it_is_named(
    moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """TLS is verified: without the bundle nothing is said to the server."""
    authority, certificate = make_certificates(tmp_path)
    server = FaultProxy(moto.url, certificate)
    try:
        backend = backend_at(moto, server.url)
        with pytest.raises(BackendError, match="no answer"):
            opened(backend)
        assert not server.seen
        monkeypatch.setenv(variable, str(authority))
        store = opened(backend)
        assert isinstance(put(store, "x", b"document"), Stat)
        assert get(store, "x") == b"document"
        monkeypatch.delenv(variable)
        with pytest.raises(BackendError, match="no answer"):  # obstore verifies as boto3 does
            look_once(open_store(backend, None, "test"), "x")  # type: ignore[arg-type]
    finally:
        server.close()


def look_once(store: Any, name: str) -> None:
    store.attempts = 1
    store.look([store.address.key(("admin", "b", name))])


def test_an_http_proxy_is_used(moto: MotoServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("http_proxy", proxy.url)
    proxy.rule = by_path
    store = opened(backend_at(moto, "http://s3.example.test"))
    assert isinstance(put(store, "x", b"document"), Stat)
    assert get(store, "x") == b"document"
    assert {request.target for request in proxy.seen} == {"http://s3.example.test"}


@pytest.mark.parametrize(
    "changed",
    [
        {"region": "eu-west-1"},
        {"iamauto": True, "access_key": None, "secret_key": None},
        {"bucket": "Upper_Case"},
        {"prefix": ""},
    ],
    ids=str,
)
def test_settings(moto: MotoServer, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]) -> None:
    """Keys or the standard chain, with a region or without; a bucket with upper case."""
    if "iamauto" in changed:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.secret_key)
    backend = backend_at(moto, moto.url)
    settings = {k: v for k, v in (backend.settings | changed).items() if v is not None}
    store = opened(evolve(backend, settings=settings))
    assert isinstance(put(store, "x", b"document"), Stat)
    assert get(store, "x") == b"document"
    assert [key for key, _stat in store.listing()] == [store.address.key(("admin", "b", "x"))]


@pytest.mark.parametrize("region", [None, "us-east-1", "eu-west-1"])
def test_without_a_url_it_is_aws(
    moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, region: str | None
) -> None:
    """By its real names, through a proxy that plays AWS; what the environment says of endpoints counts for nothing.

    Real AWS redirects to the region of the bucket: that is the one that requests are signed for.
    """
    authority, certificate = make_certificates(
        tmp_path, "s3.amazonaws.com", "*.s3.amazonaws.com", "*.s3.eu-west-1.amazonaws.com", "s3.eu-west-1.amazonaws.com"
    )
    server = FaultProxy(moto.url, certificate, tunnel=True)
    server.rule = by_path
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, server.url)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    try:
        backend = backend_at(moto, moto.url)
        settings = {k: v for k, v in (backend.settings | {"region": region, "url": None}).items() if v is not None}
        store = opened(evolve(backend, settings=settings))
        assert store.address.identity == f"s3:aws/{settings['bucket']}"
        assert isinstance(put(store, "x", b"document"), Stat)
        assert get(store, "x") == b"document"
        assert [key for key, _stat in store.listing()] == [store.address.key(("admin", "b", "x"))]
        hosts = {request.headers["host"] for request in server.seen}
        assert all(host.endswith("amazonaws.com") for host in hosts), hosts
        signed = {request.headers["authorization"].split("/")[2] for request in server.seen}
        assert region is None or region in signed
    finally:
        server.close()


def by_path(request: Request, forward: Forward) -> Response:
    """Let moto see the bucket in the path, where it looks for it."""
    bucket, _dot, rest = request.headers["host"].partition(".s3")
    path = f"/{bucket}{request.path}" if rest else request.path
    return forward(evolve(request, path=path, headers=request.headers | {"host": "127.0.0.1"}))


@pytest.mark.parametrize("status", [412, 400, 501])
def test_an_owner_mark_is_replaced_on_a_server_that_refuses_the_condition(
    moto: MotoServer, proxy: FaultProxy, status: int
) -> None:
    """Ceph's radosgw does so for ``If-Match`` on a PUT."""

    def refuses(request: Request, forward: Forward) -> Response:
        if request.method == "PUT" and "if-match" in request.headers:
            return Response(status, {}, b"<Error><Code>PreconditionFailed</Code></Error>")
        return forward(request)

    proxy.rule = refuses
    store = opened(backend_at(moto, proxy.url))
    assert store.swap_mark(None, b"one")
    assert store.swap_mark(b"one", b"two")
    assert not store.swap_mark(b"one", b"three")
    assert store.mark() == b"two"
    assert store.swap_mark(b"two", None)
    assert store.mark() is None
