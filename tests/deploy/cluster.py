"""Pods without a cluster: the command lines of manifests in their own environment and folders, an API to scale by."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

import yaml
from attrs import define, field

REPOSITORY = Path(__file__).parents[2]
KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
BIN = Path(sys.executable).parent


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a manifest."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def settings() -> dict[str, str]:
    """Return the variables of settings.env."""
    lines = (KUBERNETES / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line)


class Api(BaseHTTPRequestHandler):
    """Deployments that scale, and pods that take two looks to go."""

    deployments: ClassVar[dict[str, int]]
    going: ClassVar[list[int]]
    failing: ClassVar[list[tuple[str, int]]]  # method and status of the answers to come
    selector = "app.kubernetes.io/name=anchore-enterprise"

    def _answer(self, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _fails(self) -> bool:
        if self.failing and self.failing[0][0] == self.command:
            self.send_response(self.failing.pop(0)[1])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True
        return False

    def do_GET(self) -> None:
        if self._fails():
            return
        assert self.headers["Authorization"] == "Bearer the-token"
        path, _question, query = self.path.partition("?")
        asked = parse_qs(query) == {"labelSelector": [self.selector]}
        if path == "/apis/apps/v1/namespaces/anchore/deployments" or path.endswith("/namespaces/anchore/deployments"):
            items = [{"metadata": {"name": n}, "spec": {"replicas": r}} for n, r in self.deployments.items()]
        else:
            assert path == "/api/v1/namespaces/anchore/pods"
            up = [name for name, replicas in self.deployments.items() if replicas]
            if not up and self.going and self.going[0] > 0:
                self.going[0] -= 1
                up = ["one-that-goes"]
            items = [{"metadata": {"name": f"{name}-pod"}, "status": {"phase": "Running"}} for name in up]
            items.append({"metadata": {"name": "an-old-job"}, "status": {"phase": "Succeeded"}})
        self._answer({"items": items if asked else []})

    def do_PATCH(self) -> None:
        if self._fails():
            return
        name = self.path.split("/")[-2]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.deployments[name] = body["spec"]["replicas"]
        self._answer({})

    def log_message(self, *_: Any) -> None:
        pass


@define
class Cluster:
    """The folders behind the mounts, the variables of ConfigMaps and Secrets, the deployments of the services."""

    folder: Path
    variables: dict[str, str]
    deployments: dict[str, int] = field(factory=lambda: {"catalog": 2, "api": 1, "analyzer": 5, "ui": 0})
    going: list[int] = field(factory=lambda: [2])
    failing: list[tuple[str, int]] = field(factory=list)
    port: int = 0

    @contextmanager
    def serving(self) -> Iterator[Cluster]:
        """Serve the API for the block, and give the pods their folders."""
        handler = type("Mine", (Api,), {"deployments": self.deployments, "going": self.going, "failing": self.failing})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("data", "data/plans", "tmp", "config/source", "config/dest", "account"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "account" / "namespace").write_text("anchore")
        (self.folder / "account" / "token").write_text("the-token\n")
        yield self
        server.shutdown()
        server.server_close()

    def environment(self) -> dict[str, str]:
        """Return what a pod has in its environment: what the manifests give it, and nothing of ours."""
        here = self._here
        return {name: here(value) for name, value in (settings() | self.variables).items()} | {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(self.folder / "tmp"),
            "TMPDIR": str(self.folder / "tmp"),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.port),
            "SERVICE_ACCOUNT": str(self.folder / "account"),
            "POLL_SECONDS": "0.05",
        }

    def _here(self, text: str) -> str:
        """Return a path of a pod as it is here, where nothing can be mounted."""
        if text.startswith("/scripts/"):
            return text.replace("/scripts", str(KUBERNETES), 1)
        return re.sub(r"^/(?=(?:data|config)/)", f"{self.folder}/", text)

    def commands(self, name: str) -> list[list[str]]:
        """Return the command lines of a Job, one after the other."""
        (job,) = documents(KUBERNETES / f"{name}.yaml")
        pod = job["spec"]["template"]["spec"]
        mounts = {mount["name"]: mount["mountPath"] for c in pod["containers"] for mount in c["volumeMounts"]}
        assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
        containers = [*pod.get("initContainers", []), *pod["containers"]]
        return [
            [self._here(word) for word in (*c.get("command", ["reconcile"]), *c.get("args", []))] for c in containers
        ]

    def run(self, name: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run the containers of a Job until one fails; return what the last one did."""
        for command in self.commands(name):
            done = subprocess.run(
                [*command, *(more if "reconcile" in command else ())],
                env=self.environment(),
                cwd=self.folder / "data",
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                break
        return done
