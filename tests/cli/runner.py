"""Run the command line in a process of its own, as an operator does."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import signal
import struct
import sys
import termios
from pathlib import Path
from unittest import mock

from attrs import frozen

from reconcile.cli.main import main
from reconcile.logs import configure
from tests.cli.commands import commands_in, parses
from tests.cli.forks import forks

KILLER = "tests.crash.killer"  # the command line, killed or stopped at a point


@frozen
class Result:
    """What a command left: exit code, results, logs and messages."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


def reconcile(*arguments: str | Path, cwd: Path, **environment: str) -> Result:
    """Run ``reconcile`` with these arguments and additional environment variables."""
    done = forks().run("reconcile", [*map(str, arguments)], cwd, os.environ | environment, timeout=900)
    return _read(Result(*done), arguments, cwd)


def killed(point: str, *arguments: str | Path, cwd: Path, **environment: str) -> None:
    """Run ``reconcile`` and have it killed at a point of its work."""
    code, out, err = forks().run(KILLER, [point, *map(str, arguments)], cwd, os.environ | environment, timeout=300)
    assert code == -signal.SIGKILL, f"not killed at {point!r}: {code}\n{out}{err}"


def on_terminal(
    *arguments: str | Path, cwd: Path, columns: int = 80, typed: str = "", results: bool = False, **environment: str
) -> Result:
    """Run ``reconcile`` at a terminal of so many columns; ``err`` is what it shows, with the ``results`` or without."""
    screen, end = pty.openpty()
    resize(screen, columns)
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    os.write(screen, typed.encode())
    inherited |= {"TERM": "xterm-256color"} | environment
    done = forks().on_terminal([*map(str, arguments)], cwd, inherited, end, screen, results=results)
    os.close(screen)
    return _read(Result(*done), arguments, cwd)


def resize(terminal: int, columns: int) -> None:
    """Give a terminal so many columns."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 12, columns, 0, 0))


def here(*arguments: str | Path, cwd: Path, **environment: str) -> Result:
    """Run ``reconcile`` in this very process: quicker, for what does not depend on the process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _stream in range(2))
    quiet = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with mock.patch.dict(os.environ, environment), contextlib.chdir(cwd), quiet[0], quiet[1]:
        before, sys.argv = sys.argv, ["reconcile", *map(str, arguments)]
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            sys.argv = before
            configure("error")
    texts = (stream.buffer.getvalue().decode() for stream in (out, err))
    return _read(Result(code, *texts), arguments, cwd)


def _read(result: Result, arguments: tuple[str | Path, ...], cwd: Path) -> Result:
    """Try each command that a screen prints on the parser, whatever the test looks at."""
    if "--help" not in arguments:
        for command in commands_in(result.err + ("" if result.out.startswith(("{", "<")) else result.out)):
            if command.startswith("reconcile "):
                parses(command, cwd)
    return result
