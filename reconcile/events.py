"""The event stream: what a command does, as JSON lines for programs (`--events`, schemas/event.schema.json).

It is fed by the log, at every log level: an event of the log that programs may rely on has its name in
`NAMES`, a warning or an error is passed on as ``warning``, and all else stays in the log alone.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from reconcile._version import OUTPUT_FORMAT, __version__

NAMES = {  # as the log says it, and as the stream does
    "phase": "phase",
    "progress": "progress",
    "document not staged": "document_failed",
    "staged": "staged",
    "switched": "switched",
    "cleaned": "cleaned",
    "run finished": "run_finished",
    "blocked": "blocked",
}
FOR_HOOKS = ("begun", "staged", "switched", "failed", "blocked", "ended")  # what --on and --notify tell of
_CLOSED = -1  # no file's number: what a thread still says afterwards is written nowhere
_WARNINGS = ("warning", "error", "critical")
_OF_THE_LOG = ("event", "level", "timestamp", "exception", "tallies")


def fields_of(logged: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an event has of what was logged, without the log's own fields."""
    return {key: value for key, value in logged.items() if key not in _OF_THE_LOG}


def line_of(event: Mapping[str, Any]) -> bytes:
    """Return an event of now as a line."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return msgspec.json.encode({"at": at, **event}, enc_hook=str) + b"\n"


class EventStream:
    """One JSON object a line, each written by one call to the system: what a kill leaves ends with a whole line.

    A file is appended to, and made with mode 0600. ``-`` is standard output; results go to standard error then. Raises
    `OSError` where the file cannot be opened; later, a reader that went away or a full disk does not stop a migration.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        if str(path) == "-":
            sys.stdout.flush()
            self._descriptor = os.dup(sys.__stdout__.fileno()) if sys.__stdout__ is not None else os.dup(1)
            sys.stdout = sys.stderr
        else:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def begin(self, verb: str) -> None:
        """Write the first event of a command."""
        self._write({"event": "begun", "format_version": OUTPUT_FORMAT, "tool_version": __version__, "verb": verb})

    def end(self, code: int, message: str | None, hint: str | None) -> None:
        """Write the last event: the exit code, and the message of an error, without secrets."""
        self._write({"event": "ended", "exit_code": code, "message": message, "next": hint})
        with self._lock, suppress(OSError):
            descriptor, self._descriptor = self._descriptor, _CLOSED  # its number may soon be that of another file
            os.close(descriptor)

    def take(self, logged: Mapping[str, Any]) -> None:
        """Write what was logged if it is an event or a warning."""
        name = NAMES.get(logged["event"])
        fields = fields_of(logged)
        if name is not None:
            self._write({"event": name, **fields})
        elif logged["level"] in _WARNINGS:
            self._write({"event": "warning", "text": logged["event"], **fields})

    def _write(self, event: dict[str, Any]) -> None:
        line = line_of(event)
        with self._lock, suppress(OSError):
            os.write(self._descriptor, line)
