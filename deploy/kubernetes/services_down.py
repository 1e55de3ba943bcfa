"""Run a command of reconcile while the services are scaled to zero; scale them back if it switched nothing.

    services_down.py CONFIG COMMAND...      CONFIG: a config that names the database
    services_down.py --up                   scale them to their former numbers

After a switch they stay down: they need the new config first, and what brings it (a Helm upgrade) scales them, or --up
does. The former numbers are kept in REPLICAS_FILE before anything is scaled, so that a pod that is evicted on the way
is followed by one that knows them. Only Python is needed, and a service account that may list deployments and
pods, and patch deployments/scale.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
KEPT = Path(os.environ.get("REPLICAS_FILE", "/data/replicas.json"))
ATTEMPTS = 5  # of a request to the cluster's API
SERVER_ERROR = 500
POLL_SECONDS = float(os.environ.get("POLL_SECONDS", "2"))


class ApiError(Exception):
    """The cluster's API refuses, or does not answer."""


class Cluster:
    """The deployments of one label in the namespace of the service account."""

    def __init__(self) -> None:
        scheme, default = ("https", "443") if (ACCOUNT / "ca.crt").exists() else ("http", "80")
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", default)
        self._server = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        self._tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")) if scheme == "https" else None
        self._namespace = (ACCOUNT / "namespace").read_text().strip()
        self._selector = urllib.parse.quote(os.environ["SERVICES_SELECTOR"])

    def replicas(self) -> dict[str, int]:
        """Return how many replicas each deployment asks for."""
        found = self._ask("GET", "apis/apps/v1", f"deployments?labelSelector={self._selector}")["items"]
        return {item["metadata"]["name"]: item["spec"].get("replicas", 1) for item in found}

    def scale(self, numbers: dict[str, int]) -> None:
        """Ask for so many replicas of each deployment."""
        for name, replicas in numbers.items():
            self._ask("PATCH", "apis/apps/v1", f"deployments/{name}/scale", {"spec": {"replicas": replicas}})
            say(f"deployment {name}: {replicas} replicas asked for")

    def pods(self) -> list[str]:
        """Return the pods that have not ended."""
        found = self._ask("GET", "api/v1", f"pods?labelSelector={self._selector}")["items"]
        return [pod["metadata"]["name"] for pod in found if pod["status"].get("phase") not in ("Succeeded", "Failed")]

    def _ask(self, method: str, group: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the scheme is ours
            f"{self._server}/{group}/namespaces/{self._namespace}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}",  # it is renewed now and then
                "Content-Type": "application/merge-patch+json",
            },
        )
        for left in reversed(range(ATTEMPTS)):
            try:
                with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:  # noqa: S310
                    found: dict[str, Any] = json.load(answer)
                    return found
            except OSError as error:  # an HTTPError is one, too
                refused = isinstance(error, urllib.error.HTTPError) and error.code < SERVER_ERROR
                if left == 0 or refused:
                    raise ApiError(f"{method} {path.partition('?')[0]}: {error}") from None
                time.sleep(POLL_SECONDS)
        raise AssertionError  # the last attempt returns or raises


def say(text: str) -> None:
    """Tell the operator something."""
    print(text, file=sys.stderr, flush=True)


