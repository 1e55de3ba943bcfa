"""R1: no request that deletes is accepted by a server and completed by us later."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any

import pytest

from reconcile.stores import Known, Stat, open_store
from reconcile.stores.s3_whole import BODY_BYTES, pages
from tests.contract.conftest import make_backend
from tests.contract.test_faults import DOCUMENTS, writes
from tests.servers.certificates import make_certificates
from tests.servers.proxy import FaultProxy


@pytest.mark.parametrize("server", ["moto", "swift", "tls"])
def test_a_deleting_request_is_one_write(
    server: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: Any = request.getfixturevalue("moto" if server == "tls" else server)
    changed = {}
    if server == "tls":
        authority, certificate = make_certificates(tmp_path)
        proxy = FaultProxy(there.url, certificate)
        request.addfinalizer(proxy.close)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
        changed = {"url": proxy.url}
    store = open_store(make_backend("s3", there, Path(), **changed), None, "test")  # type: ignore[arg-type]
    store.prepare(create=True)
    written = store.write(writes(store))
    sent: list[bytes] = []
    send = http.client.HTTPConnection.send

    def recorded(connection: Any, data: bytes) -> None:
        if type(connection) is not http.client.HTTPConnection:  # that is the proxy's own
            sent.append(bytes(data))
        send(connection, data)

    monkeypatch.setattr(http.client.HTTPConnection, "send", recorded)
    known = [Known(key, stat.version or "") for key, stat in written.items() if isinstance(stat, Stat)]
    assert set(store.delete(known).values()) == {None}
    deleting = [data for data in sent if b"<Delete " in data or b"?delete" in data]
    assert len(deleting) == 1
    assert deleting[0].startswith(b"POST /")
    assert deleting[0].endswith(b"</Delete>")
    assert deleting[0].count(b"<Key>") == len(DOCUMENTS)


@pytest.mark.parametrize("name", ["a", "ü" * 400, "&" * 1000])
def test_a_deleting_request_is_small(name: str) -> None:
    keys = [f"{name}{number}" for number in range(2500)]
    cut = pages(keys, 1000)
    assert [key for page in cut for key in page] == keys
    assert max(len(page) for page in cut) <= 1000
    sizes = [sum(len(f"<Object><Key>{key.replace('&', '&amp;')}</Key></Object>".encode()) for key in p) for p in cut]
    assert max(sizes) <= BODY_BYTES
    assert pages([], 1000) == []
