"""``reconcile status --serve``: one live page in a real browser, while a run is killed and resumed."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.archives import new_sqlite, query
from tests.cli.desk import filled, planned
from tests.cli.forks import forks
from tests.cli.runner import here, killed
from tests.servers.chromium import Chromium
from tests.world import World

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}
AXE = Path(sys.prefix) / "node" / "node_modules" / "axe-core" / "axe.min.js"
_PATIENCE_SECONDS = 60


@contextmanager
def serving(world: World, address: str = "0", **environment: str) -> Iterator[str]:
    """Serve the page for the block; gives its URL."""
    command = ("status", "--serve", address, "--source", "config.yaml")
    process = forks().start("reconcile", command, world.folder, **environment)
    try:
        said = process.stderr.readline()
        found = re.search(r"http://\S+", said)
        assert found, said
        yield found[0]
    finally:
        process.terminate()
        process.wait(_PATIENCE_SECONDS)


def get(url: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    port = int(re.search(r":(\d+)/", url)[1])  # type: ignore[index]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_SECONDS)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def until(what: Callable[[], Any]) -> Any:
    """Ask until the answer is true; return it."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not (answer := what()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)
    return answer


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


def text(browser: Chromium, name: str) -> str:
    return browser.run(f"document.getElementById('{name}').textContent")


def test_a_run_is_watched_killed_and_resumed(lite: World, chromium: Chromium) -> None:
    planned(lite)
    chromium.resize(1280)
    with serving(lite) as url:
        chromium.visit(url)
        until(lambda: text(chromium, "headline") == "No run is recorded yet")
        killed("recorded", "apply", "p.json", "--yes", cwd=lite.folder)
        until(lambda: "INTERRUPTED" in text(chromium, "state"))
        assert text(chromium, "next").startswith("reconcile apply ")
        assert "of 6" in text(chromium, "done")
        assert text(chromium, "throughput") == "no process is working"
        assert here("apply", "p.json", "--yes", cwd=lite.folder).code == 0
        until(lambda: text(chromium, "state").startswith("Done"))
        assert chromium.run("document.querySelectorAll('.timeline .over').length") == 4
        assert chromium.run("document.querySelectorAll('#plot polyline').length") >= 0
        assert {request.partition("#")[0] for request in chromium.requested} <= {url, f"{url}data", f"{url}favicon.ico"}
        assert not [said for said in chromium.said if "Content Security Policy" in said]
    until(lambda: "does not answer" in text(chromium, "state"))


@pytest.mark.parametrize("width", [1400, 400])
def test_accessibility(lite: World, chromium: Chromium, width: int) -> None:
    if not AXE.exists():
        pytest.skip("axe-core comes from npm, which is not there")
    lite.apply(planned(lite))
    chromium.resize(width)
    with serving(lite) as url:
        chromium.visit(url)
        until(lambda: text(chromium, "state").startswith("Done"))
        chromium.run(AXE.read_text() + "; true")
        assert chromium.run("axe.run().then((all) => all.violations.map((v) => [v.id, v.nodes[0].html]))") == []
        assert chromium.run("document.documentElement.scrollWidth") <= width


def test_names_are_text(lite: World, chromium: Chromium) -> None:
    lite.add("<img src=x onerror=alert(1)>", b"x", digest="0" * 32)
    planned(lite)
    assert here("apply", "p.json", "--yes", cwd=lite.folder).code == 1
    with serving(lite) as url:
        chromium.visit(url)
        until(lambda: "<img src=x" in text(chromium, "troubles"))
        assert chromium.run("document.querySelectorAll('img').length") == 0
        assert text(chromium, "failed") == "1"


def test_it_reads_and_is_for_this_machine_alone(lite: World) -> None:
    planned(lite)
    with serving(lite) as url:
        assert url.startswith("http://127.0.0.1:")
        status, headers, _page = get(url, "/")
        assert status == 200
        assert "connect-src 'self'" in headers["Content-Security-Policy"]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert get(url, "/data", Host="evil.example:80")[0] == 403  # a name that was made to lead here
        assert get(url, "/../etc/passwd")[0] == 404
        connection = http.client.HTTPConnection("127.0.0.1", int(url.rsplit(":", 1)[1].strip("/")))
        connection.request("POST", "/data", body=b"{}")
        assert connection.getresponse().status == 501
        assert lite.apply("p.json").documents == 6  # it holds no lock


