"""Limits of the machine (threads, memory, open files): fewer threads where that helps, else the limit is named."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from reconcile import limits
from reconcile.control import Control, in_order, in_parallel
from reconcile.errors import MachineLimitError
from tests.archives import new_sqlite
from tests.cli.desk import filled, planned
from tests.world import DB, World, localfs

_NO_THREAD = RuntimeError("can't start new thread")


def limited(name: str, most: int, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``reconcile`` under a limit of the operating system."""
    code = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_{name}, ({most}, {most}));"
    code += "runpy.run_module('reconcile', run_name='__main__')"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def only(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """Have the machine give so many threads and no more."""
    start, left = threading.Thread.start, [None] * threads

    def counted(self: threading.Thread) -> None:
        if not left:
            raise _NO_THREAD
        left.pop()
        start(self)

    monkeypatch.setattr(threading.Thread, "start", counted)


@pytest.mark.parametrize("threads", [1, 3])
def test_fewer_threads_do_the_same_work(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    only(monkeypatch, threads)
    done: list[int] = []
    in_parallel(Control(), 4, range(50), lambda number: number, done.append)
    assert sorted(done) == list(range(50))
    monkeypatch.undo()
    only(monkeypatch, threads)
    assert list(in_order(4, range(50), lambda number: number)) == list(range(50))


def test_without_any_thread_the_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, 0)
    monkeypatch.setattr(limits.resource, "getrlimit", lambda _which: (400 << 20, 400 << 20))
    with pytest.raises(MachineLimitError, match=r"no more threads.*ulimit -v.*ulimit -u") as failed:
        in_parallel(Control(), 4, range(50), lambda number: number, lambda _number: None)
    assert "--workers 1" in (failed.value.hint or "")


def test_the_limit_of_a_container_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pids.max").write_text("100\n")
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(limits, "_CONTAINER", tmp_path)
    error = limits.exceeded(_NO_THREAD)
    assert error is not None
    assert "this container may have 100 processes and threads (pids.max)" in error.message
    assert "memory.max" not in error.message


def test_a_small_address_space_is_enough(folder: Path) -> None:
    world = World(folder, new_sqlite(folder))
    world.fill(120)
    world.plan(world.config("config", DB), world.config("dest", localfs(folder / "archive")))
    done = limited("AS", 400 << 20, "--quiet", "apply", "p.json", "--yes", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "120 documents moved" in done.stdout


def test_a_limit_that_is_too_small_is_named(folder: Path) -> None:
    world = filled(World(folder, new_sqlite(folder)))
    planned(world)
    done = limited("NOFILE", 6, "--quiet", "apply", "p.json", "--yes", cwd=folder)
    assert done.returncode == 1, done.stderr
    assert "no more files can be opened: this process may have 6 files open (ulimit -n)" in done.stderr
    assert "defect" not in done.stderr
    assert world.apply("p.json").documents == 6


def test_memory_that_is_not_to_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.resource, "getrlimit", lambda _which: (400 << 20, 400 << 20))
    error = limits.exceeded(MemoryError())
    assert error is not None
    assert "this process may use 400 MiB of address space (ulimit -v)" in error.message


def test_a_panic_of_a_library_is_no_traceback() -> None:
    panic = type("PanicException", (BaseException,), {})
    for text, said in (("TooManyOpenFiles", "ulimit -n"), ("WouldBlock", "threads"), ("other", None)):
        error: Any = limits.exceeded(panic(f"Unable to build Tokio runtime: Os {{ kind: {text} }}"))
        assert error is None if said is None else said in error.message
