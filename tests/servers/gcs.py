"""A stand-in for Google Cloud Storage by its S3 interface: moto, less what that interface does not know.

It has no DeleteObjects and no conditions on a PUT (``If-None-Match`` counts for nothing), reports no versioning or
Object Lock of the S3 kind, and refuses checksums that it does not know.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from attrs import evolve

from tests.servers.moto import MotoServer
from tests.servers.proxy import FaultProxy, Forward, Request, Response

_UNKNOWN = ("delete", "object-lock")
_NO_ERROR = b"A header or query you provided requested a function that is not implemented."


class GcsServer:
    """An S3 endpoint on loopback that behaves so."""

    def __init__(self, moto: MotoServer) -> None:
        self.access_key, self.secret_key = moto.access_key, moto.secret_key
        self.proxy = FaultProxy(moto.url)
        self.proxy.rule = _rule
        self.url = self.proxy.url

    def close(self) -> None:
        """Stop listening."""
        self.proxy.close()


def _rule(request: Request, forward: Forward) -> Response:
    query = urlsplit(request.path).query.partition("=")[0].partition("&")[0]
    if query in _UNKNOWN or "x-amz-sdk-checksum-algorithm" in request.headers:
        code = b"<Error><Code>NotImplemented</Code><Message>" + _NO_ERROR + b"</Message></Error>"
        return Response(400, {"content-type": "application/xml"}, code)
    heeded = {name: value for name, value in request.headers.items() if name != "if-none-match"}
    return forward(evolve(request, headers=heeded))
