"""``reconcile status --serve``: the status as one live page, by the standard library's server.

One page, one JSON document, read-only: a framework would bring more code than the forty lines here. Loopback unless
another address is named, and that only with a token. The page alone needs none: there is nothing in it.
"""

from __future__ import annotations

import hmac
import ipaddress
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from reconcile.errors import ReconcileError, UsageError
from reconcile.rendering.live import live_page
from reconcile.secret import scrub

_TOKEN_CHARACTERS = 16
_FRESH_SECONDS = 1.0  # however many look at it, the database is asked no more often

Look = Callable[[], dict[str, Any]]


def serve(address: str, look: Look, token: str | None, told: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C. Raises `UsageError` for an address that is not available, or needs a token."""
    host, port = _parsed(address)
    if not _is_loopback(host) and not token:
        raise UsageError(
            f"--serve {address}: other machines need a token, and none is set",
            hint="export RECONCILE_STATUS_SERVE_TOKEN=$(openssl rand -hex 16)\nor --serve PORT, for this machine only",
        )
    if token is not None and len(token) < _TOKEN_CHARACTERS:
        raise UsageError(
            f"--serve-token: {len(token)} characters are too few, expected {_TOKEN_CHARACTERS} or more",
            hint="export RECONCILE_STATUS_SERVE_TOKEN=$(openssl rand -hex 16)",
        )
    try:
        server = ThreadingHTTPServer((host, port), _handler(_Answers(look), token))
    except OSError as error:
        raise UsageError(f"--serve {address}: {error.strerror}", hint="choose another port") from None
    with server:
        shown = f"[{host}]" if ":" in host else host
        told(f"http://{shown}:{server.server_port}/" + ("#token=<the token>" if token else ""))
        server.serve_forever()


class _Answers:
    """Answers for many, asked for by one at a time."""

    def __init__(self, look: Look) -> None:
        self._look, self._one_at_a_time = look, threading.Lock()
        self._at, self._held = 0.0, (503, b"{}")

    def __call__(self) -> tuple[int, bytes]:
        """Return status and JSON; a database that is away is told of, and asked again the next time."""
        with self._one_at_a_time:
            if time.monotonic() - self._at >= _FRESH_SECONDS:
                try:
                    self._held = 200, msgspec.json.encode(self._look())
                except ReconcileError as error:
                    said = scrub(error.message.partition("\n")[0])
                    self._held = 503, msgspec.json.encode({"error": f"the database does not answer: {said}"})
                self._at = time.monotonic()
            return self._held


def _handler(answers: _Answers, token: str | None) -> type[_Handler]:
    page, policy = live_page()
    return type("Handler", (_Handler,), {"answers": answers, "token": token, "page": page, "policy": policy})


class _Handler(BaseHTTPRequestHandler):
    """Answers one request. ``token`` None: whoever reaches the port may see the data."""

    answers: _Answers
    token: str | None
    page: bytes
    policy: str
    server_version, sys_version, timeout = "reconcile", "", 30

    def do_GET(self) -> None:
        """Send the page, or its data."""
        if not self._is_meant():
            self._answer(403, "text/plain", b"not here\n")
        elif self.path == "/":
            self._answer(200, "text/html; charset=utf-8", self.page)
        elif self.path != "/data":
            self._answer(404, "text/plain", b"there is / and /data\n")
        elif self.token and not hmac.compare_digest(self._given(), self.token.encode()):
            self._answer(401, "application/json", b'{"error": "a token is needed: open the page as /#token=..."}')
        else:
            status, body = type(self).answers()
            self._answer(status, "application/json", body)

    def _is_meant(self) -> bool:
        """Refuse what a browser was led to by another name: without a token that is all that keeps others out."""
        name = self.headers.get("Host", "").rpartition(":")[0].strip("[]")
        return bool(self.token) or name in ("localhost", "127.0.0.1", "::1")

    def _given(self) -> bytes:
        return self.headers.get("Authorization", "").removeprefix("Bearer ").encode()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", self.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - the library's name
        """Log no requests."""


def _parsed(address: str) -> tuple[str, int]:
    host, _colon, port = address.rpartition(":")
    if not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - what TCP has
        raise UsageError(f"--serve {address}: found no port, expected PORT or HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
