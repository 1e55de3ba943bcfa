"""``--on`` and ``--notify``: others are told as a command goes, and never hold it up."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reconcile import hooks
from reconcile.events import FOR_HOOKS
from tests.archives import new_sqlite
from tests.cli.desk import filled, planned
from tests.cli.forks import forks
from tests.cli.runner import here, reconcile
from tests.world import World

CANARY = "canary-of-hooks"


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


def told(world: World) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (world.folder / "told.jsonl").read_text().splitlines()]


def on(*events: str) -> list[str]:
    return [word for event in events for word in ("--on", event, "sh -c 'cat >> told.jsonl'")]


ALL = on(*FOR_HOOKS)


@pytest.fixture
def listener() -> Iterator[Any]:
    class Listener(BaseHTTPRequestHandler):
        seen: ClassVar[list[tuple[str, dict[str, Any]]]] = []
        status = 200
        port = 0

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.seen.append((self.path, body))
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    Listener.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Listener
    server.shutdown()
    server.server_close()


def test_programs_get_the_events_in_their_order(lite: World) -> None:
    planned(lite)
    assert here("apply", "p.json", "--yes", *ALL, cwd=lite.folder).code == 0
    events = told(lite)
    assert [event["event"] for event in events] == ["begun", "staged", "switched", "ended"]
    assert events[1]["documents"] == 6
    assert (events[-1]["exit_code"], events[-1]["verb"]) == (0, "apply")


def test_what_failed_and_what_is_blocked(lite: World) -> None:
    lite.row("zzz", b"x", content_url=None)
    assert here("plan", "config.yaml", "dest.yaml", "--out", "p.json", *ALL, cwd=lite.folder).code == 0
    assert here("apply", "p.json", "--yes", *ALL, cwd=lite.folder).code == 1
    events = told(lite)
    assert [event["event"] for event in events] == ["begun", "blocked", "ended", "begun", "blocked", "failed", "ended"]
    assert (events[1]["documents"], events[5]["exit_code"]) == (1, 1)
    assert "blocked document" in events[5]["message"]


def test_an_address_gets_them_as_json(lite: World, listener: Any) -> None:
    """The URL may hold a token: it is said nowhere (R8)."""
    planned(lite)
    url = f"http://127.0.0.1:{listener.port}/services/{CANARY}"
    done = reconcile("--verbose", "apply", "p.json", "--yes", cwd=lite.folder, RECONCILE_NOTIFY=url)
    assert done.code == 0
    assert [event["event"] for _path, event in listener.seen] == ["begun", "staged", "switched", "ended"]
    assert listener.seen[0][0].endswith(CANARY)
    listener.status = 500
    done = reconcile("undo", "p.undo.json", "--yes", cwd=lite.folder, RECONCILE_NOTIFY=url)
    assert done.code == 0
    assert "a hook failed; the run continues" in done.err
    assert CANARY not in done.all


def test_a_hook_that_fails_or_hangs_stops_nothing(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "SECONDS", 0.2)
    planned(lite)
    options = ["--on", "staged", "sleep 60", "--on", "switched", "sh -c 'echo no >&2; exit 3'", *on("ended")]
    done = here("apply", "p.json", "--yes", *options, cwd=lite.folder)
    assert done.code == 0
    assert "no answer in 0.2 s" in done.err
    assert "exit 3" in done.err
    assert [event["event"] for event in told(lite)] == ["ended"]


def test_no_secret_reaches_a_program(lite: World) -> None:
    """R8: neither by the event, nor by the environment."""
    planned(lite)
    names = ("RECONCILE_SERVE_TOKEN", "ANCHORE_DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD")
    secrets = dict.fromkeys(names, CANARY)
    options = ["--on", "begun", "sh -c 'env > environment'", *on("failed", "ended")]
    url = f"postgresql://u:{CANARY}@127.0.0.1:9/d"
    done = reconcile(
        "apply", "p.json", "--yes", *options, cwd=lite.folder,
        RECONCILE_DB_CONNECT=url, RECONCILE_DB_RETRIES="1", **secrets,
    )  # fmt: skip
    assert done.code == 1
    found = (lite.folder / "environment").read_text()
    assert "PATH=" in found
    assert CANARY not in found
    assert CANARY not in (lite.folder / "told.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--on", "finished", "true"), "'finished' is not one of"),
        (("--on", "ended", "no-such-program --at-all"), "there is no program 'no-such-program'"),
        (("--on", "ended", "'unbalanced"), "cannot be parsed"),
        (("--on", "ended", ""), "there is no program"),
        (("--notify", "hooks.example.com"), "is not a URL"),
    ],
)
def test_bad_input_changes_nothing(lite: World, options: tuple[str, ...], said: str) -> None:
    planned(lite)
    result = here("apply", "p.json", "--yes", *options, cwd=lite.folder)
    assert (result.code, said in result.err) == (64, True), result.err
    assert here("runs", "--source", "config.yaml", cwd=lite.folder).out.startswith("no run")


def test_a_hook_may_leave_a_program_behind_and_print_what_it_likes(lite: World) -> None:
    planned(lite)
    chatty = "sh -c 'sleep 5 & head -c 50000000 /dev/zero; touch done'"
    done = here("apply", "p.json", "--yes", "--on", "begun", chatty, cwd=lite.folder)
    assert (done.code, "a hook failed" in done.err) == (0, False)
    assert (lite.folder / "done").exists()


def test_an_address_that_redirects_or_never_ends_has_not_taken_it(
    lite: World, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirected request would come without the event; a byte now and then is no answer."""
    monkeypatch.setattr(hooks, "SECONDS", 0.3)
    listener.status = 302
    url = f"http://127.0.0.1:{listener.port}/here"
    done = here("verify", "config.yaml", "--notify", url, cwd=lite.folder)
    assert (done.code, done.err.count("HTTP Error 302")) == (0, 2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        over = threading.Event()

        def drip() -> None:
            connection, _address = server.accept()
            with suppress(OSError):  # whoever asked has gone
                while not over.wait(0.1):
                    connection.send(b"H")

        threading.Thread(target=drip, daemon=True).start()
        done = here("verify", "config.yaml", "--notify", f"http://127.0.0.1:{port}/", cwd=lite.folder)
        over.set()
    assert (done.code, "no answer in 0.3 s" in done.err) == (0, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_hooks_are_waited_for_changes_no_outcome(lite: World, number: int) -> None:
    planned(lite)
    command = ("apply", "p.json", "--yes", "--on", "switched", "sleep 20")
    files = ("--events", "e.jsonl", "--metrics-file", "m.prom")
    process = forks().start("reconcile", [*command, *files], lite.folder)
    while not ((lite.folder / "e.jsonl").exists() and '"ended"' in (lite.folder / "e.jsonl").read_text()):
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    _out, err = process.communicate(timeout=300)
    assert (process.returncode, "Traceback" in err) == (0, False), err
    assert "reconcile_exit_code 0.0" in (lite.folder / "m.prom").read_text()
