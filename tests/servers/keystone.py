"""As much of Keystone as a client needs to log in, v2 and v3; tokens are those of a Swift server's own v1 auth."""

from __future__ import annotations

import json
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers.swift import SwiftServer

USER, PASSWORD, PROJECT, DOMAIN = "canary-user", "keystone-canary", "images", "users"


class KeystoneServer:
    """Knows one user of one project; ``logins`` are the bodies of the requests for a token."""

    def __init__(self, swift: SwiftServer) -> None:
        self.swift = swift
        self.logins: list[dict[str, Any]] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.keystone = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def token(self) -> tuple[str, str]:
        """Return a token and the storage URL that Swift gives for it."""
        headers = {"X-Auth-User": self.swift.access_key, "X-Auth-Key": self.swift.secret_key}
        with urllib.request.urlopen(urllib.request.Request(self.swift.auth_url, headers=headers)) as answer:
            return answer.headers["x-auth-token"], answer.headers["x-storage-url"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    keystone: KeystoneServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        version = "v3.14" if self.path.startswith("/v3") else "v2.0"
        link = {"rel": "self", "href": f"{self.server.keystone.url}{self.path}"}
        self._answer(200, {"version": {"id": version, "status": "stable", "links": [link]}})

    def do_POST(self) -> None:
        login = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.keystone.logins.append(login)
        is_v3 = self.path.startswith("/v3")
        if is_v3:
            user = login["auth"]["identity"]["password"]["user"]
            right = (user["name"], user["password"], user["domain"]["name"]) == (USER, PASSWORD, DOMAIN)
            right = right and login["auth"]["scope"]["project"]["name"] == PROJECT
        else:
            given = login["auth"]["passwordCredentials"]
            right = (given["username"], given["password"], login["auth"]["tenantName"]) == (USER, PASSWORD, PROJECT)
        if not right:
            self._answer(401, {"error": {"code": 401, "title": "Unauthorized", "message": "no"}})
            return
        token, url = self.server.keystone.token()
        expires = "2999-01-01T00:00:00.000000Z"
        endpoint = {"interface": "public", "url": url, "region": "north", "region_id": "north", "id": "e"}
        if is_v3:
            body: dict[str, Any] = {
                "token": {
                    "methods": ["password"],
                    "expires_at": expires,
                    "issued_at": expires,
                    "user": {"id": "u", "name": USER, "domain": {"id": "d", "name": DOMAIN}},
                    "project": {"id": "p", "name": PROJECT, "domain": {"id": "d", "name": DOMAIN}},
                    "roles": [{"id": "r", "name": "member"}],
                    "catalog": [{"type": "object-store", "id": "s", "name": "swift", "endpoints": [endpoint]}],
                }
            }
            self._answer(201, body, {"X-Subject-Token": token})
        else:
            tenant = {"id": "p", "name": PROJECT}
            v2 = {"publicURL": url, "region": "north", "id": "e"}
            access = {
                "token": {"id": token, "expires": expires, "tenant": tenant},
                "user": {"id": "u", "name": USER, "roles": [{"name": "member"}], "username": USER, "roles_links": []},
                "serviceCatalog": [{"type": "object-store", "name": "swift", "endpoints": [v2], "endpoints_links": []}],
            }
            self._answer(200, {"access": access})

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass
