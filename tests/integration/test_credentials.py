"""Credentials that live shorter than a run: refreshed in time for both S3 clients, fetched anew where they expired."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from botocore.exceptions import CredentialRetrievalError

from reconcile.config import Backend
from reconcile.errors import BackendError, DeniedError
from reconcile.stores import Write, address_of
from reconcile.stores import s3 as s3_driver
from reconcile.stores.s3_client import S3Clients
from tests.archives import md5, new_sqlite
from tests.servers.moto import MotoServer
from tests.servers.proxy import FaultProxy, Forward, Request, Response
from tests.world import DB, World, s3

LIFE = 20  # seconds


class Keys:
    """A profile whose ``credential_process`` gives keys that tell when they were issued, and notes each call."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
        self._log = folder / "issued"
        program = folder / "issue.sh"
        program.write_text(
            "#!/bin/sh\n"
            "sleep 0.01\n"
            f"number=$(wc -l < {self._log} 2>/dev/null || echo 0)\n"
            f"date +%s >> {self._log}\n"
            f"end=$(date -u -d '+{seconds} seconds' +%Y-%m-%dT%H:%M:%SZ)\n"
            'printf \'{"Version": 1, "AccessKeyId": "AK%sN%s", \' "$(date +%s)" $number\n'
            'printf \'"SecretAccessKey": "canary-secret", \'\n'
            'printf \'"SessionToken": "canary-token", "Expiration": "%s"}\' "$end"\n'
        )
        program.chmod(0o755)
        config = folder / "aws-config"
        config.write_text(f"[default]\ncredential_process = {program}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))

    @property
    def issued(self) -> int:
        return len(self._log.read_text().splitlines())


def key_of(request: Request) -> str:
    signed = request.headers.get("authorization") or unquote(request.path)  # a delete is signed in the query
    return signed.partition("Credential=")[2].partition("/")[0]


def expired(request: Request) -> Response:
    body = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
    return Response(400, {}, b"" if request.method == "HEAD" else body)


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[FaultProxy]:
    server = FaultProxy(moto.url)
    yield server
    server.close()


def archive_of(folder: Path, proxy: FaultProxy, count: int) -> tuple[World, Path, Path]:
    world = World(folder, new_sqlite(folder))
    world.fill(count)
    settings: dict[str, Any] = s3(proxy, f"credentials-{uuid.uuid4().hex[:8]}", iamauto=True)
    return world, world.config("config", DB), world.config("dest", settings)


@pytest.fixture
def anonymous(proxy: FaultProxy) -> FaultProxy:
    """The proxy, as a server that no config has keys for."""
    proxy.access_key = proxy.secret_key = None  # type: ignore[attr-defined]
    return proxy


@pytest.mark.matrix
def test_keys_that_live_shorter_than_the_run(
    folder: Path, anonymous: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lives 20 seconds, at a server that refuses older ones; the run takes a minute."""
    keys = Keys(folder, monkeypatch, LIFE)

    def refuses_old_keys(request: Request, forward: Forward) -> Response:
        issued = int(key_of(request)[2:].partition("N")[0])
        if time.time() - issued > LIFE + 1:  # whole seconds, and the request's way
            return expired(request)
        return forward(request)

    anonymous.rule = refuses_old_keys
    world, source, dest = archive_of(folder, anonymous, 120)
    begun = time.monotonic()
    world.apply(world.plan(source, dest), max_rate=2.0)
    assert time.monotonic() - begun > 2 * LIFE
    used = {key_of(request) for request in anonymous.seen}
    assert len(used) >= 3
    assert keys.issued < len(anonymous.seen) / 3  # not for each request
    world.undo()


@pytest.mark.parametrize("verb", ["undo", pytest.param("apply", marks=pytest.mark.matrix)])
def test_an_expired_token_leads_to_new_credentials_once(
    folder: Path, anonymous: FaultProxy, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """The server takes the first keys no more, long before their end: the run goes on with others."""
    keys = Keys(folder, monkeypatch, 3600)
    world, source, dest = archive_of(folder, anonymous, 30)
    plan = world.plan(source, dest)
    if verb == "undo":
        world.apply(plan)
    taken = keys.issued
    first: list[str] = []

    def refuses_the_first(request: Request, forward: Forward) -> Response:
        first.append(key_of(request))
        late = len(first) > 20 and key_of(request) == first[0]
        return expired(request) if late else forward(request)

    anonymous.rule = refuses_the_first
    world.apply(plan) if verb == "apply" else world.undo()
    assert len({*first}) > 1
    assert keys.issued - taken < 12


def test_where_new_ones_are_expired_too_it_is_said(
    folder: Path, anonymous: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    Keys(folder, monkeypatch, 3600)
    world, source, dest = archive_of(folder, anonymous, 3)
    plan = world.plan(source, dest)
    anonymous.rule = lambda request, _forward: expired(request)
    with pytest.raises(DeniedError, match=r"access denied.*ExpiredToken.*The provided token has expired") as error:
        world.apply(plan)
    for secret in ("canary-secret", "canary-token"):
        assert secret not in error.value.message


@pytest.mark.parametrize("verb", ["look", "read", "write"])
def test_a_chain_that_gives_none_any_more_is_named(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Where the clients are made anew in mid-run, whatever asks first."""
    settings = {"bucket": "b", "url": "http://127.0.0.1:9", "iamauto": True, "create_bucket": False}
    backend = Backend("object_store", "s3", settings)
    store = s3_driver.make(backend, address_of(backend))

    def none_left(_self: S3Clients) -> None:
        raise CredentialRetrievalError(provider="sso", error_msg="expired")

    monkeypatch.setattr(S3Clients, "_make_session", none_left)
    data = b"document"
    ask: dict[str, Callable[[], object]] = {
        "look": lambda: store.look(["key"]),
        "read": lambda: store.read(["key"]),
        "write": lambda: store.write([Write("key", data, md5(data))]),
    }
    with pytest.raises(BackendError, match="no credentials"):
        ask[verb]()