class Kept:
    """What was before anything was scaled, in a file: replicas by deployment, and the runs that had switched.

    A pod that follows one that was ended on the way finds it there. It is stale once all that it has running runs
    again: somebody, such as a Helm upgrade, has scaled the services since.
    """

    def __init__(self, cluster: Cluster, switched: list[str]) -> None:
        now = cluster.replicas()
        found = json.loads(KEPT.read_text()) if KEPT.exists() else None
        if found is None or all(now.get(name) != 0 for name, number in found["replicas"].items() if number):
            found = {"replicas": now, "switched": switched}
            new = KEPT.with_suffix(".new")
            with new.open("w") as file:
                json.dump(found, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(KEPT)
        self.replicas: dict[str, int] = found["replicas"]
        self.switched: list[str] = found["switched"]


def down(cluster: Cluster, signals: Signals) -> int:
    """Scale the services to zero and wait until their pods are gone; return 0, or what to exit with if they are not."""
    cluster.scale({name: 0 for name, replicas in cluster.replicas().items() if replicas})
    until = time.monotonic() + float(os.environ.get("SERVICES_DOWN_SECONDS", "900"))
    while pods := cluster.pods():
        if signals.came is not None:
            say("this pod is to end")
            return 128 + signals.came
        if time.monotonic() > until:
            say(f"error: pods that did not end: {', '.join(pods)}")
            return 1
        time.sleep(POLL_SECONDS)
    return 0


def up(cluster: Cluster) -> None:
    """Scale the services to their former numbers."""
    if KEPT.exists():
        cluster.scale(json.loads(KEPT.read_text())["replicas"])
        KEPT.unlink()
    else:
        say(f"there is no {KEPT}: nothing was scaled down by this, and nothing is scaled up")


def asked(verb: str, config: str) -> dict[str, Any] | None:
    """Return what a verb of reconcile prints as JSON; None if the database does not tell."""
    done = subprocess.run(
        ["reconcile", verb, "--source", config, "--format", "json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        say(done.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def switched(config: str) -> list[str] | None:
    """Return the ids of all runs that have switched the catalog; None if the database does not tell."""
    found = asked("runs", config)
    return None if found is None else sorted(run["run_id"] for run in found["runs"] if run["switched"])


def others_at_work(config: str) -> bool:
    """Tell whether another process works on a run now, such as that of a second Job: it may be about to switch."""
    return bool((asked("status", config) or {}).get("lock_holder"))


class Signals:
    """What is to end this pod: passed on to the command while one runs, else only noted."""

    def __init__(self) -> None:
        self.came: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)

    def _take(self, number: int, _frame: object) -> None:
        self.came = number
        if self._process is not None:
            self._process.send_signal(number)

    def run(self, command: list[str]) -> int:
        """Run a command; return its exit code, as shells do."""
        self._process = subprocess.Popen(command)
        code = self._process.wait()
        return code if code >= 0 else 128 - code


def main(config: str, command: list[str]) -> int:
    """Run the command with the services down, and leave them as its outcome wants them."""
    signals, cluster, before = Signals(), Cluster(), switched(config)
    if before is None:
        say("the database does not answer; nothing was done, the services are as they were")
        return 1
    if not cluster.replicas():
        say(f"error: no deployment has the label {os.environ['SERVICES_SELECTOR']}; nothing was done")
        return 1
    kept = Kept(cluster, before)
    try:
        code = down(cluster, signals)
    except ApiError as error:
        say(f"error: {error}")
        code = 1
    if code == 0:
        code = signals.run(command)
    after = switched(config)
    if after == kept.switched and others_at_work(config):
        say("another process is at work on a run: what it does decides, and the services are left to it")
    elif after == kept.switched:
        say("nothing was switched: the services are scaled back, with the config that they had")
        up(cluster)
    elif after is None:
        say("whether the catalog is switched is not known, the database does not answer: the services stay down.")
        say("reconcile status says it once the database is back; if it is not: services_down.py --up")
    else:
        say("the catalog is switched: the services stay down until they have the config that is named above. A Helm")
        say("upgrade that brings it scales them up; else, once they have it: services_down.py --up")
        running = [name for name, replicas in cluster.replicas().items() if replicas]
        if running:
            say(f"WARNING: somebody has scaled {', '.join(running)} up meanwhile, with the old config: scale them down")
    return code


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["--up"]:
            up(Cluster())
            sys.exit(0)
        sys.exit(main(sys.argv[1], sys.argv[2:]))
    except ApiError as failed:
        say(f"error: {failed}")
        say(f"  next: look at the deployments; where {KEPT} is there it has their former numbers, and --up sets them")
        sys.exit(1)
