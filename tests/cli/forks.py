"""Commands in processes of their own that need not start: each is a fork of one that has loaded the program.

A start is half a second of CPU, and the tests run hundreds of commands. The server (``python -m tests.cli.forks``) has
one thread and runs nothing itself; a fork is a process like any other, with its own environment, directory and streams.
"""

from __future__ import annotations

import array
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
import traceback
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from attrs import define, field

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
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, socket.socket(socket.AF_UNIX) as asked:
            asked.connect(self._path)
            asked.settimeout(timeout)
            request = {"module": module, "arguments": arguments, "cwd": str(cwd), "environment": environment}
            streams = array.array("i", [out.fileno(), err.fileno()])
            asked.sendmsg([json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
            asked.shutdown(socket.SHUT_WR)
            answers = asked.makefile()
            pid = int(answers.readline())
            try:
                code = int(answers.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode())
        return code, texts[0], texts[1]


@cache
def forks() -> Forks:
    """Return the server of this process, started when it is first asked for. It ends with us: its input does."""
    return Forks()


def _serve(path: str) -> None:
    for name in (*_LOADED, *_DRIVERS):
        import_module(name)
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
            asked.sendall(f"{pid}\n".encode())


def _report(waiting: dict[int, socket.socket]) -> None:
    """Tell of each that has ended whoever waits for it."""
    while waiting:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with waiting.pop(pid) as asked:
            asked.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _fork(asked: socket.socket) -> int:
    text, streams, _flags, _address = socket.recv_fds(asked, _BYTES, 2)
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
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, stream in enumerate(streams, 1):
            os.dup2(stream, number)
        os.closerange(3, 1024)
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
        for output in (sys.stdout, sys.stderr):
            output.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
