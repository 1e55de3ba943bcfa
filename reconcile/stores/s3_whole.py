"""Requests with a small body that leave this machine whole, by one write to the socket.

A server judges how old a signature is when a request begins to arrive, and then waits for its body. So a process that
is stopped between headers and body has documents deleted when it continues, a minute later or more, by a request that
was accepted in time. urllib3 writes them one after the other; here they are written together, and a deleting request is
kept so small that the system takes all of it at once: one record of TLS.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

BODY_BYTES = 12_000  # a record of TLS has 16 KiB; the rest is for headers, and a query with a session's token
_ELEMENT_BYTES = len("<Object><Key></Key></Object>")


def pages(keys: list[str], most: int) -> list[list[str]]:
    """Cut keys into pages of at most ``most``, each of them for a DeleteObjects of at most `BODY_BYTES`."""
    found: list[list[str]] = []
    size = BODY_BYTES
    for key in keys:
        added = _ELEMENT_BYTES + len(escape(key).encode())
        if size + added > BODY_BYTES or len(found[-1]) == most:
            found.append([])
            size = 0
        found[-1].append(key)
        size += added
    return found


class _Whole:
    """A connection of botocore's that holds the parts of a POST back until it has them all."""

    _held: list[bytes] | None = None

    def request(self, method: str, *args: Any, **more: Any) -> None:  # noqa: ANN401
        if method != "POST":
            super().request(method, *args, **more)  # type: ignore[misc]
            return
        self._held = []
        try:
            super().request(method, *args, **more)  # type: ignore[misc]
            whole = b"".join(self._held)
        finally:
            self._held = None
        self.send(whole)

    def send(self, data: Any) -> None:  # noqa: ANN401
        if self._held is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._held.append(bytes(data))


class _Connection(_Whole, AWSHTTPConnection):  # type: ignore[misc]
    """By HTTP."""


class _SecureConnection(_Whole, AWSHTTPSConnection):  # type: ignore[misc]
    """By HTTPS."""


class _Pool(AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _Connection


class _SecurePool(AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _SecureConnection


def write_whole(client: Any) -> None:  # noqa: ANN401
    """Have a client of boto3's write each POST at once. botocore has no public way to its connections."""
    session = client._endpoint.http_session  # noqa: SLF001
    session._pool_classes_by_scheme.update(http=_Pool, https=_SecurePool)  # noqa: SLF001
