"""Commands in processes of their own that need not start: each is a fork of one that has loaded the program.

A start is half a second of CPU, and the tests run hundreds of commands. The server (``python -m tests.cli.forks``) has
one thread and runs nothing itself; a fork is a process like any other, with its own environment, directory and streams.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TextIO

from attrs import define, field

from reconcile.stores.s3_client import S3Clients, S3Settings

_LOADED = ("reconcile.cli.main", "reconcile.running.apply", "reconcile.running.undo", "reconcile.auditing.verify")
_DRIVERS = (
    "reconcile.stores.s3",
    "reconcile.stores.localfs",
    "reconcile.stores.tables",
    "psycopg2",
    "boto3",
    "obstore",
)
_FORKS = 64  # that may wait for the server at once
_BYTES = 1 << 20


@define
class Process:
    """A process that was started and is not waited for: what `subprocess.Popen` is, with pipes of text."""

    pid: int
    stdout: TextIO
    stderr: TextIO
    _asked: socket.socket
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code (negative: a signal), None if it still runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit code. Raises `subprocess.TimeoutExpired` after so many seconds."""
        if self.returncode is None:
            self._asked.settimeout(timeout)
            try:
                self.returncode = int(_line(self._asked))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None
            self._asked.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return what is left of output and errors. Raises as `wait` does."""
        with ThreadPoolExecutor(2) as reading:
            texts = [reading.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()  # or its streams would never end
                raise
        return texts[0].result(), texts[1].result()

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


@define
class Forks:
    """The server of this process, as its client sees it."""

    _folder: str = field(factory=lambda: tempfile.mkdtemp(prefix="reconcile-forks-"))  # the server removes it
    _server: subprocess.Popen[bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, self._path],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"ready\n"

    @property
    def _path(self) -> str:
        return str(Path(self._folder) / "socket")

    def run(
        self, module: str, arguments: Sequence[str], cwd: Path, environment: dict[str, str], timeout: float
    ) -> tuple[int, str, str]:
        """Run ``python -m module arguments``; return exit code (negative: a signal), output and errors."""
        request = {"module": module, "arguments": arguments, "cwd": str(cwd), "environment": environment}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open("rb") as nothing:
            code = self._ended(self._begun(request, [stream.fileno() for stream in (nothing, out, err)], timeout))
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode())
        return code, texts[0], texts[1]

    def start(
        self, module: str, arguments: Sequence[str | Path], cwd: Path, *, session: bool = False, **environment: str
    ) -> Process:
        """Start ``python -m module arguments`` with additional environment variables, in a ``session`` of its own."""
        request = {"module": module, "arguments": [*map(str, arguments)], "cwd": str(cwd), "session": session}
        pipes = [os.pipe() for _stream in range(2)]
        with Path(os.devnull).open("rb") as nothing:
            streams = [nothing.fileno(), *(end for _start, end in pipes)]
            asked, pid = self._begun(request | {"environment": os.environ | environment}, streams, timeout=60)
        for _start, end in pipes:
            os.close(end)
        return Process(pid, *(open(start, encoding="utf-8") for start, _end in pipes), asked=asked)  # noqa: PTH123

    def on_terminal(
        self, arguments: Sequence[str], cwd: Path, environment: dict[str, str], end: int, screen: int, *, results: bool
    ) -> tuple[int, str, str]:
        """Run ``reconcile`` at a terminal; return exit code, output, and what was shown, with the ``results`` or not.

        ``screen`` and ``end`` are both ends of the terminal. The one of the program is closed.
        """
        request = {"module": "reconcile", "arguments": arguments, "cwd": str(cwd), "environment": environment}
        with tempfile.TemporaryFile() as out:
            begun = self._begun(request | {"terminal": True}, [end, end if results else out.fileno(), end], timeout=900)
            os.close(end)
            shown = b""
            with suppress(OSError):  # EIO: the other end is closed
                while piece := os.read(screen, 4096):
                    shown += piece
            code = self._ended(begun)
            out.seek(0)
            return code, out.read().decode(), shown.decode()

    def _begun(self, request: dict[str, Any], streams: Sequence[int], timeout: float) -> tuple[socket.socket, int]:
        """Have a process begun that has these streams; return where its end is told, and its process id."""
        asked = socket.socket(socket.AF_UNIX)
        asked.connect(self._path)
        asked.settimeout(timeout)
        passed = array.array("i", streams)
        asked.sendmsg([json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
        asked.shutdown(socket.SHUT_WR)
        return asked, int(_line(asked))

    def _ended(self, begun: tuple[socket.socket, int]) -> int:
        """Wait for the end of a process; return its exit code."""
        with begun[0] as asked:
            try:
                return int(_line(asked))
            except TimeoutError:
                os.kill(begun[1], signal.SIGKILL)
                raise


def _line(asked: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = asked.recv(1)
        if not piece:
            raise ConnectionError("the server of forks has ended")
        line += piece
    return line


@cache
def forks() -> Forks:
    """Return the server of this process, started when it is first asked for. It ends with us: its input does."""
    return Forks()


def _serve(path: str) -> None:
    for name in (*_LOADED, *_DRIVERS):
        import_module(name)
    settings = {"url": "http://127.0.0.1:1", "region": None, "access_key": "a", "secret_key": "b"}
    _ = S3Clients(S3Settings(bucket="none", create_bucket=False, **settings)).boto  # reads what botocore knows of S3
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(_FORKS)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    waiting: dict[int, socket.socket] = {}
    selector = selectors.DefaultSelector()
    for source in (listening, woken, sys.stdin):
        selector.register(source, selectors.EVENT_READ)
    os.write(sys.stdout.fileno(), b"ready\n")
    while True:
        ready = {key.fileobj for key, _events in selector.select()}
        if sys.stdin in ready:
            shutil.rmtree(Path(path).parent)
            return
        if woken in ready:
            os.read(woken, _FORKS)
            _report(waiting)
        if listening in ready:
            asked = listening.accept()[0]
            pid = _fork(asked)
            waiting[pid] = asked
            with suppress(OSError):
                asked.sendall(f"{pid}\n".encode())


def _report(waiting: dict[int, socket.socket]) -> None:
    """Tell of each that has ended whoever waits for it."""
    while waiting:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with waiting.pop(pid) as asked, suppress(OSError):  # nobody waits for it any more
            asked.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _fork(asked: socket.socket) -> int:
    text, streams, _flags, _address = socket.recv_fds(asked, _BYTES, 3)
    while piece := asked.recv(_BYTES):
        text += piece
    pid = os.fork()
    if pid == 0:
        _be(json.loads(text), streams)
    for stream in streams:
        os.close(stream)
    return pid


def _be(request: dict[str, Any], streams: Sequence[int]) -> NoReturn:
    """Be the process that was asked for."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.closerange(3, 1024)
        if request.get("terminal") or request.get("session"):
            os.setsid()
        if request.get("terminal"):
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            sys.stdin = os.fdopen(0, closefd=False)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])
        sys.path[0] = request["cwd"]
        sys.argv = ["python", *request["arguments"]]
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as Python itself would say it
        traceback.print_exc()
    finally:
        threading._shutdown()  # waits for threads, as the end of a process does
        for output in (sys.stdout, sys.stderr):
            output.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