def test_others_need_a_token(lite: World) -> None:
    refused = here("status", "--serve", "0.0.0.0:0", "--source", "config.yaml", cwd=lite.folder)
    assert (refused.code, "other machines need a token" in refused.err) == (64, True)
    nowhere = here("status", "--serve", "nonsense", "--source", "config.yaml", cwd=lite.folder)
    assert (nowhere.code, "expected PORT or HOST:PORT" in nowhere.err) == (64, True)
    short = here("status", "--serve", "0", "--serve-token", "guess", "--source", "config.yaml", cwd=lite.folder)
    assert (short.code, "5 characters are too few" in short.err) == (64, True)
    with serving(lite, "0.0.0.0:0", RECONCILE_STATUS_SERVE_TOKEN="a-secret-that-is-long-enough") as url:
        assert "a-secret-that-is-long-enough" not in url
        assert get(url, "/data")[0] == 401
        assert get(url, "/data", Authorization="Bearer wrong")[0] == 401
        assert get(url, "/data", Authorization="Bearer a-secret-that-is-long-enough")[0] == 200


def test_a_database_that_is_away_for_a_while(folder: Path, database: str) -> None:
    world = filled(World(folder, database))
    world.apply(planned(world))
    name = database.rpartition("/")[2]
    others = database.rpartition("/")[0] + "/postgres"
    with serving(world) as url:
        assert get(url, "/data")[0] == 200
        query(others, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        query(others, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        _status, _headers, body = until(lambda: (got := get(url, "/data"))[0] == 503 and got)
        assert "the database does not answer" in json.loads(body)["error"]
        query(others, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        until(lambda: get(url, "/data")[0] == 200)


def test_the_report_draws_what_was_sampled(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lite.add_all((f"more-{number}", b"x" * 2000, "admin", "policy_bundles") for number in range(400))
    monkeypatch.setattr("reconcile.running.record.samples.SAMPLE_SECONDS", 0.0)
    seconds = itertools.count(1_800_000_000)  # each sample in a second of its own
    monkeypatch.setattr("reconcile.running.record.samples.database_now", lambda _connection: next(seconds))
    lite.apply(planned(lite), max_rate=None)
    data = json.loads(here("report", "--source", "config.yaml", "--format", "json", cwd=lite.folder).out)
    assert {"stage", "clean"} <= {speed["phase"] for speed in data["speeds"]}
    assert max(speed["documents_per_second"] for speed in data["speeds"]) > 0
    page = here("report", "--source", "config.yaml", "--format", "html", cwd=lite.folder).out
    assert page.count("<polyline") >= 2


def test_a_watch_says_what_is_going_on_beside_the_phases(lite: World) -> None:
    """Waiting for services took minutes in which the screen said that an undo plan was being written."""
    planned(lite)
    beat = {"hostid": "h", "servicename": "s", "base_url": "u", "status": True, "heartbeat": int(time.time())}
    lite.insert("services", beat)
    process = forks().start("reconcile", ("apply", "p.json", "--yes"), lite.folder)
    try:
        doing = "waiting for heartbeats to expire"
        shown = until(lambda: doing in (out := here("status", "--source", "config.yaml", cwd=lite.folder).out) and out)
        assert f"  now      {doing}" in shown
        data = json.loads(here("status", "--source", "config.yaml", "--format", "json", cwd=lite.folder).out)
        assert data["doing"] == doing
    finally:
        process.terminate()
        said = process.communicate(timeout=_PATIENCE_SECONDS)[1]
    assert "1 service had a recent heartbeat; waiting up to" in said
    data = json.loads(here("status", "--source", "config.yaml", "--format", "json", cwd=lite.folder).out)
    assert data["doing"] is None
    lite.sql("DELETE FROM services")
    assert here("apply", "p.json", "--yes", cwd=lite.folder).code == 0


def test_ctrl_c_ends_the_wait_for_a_run(lite: World) -> None:
    process = forks().start("reconcile", ("status", "--source", "config.yaml", "--watch", "--wait"), lite.folder)
    assert "waiting for a run to begin" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=_PATIENCE_SECONDS)[1] == "stopped waiting; no run has begun\n"
    assert process.returncode == 130
