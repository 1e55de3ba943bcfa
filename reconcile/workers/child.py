"""The main function of a worker process: messages come by standard input, answers go by standard output.

The first line is the setup. It ends with its input: whoever gave the messages is gone then.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from reconcile import logs
from reconcile.catalog import DatabaseOptions
from reconcile.control import relaxed_gc
from reconcile.engines import Setup, task_of
from reconcile.limits import Threads, keep_few_arenas
from reconcile.secret import Secret


def main() -> None:
    """Answer messages until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_few_arenas()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    lines = sys.stdin.buffer
    setup = _setup(msgspec.json.decode(lines.readline()))
    task, writing = task_of(setup), threading.Lock()

    def answer(line: bytes) -> None:
        number, message = msgspec.json.decode(line)
        text = msgspec.json.encode([number, task(message)])
        with writing:
            answers.write(text + b"\n")
            answers.flush()

    with relaxed_gc(), Threads(setup.threads, thread_name_prefix="reconcile") as pool:
        for line in lines:
            pool.submit(answer, line)
        os._exit(0)  # nobody waits for what is in hand


def _setup(given: dict[str, Any]) -> Setup:
    """Set logging up as it is where messages come from, and return what this process works with."""
    level, form, file = given.pop("log")
    logs.configure(level, form, _path(file))
    logs.log_tracebacks()
    database = given.pop("database")
    url, password = database.pop("url"), database.pop("password")
    return Setup(
        source=_path(given.pop("source")),
        dest=_path(given.pop("dest")),
        database=DatabaseOptions(
            url=Secret(url, remembered=False) if url else None,
            password=Secret(password) if password else None,
            **database,
        ),
        **given,
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


if __name__ == "__main__":
    main()
