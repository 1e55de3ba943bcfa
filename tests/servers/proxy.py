"""An HTTP proxy that does wrong on purpose: it stands before a real server and changes what a test tells it to.

A rule takes a request and the function that forwards it, and returns the response for the client; so it can
change either, answer by itself, delay, or raise `ConnectionResetError` to reset the connection.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from attrs import define, evolve, field

_HOP_BY_HOP = {"connection", "expect", "transfer-encoding", "proxy-connection", "keep-alive"}


@define
class Request:
    """A request as the client sent it; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    target: str


@define
class Response:
    """What the client gets. ``cut``: the connection is closed after so many bytes of the body."""

    status: int
    headers: dict[str, str] = field(factory=dict)
    body: bytes = b""
    cut: int | None = None


Forward = Callable[[Request], Response]
Rule = Callable[[Request, Forward], Response]


class FaultProxy:
    """Listens at ``url`` and forwards to a server, through the rule of the moment.

    A client may use it as the server itself, or as its HTTP proxy; as a proxy for HTTPS it plays the server
    itself, by the ``certificate``, which elsewhere makes it speak TLS.
    """

    def __init__(
        self, upstream: str, certificate: Path | None = None, *, tunnel: bool = False, host: str = "127.0.0.1"
    ) -> None:
        self.upstream = upstream
        self.rule: Rule | None = None
        self.seen: list[Request] = []
        self._lock = threading.Lock()
        self._server = _Server((host, 0), _Handler)
        self._server.proxy = self
        self.tls: ssl.SSLContext | None = None
        if certificate is not None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certificate)
            if not tunnel:
                self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        port = self._server.server_address[1]
        self.url = f"http{'s' if certificate and not tunnel else ''}://{host}:{port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def counts(self) -> Counter[str]:
        """Return how many requests of each method came."""
        return Counter(request.method for request in self.seen)

    def answer(self, request: Request) -> Response:
        """Return the response for a request, by the rule of the moment."""
        with self._lock:
            self.seen.append(evolve(request, body=b""))
        return self.rule(request, self.forward) if self.rule else self.forward(request)

    def forward(self, request: Request) -> Response:
        """Send a request on to the server."""
        parts = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=300)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name not in _HOP_BY_HOP | {"content-length"}:
                    connection.putheader(name, value)
            if request.body or request.method in ("PUT", "POST"):
                connection.putheader("content-length", str(len(request.body)))
            connection.endheaders(request.body)
            answer = connection.getresponse()
            body = answer.read()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, headers, body)
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: FaultProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length") or 0))
        request = Request(self.command, self.path, headers, body, target="")
        if "://" in self.path:  # we are the client's HTTP proxy
            parts = urlsplit(self.path)
            request.target = f"{parts.scheme}://{parts.netloc}"
            request.path = self.path.removeprefix(request.target) or "/"
        try:
            self._send(self.server.proxy.answer(request))
        except ConnectionResetError:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

    def do_CONNECT(self) -> None:
        assert self.server.proxy.tls is not None
        self.send_response_only(200)
        self.end_headers()
        self.connection = self.server.proxy.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def _send(self, response: Response) -> None:
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            if name not in _HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        length = response.headers.get("content-length") if self.command == "HEAD" else None
        if response.status != 204:
            self.send_header("content-length", length or str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body[: response.cut])
        if response.cut is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


for _method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler.serve)
