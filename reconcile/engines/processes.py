"""Engine ``processes:N``: worker processes on this machine, which are given messages through pipes.

A process that ends in the midst of its messages is replaced, and they are lost. One that does not answer keeps its
messages until somebody finds them overdue; `close` ends all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec

import reconcile
from reconcile import logs
from reconcile.engines.base import Message, Setup
from reconcile.errors import EngineError, LostError

_PACKAGE = str(Path(reconcile.__file__).parents[1])
_RESTARTS = 20  # of all processes together: more are no accident


class Processes:
    """So many worker processes, started with the first message."""

    def __init__(self, number: int, setup: Setup) -> None:
        self.name = f"processes:{number}"
        self._number, self._setup = number, setup
        self._children: list[_Child] = []
        self._lock = threading.Lock()
        self._restarts = 0

    def width(self) -> int:
        """Return how many messages the processes take at once."""
        return self._number * self._setup.threads

    def submit(self, message: Message) -> Future[Message]:
        """Give the message to the process that has the fewest."""
        with self._lock:
            self._replace_ended()
            child = min(self._children, key=lambda one: one.load)
        return child.submit(message)

    def close(self) -> None:
        """End the processes, those that are stopped too."""
        with self._lock:
            for child in self._children:
                child.kill()
            for child in self._children:
                child.end()
            self._children = []

    def _replace_ended(self) -> None:
        ended = [child for child in self._children if child.has_ended]
        self._restarts += len(ended)
        if self._restarts > _RESTARTS:
            raise EngineError(
                f"worker processes have ended {self._restarts} times, the last one with"
                f" {ended[0].exit_text}; no more are started",
                hint="their words are in the log; what is recorded stays so, and the same command resumes",
            )
        self._children = [child for child in self._children if not child.has_ended]
        while len(self._children) < self._number:
            self._children.append(_Child(self._setup))


class _Child:
    """One worker process. Its answers are read by a thread."""

    def __init__(self, setup: Setup) -> None:
        path = os.pathsep.join(filter(None, (_PACKAGE, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "reconcile.workers.child"],  # nothing from the working directory
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for whoever gives the messages
        )
        self._lock = threading.Lock()
        self._numbers = 0
        self._futures: dict[int, Future[Message]] = {}
        self._is_over = False
        self._tell(_setup_text(setup))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def load(self) -> int:
        """How many messages it has."""
        return len(self._futures)

    @property
    def has_ended(self) -> bool:
        """Whether it takes no more messages."""
        return self._is_over

    @property
    def exit_text(self) -> str:
        """How it ended, in words."""
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def submit(self, message: Message) -> Future[Message]:
        """Give it a message."""
        future: Future[Message] = Future()
        future.set_running_or_notify_cancel()  # what was sent cannot be called back
        with self._lock:
            if self._is_over:
                future.set_exception(LostError("its worker process has ended"))
                return future
            self._numbers += 1
            number = self._numbers
            self._futures[number] = future
        self._tell(msgspec.json.encode([number, message]))
        return future

    def kill(self) -> None:
        """Have it end at once, stopped or not."""
        self._process.kill()

    def end(self) -> None:
        """Wait until it has ended, and let go of it."""
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was not read by it is flushed in vain
                _stream(stream).close()

    def _tell(self, text: bytes) -> None:
        stream = _stream(self._process.stdin)
        with suppress(OSError):  # it has ended, which the reader finds out
            stream.write(text + b"\n")
            stream.flush()

    def _read(self) -> None:
        for line in _stream(self._process.stdout):
            try:
                number, answer = msgspec.json.decode(line)
            except (msgspec.DecodeError, ValueError, TypeError):  # cut short by its end, or not from us
                self._process.kill()
                break
            with self._lock:
                future = self._futures.pop(number)
            future.set_result(answer)
        with self._lock:
            self._is_over = True
            left, self._futures = list(self._futures.values()), {}
        for future in left:
            future.set_exception(LostError(f"its worker process has ended by {self.exit_text}"))


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101 - it was asked for
    return stream


def _setup_text(setup: Setup) -> bytes:
    """Return the setup as the process reads it: secrets go through the pipe, which nobody else reads."""
    database, (level, form, file) = setup.database, logs.settings()
    values: dict[str, Any] = {
        "task": setup.task,
        "source": setup.source and str(setup.source.absolute()),
        "dest": setup.dest and str(setup.dest.absolute()),
        "threads": setup.threads,
        "log": (level, form, file and str(file.absolute())),
        "database": {
            "url": database.url and database.url.reveal(),
            "password": database.password and database.password.reveal(),
            "ssl": database.ssl,
            "retries": database.retries,
            "timeout": database.timeout,
            "connect_timeout": database.connect_timeout,
        },
    }
    return msgspec.json.encode(values)
