"""Notifications of a command: programs that are run at an event, URLs that it is posted to.

Fed by the log, as the event stream is. On a thread of their own, one after the other: none of them holds a run up or
stops it. No secret reaches them: events have none, and a program gets an environment without ours.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from reconcile.events import FOR_HOOKS, NAMES, fields_of, line_of
from reconcile.logs import get_logger
from reconcile.secret import Secret, scrub

SECONDS = 30  # that a program, or an address, may take
FAILED_NOT = (0, 2, 3, 12, 13)  # exit codes of what went as somebody wanted it: docs/exit-codes.md
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE")

Hook = Callable[[bytes], None]
log = get_logger()


def program(words: list[str]) -> Hook:
    """Return what runs a program, without a shell, with the event on its standard input. What it prints is not kept."""

    def run(line: bytes) -> None:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        nowhere = subprocess.DEVNULL
        process = subprocess.Popen(  # noqa: S603 - the operator's own
            words, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, env=environment, start_new_session=True
        )
        try:
            process.communicate(line, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with whatever it has begun
            process.wait()
            raise TimeoutError from None
        if process.returncode:
            raise OSError(f"exit {process.returncode}")

    return run


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is posted is not posted on: a redirected request would be sent without the event."""

    def redirect_request(self, *_request: object) -> None:
        return None


def address(url: str) -> Hook:
    """Return what posts the event, as JSON. The URL is a secret: some hold a token. Raises `ValueError` for none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not a URL such as https://hooks.example.com/reconcile")
    Secret(url)
    if parts.path.strip("/"):
        Secret(parts.path)
    if parts.query:
        Secret(parts.query)

    opener = urllib.request.build_opener(_NoRedirect)

    def send(line: bytes) -> None:
        request = urllib.request.Request(url, data=line, headers={"Content-Type": "application/json"})  # noqa: S310
        with opener.open(request, timeout=SECONDS):
            pass

    return partial(_bounded, send)


def _bounded(send: Hook, line: bytes) -> None:
    """Call a hook on a thread that is left to itself after `SECONDS`: a slow server keeps each read short of those."""
    failed: list[Exception] = []

    def call() -> None:
        try:
            send(line)
        except Exception as error:  # noqa: BLE001 - it is raised again
            failed.append(error)

    thread = threading.Thread(target=call, name="hook", daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        raise TimeoutError
    if failed:
        raise failed[0]


class Hooks:
    """The hooks of one command, by event. `begin` and `end` are called by it, `take` by the log."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._hooks: dict[str, list[tuple[str, Hook]]] = {event: [] for event in FOR_HOOKS}
        self._told: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._go_on, name="hooks", daemon=True)
        self._thread.start()

    def add(self, events: tuple[str, ...], name: str, hook: Hook) -> None:
        """Call a hook at these events; ``name`` is its name in the log."""
        for event in events:
            self._hooks[event].append((name, hook))

    def begin(self) -> None:
        """Notify that the command has begun."""
        self._tell("begun", {"verb": self._verb})

    def take(self, logged: Mapping[str, Any]) -> None:
        """Notify what was logged, if it is one of `reconcile.events.FOR_HOOKS`."""
        event = NAMES.get(logged["event"])
        if event in FOR_HOOKS:
            self._tell(str(event), fields_of(logged))

    def end(self, code: int, message: str | None, hint: str | None) -> None:
        """Notify how the command ended, and wait until all hooks have run."""
        ended = {"verb": self._verb, "exit_code": code, "message": message, "next": hint}
        if code not in FAILED_NOT:
            self._tell("failed", ended)
        self._tell("ended", ended)
        self._told.put(None)
        self._thread.join()

    def _tell(self, event: str, fields: Mapping[str, Any]) -> None:
        if self._hooks[event]:
            self._told.put((event, line_of({"event": event, **fields})))

    def _go_on(self) -> None:
        while (told := self._told.get()) is not None:
            event, line = told
            for name, hook in self._hooks[event]:
                try:
                    hook(line)
                except Exception as error:  # noqa: BLE001 - whatever it is, a run is worth more than its hooks
                    why = f"no answer in {SECONDS} s" if isinstance(error, TimeoutError) else str(error)
                    log.warning("a hook failed; the run continues", hook=name, on=event, reason=scrub(why))
