"""What a terminal shows, what is there instead where there is none, and completion."""

from __future__ import annotations

import codecs
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import structlog
from rich.console import Console

from reconcile.catalog.lock import run_lock
from reconcile.cli.progress import Bars
from reconcile.logs import configure
from tests.archives import new_sqlite
from tests.cli.desk import filled, opened, planned, stage_only
from tests.cli.runner import here, on_terminal, reconcile, resize
from tests.world import World

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HOME = re.compile(r"\x1b\[[0-9;]*H")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3|4|9|10)[0-7](?:;[0-9;]*)?m")


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


def lines(shown: str) -> list[str]:
    """Return what a terminal was given, line by line, without what moves the cursor or colours."""
    return [line for line in re.split(r"[\r\n]+", ESCAPE.sub("", HOME.sub("\n", shown))) if line]


@pytest.mark.parametrize("columns", [10, 20, 39, 60, 80, 200])
def test_progress_fits_the_terminal(columns: int) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=columns)
    with Bars(quiet=False, console=console) as bars:
        bars.phase("recheck", 1_000_000, 10**12)
        bars.advance(123_456, 10**11)
        bars.say("a name without end " + "x" * 500 + "\x1b[2J")
    assert max(map(len, lines(out.getvalue()))) <= columns
    assert "12%" in out.getvalue() or "123,456/1,000,000" in out.getvalue() or columns < 20
    assert "\\x1b[2J" in out.getvalue().replace("\n", "")


def test_progress_survives_a_terminal_that_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with Bars(quiet=False, console=console) as bars:
        bars.phase("stage", 1000, 10**9)
        bars.advance(10, 10**7)
        before = len(out.getvalue())
        console.width = 20
        bars.advance(490, 10**7)
        bars.say("smaller now")
    assert max(map(len, lines(out.getvalue()[before:]))) <= 20
    assert "50%" in ESCAPE.sub("", out.getvalue()[before:])


def test_a_run_at_a_narrow_terminal(lite: World) -> None:
    planned(lite)
    result = on_terminal("apply", "p.json", "--yes", cwd=lite.folder, columns=20)
    assert result.code == 0
    assert "100%" in result.err
    assert max(map(len, lines(result.err))) <= 20
    assert "6 documents moved" in result.out
    assert "\x1b" not in result.out


def test_colour_is_for_terminals_and_never_with_no_color(lite: World) -> None:
    planned(lite)
    assert COLOUR.search(on_terminal("apply", "p.json", "--yes", cwd=lite.folder).err)
    plain = on_terminal("undo", "p.undo.json", "--yes", cwd=lite.folder, NO_COLOR="1")
    assert (plain.code, COLOUR.search(plain.err)) == (0, None)
    assert "100%" in plain.err or "6/6" in plain.err
    nowhere = reconcile("apply", "p.json", "--yes", cwd=lite.folder, FORCE_COLOR="1")
    assert (nowhere.code, "\x1b" in nowhere.all) == (0, False)
    dumb = on_terminal("undo", "p.undo.json", "--yes", cwd=lite.folder, TERM="dumb")
    assert (dumb.code, "\x1b" in dumb.all) == (0, False)


def test_log_colour_follows_no_color(lite: World) -> None:
    planned(lite)
    loud = ("--log-level", "info", "apply", "p.json", "--yes")
    assert COLOUR.search(on_terminal(*loud, cwd=lite.folder).err)
    quiet = on_terminal("--log-level", "info", "undo", "p.undo.json", "--yes", cwd=lite.folder, NO_COLOR="1")
    assert "run finished" in quiet.err
    assert not COLOUR.search(quiet.err)


def nowhere() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


@pytest.fixture
def at_info() -> object:
    configure("info")
    yield
    configure("error")


def test_without_a_terminal_a_line_tells_how_far_it_is(at_info: object) -> None:
    clock = iter([-10.0, 0.0, 10.0, 20.0, 30.0])
    with structlog.testing.capture_logs() as logged:
        bars = Bars(quiet=False, console=nowhere(), clock=lambda: next(clock))
        bars.phase("stage", 100, 1000)
        bars.advance(10, 100)
        bars.advance(20, 200)
        bars.log_progress()
    line = logged[-1]
    assert {name: line[name] for name in line if name != "log_level"} == {
        "event": "progress",
        "phase": "stage",
        "documents": 30,
        "of_documents": 100,
        "bytes": 300,
        "of_bytes": 1000,
        "documents_per_second": 2.0,
        "bytes_per_second": 20,
        "seconds_left": 35,
        "seconds_since_last": 10,
    }


def test_it_is_said_that_nothing_is_done(at_info: object) -> None:
    """A server that hangs: the bar does not go on showing the last rate, and a line says what that means."""
    now, out = [0.0], io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    bars = Bars(quiet=False, console=console, clock=lambda: now[0])
    bars.phase("stage", 100, 1000)
    for now[0] in (1.0, 2.0):
        bars.advance(10, 100)
    assert bars.left() == "8 s left"
    now[0] = 14.0
    assert bars.left() == "no progress for 12 s"
    bars.tell_silence()
    assert "answer" not in out.getvalue()
    now[0] = 33.0
    bars.tell_silence()
    bars.tell_silence()
    said = ESCAPE.sub("", out.getvalue()).replace("\n", " ")
    assert (
        said.count("stage: no document was finished for 31 s: a store or the database is slow or does not answer") == 1
    )
    bars.advance(80, 800)
    assert bars.left() == ""


def test_the_line_comes_by_itself_while_nothing_moves(at_info: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that waits for a slow store says so too."""
    told = threading.Event()
    monkeypatch.setattr(Bars, "log_progress", lambda _bars: told.set())
    with Bars(quiet=False, console=nowhere(), interval=0.01) as bars:
        bars.phase("stage", 100, 1000)
        assert told.wait(60)
    told.clear()
    with Bars(quiet=True, console=nowhere(), interval=0.01):
        assert not told.wait(0.1)


def test_nothing_is_logged_once_a_phase_is_through(at_info: object) -> None:
    with structlog.testing.capture_logs() as logged:
        bars = Bars(quiet=False, console=nowhere())
        bars.log_progress()
        bars.phase("stage", 1, 1)
        bars.advance(1, 1)
        bars.log_progress()
    assert [line["event"] for line in logged] == ["phase"]


def test_quiet_and_verbose(lite: World) -> None:
    planned(lite)
    result = on_terminal("--quiet", "apply", "p.json", "--yes", cwd=lite.folder)
    assert (result.code, result.err) == (0, "")
    assert "6 documents moved" in result.out
    result = here("--quiet", "undo", "none.undo.json", "--yes", cwd=lite.folder)
    assert (result.code, "no such plan file" in result.err) == (1, True)
    result = here("--verbose", "undo", "p.undo.json", "--yes", cwd=lite.folder)
    events = [json.loads(line)["event"] for line in result.err.splitlines()]
    assert events.count("document staged") == 6
    assert here("--quiet", "--verbose", "drivers", cwd=lite.folder).code == 64


def test_a_watched_run_is_shown_in_place(lite: World) -> None:
    plan = planned(lite)
    stage_only(lite, plan)
    lite.apply(plan)
    arguments = ("status", "--watch", "--source", "config.yaml")
    shown = on_terminal(*arguments, cwd=lite.folder, columns=30, results=True)
    assert shown.code == 0
    in_place, _end, after = shown.err.partition("\x1b[?1049l")
    assert "done: 6 of 6" in in_place
    assert max(map(len, lines(in_place))) <= 30
    assert "next: nothing is left to do" in after


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["reconcile", "st"], ["status"]),
        (["reconcile", "apply", "--leave-"], ["--leave-blocked", "--leave-failed"]),
        (["reconcile", "plan", "--probe", ""], ["exists", "digest"]),
    ],
)
def test_bash_completes(lite: World, typed: list[str], offered: list[str]) -> None:
    program = lite.folder / "reconcile"
    program.write_text(f"#!{sys.executable}\nfrom reconcile.cli.main import main\nmain()\n")
    program.chmod(0o755)
    script = here("completion", "bash", cwd=lite.folder)
    assert script.code == 0
    (lite.folder / "completion").write_text(script.out)
    words = " ".join(f"'{word}'" for word in typed)
    ask = (
        "source ./completion; type compopt >/dev/null 2>&1; compopt() { :; }\n"
        f"COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _reconcile_completion ./reconcile\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", ask], cwd=lite.folder, capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == sorted(offered)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_their_script(shell: str, folder: Path) -> None:
    result = here("completion", shell, cwd=folder)
    assert result.code == 0
    assert "_RECONCILE_COMPLETE" in result.out
    assert here("completion", "tcsh", cwd=folder).code == 64


def test_a_watch_survives_a_terminal_that_is_made_smaller(lite: World) -> None:
    """And Ctrl-C at that terminal ends it, with the screen given back."""
    stage_only(lite, planned(lite))
    with opened(lite) as catalog, run_lock(catalog, 0):  # as if it were under way
        _watched_in_a_small_terminal(lite)


def _watched_in_a_small_terminal(lite: World) -> None:
    screen, end = pty.openpty()
    resize(screen, 80)
    process = subprocess.Popen(
        [sys.executable, "-m", "reconcile", "status", "--watch", "--interval", "0.1", "--source", "config.yaml"],
        cwd=lite.folder,
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"TERM": "xterm-256color"},
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    read_until(screen, "6 of 6 documents")
    resize(screen, 24)
    read_until(screen, "6 of …")  # a frame of the new size: its first line is cut
    frames = read_until(screen, "6 of …")
    assert max(map(len, lines(frames))) <= 24
    process.send_signal(signal.SIGINT)
    rest = read_until(screen, "the run is not affected")
    assert "\x1b[?1049l" in rest
    assert process.wait(60) == 130
    os.close(screen)


def read_until(screen: int, text: str) -> str:
    shown = ""
    decoder = codecs.getincrementaldecoder("utf-8")()
    while text not in shown:
        shown += decoder.decode(os.read(screen, 4096))
    return shown
