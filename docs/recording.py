"""The pictures of the docs, made from what the program shows of the example archive: ``make pictures``.

A terminal's recording, as asciinema plays it and as an SVG that plays itself, and the page of the plan.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import Factory, define

from docs.terminal import Frame, Screen, to_svg
from examples.build_archive import build
from tests.servers.chromium import Chromium

COLUMNS, ROWS = 100, 30
FOLDER, USER = "/srv/anchore-eu", "operator@archive"  # shown for this machine's; as long as /tmp/12345678/a
TITLE = "reconcile plans, applies and undoes a migration"

SCENES = {  # what is typed, and for how many seconds its end shows
    "reconcile plan config.yaml dest-config.yaml --probe exists --out plan.json": 1.5,
    "reconcile show plan.json | head -n 23": 4,
    "reconcile apply plan.json": 5,
    "reconcile status --source config.yaml": 3,
    "reconcile undo plan.undo.json --yes": 2.5,
    "reconcile verify config.yaml": 3,
}
POSTER = "reconcile apply plan.json"  # whose end shows where nothing may move
ASKED = "Type yes to confirm"

FRAME = 0.12  # seconds that a frame of the SVG shows at least
PAUSE = 0.5  # and at most, but for the end of a scene
TYPING = 0.025  # seconds a key
QUIET = 0.03  # seconds without output after which what was written is whole

Event = tuple[float, str, str]  # asciinema's: when, "o" for output or "m" for a marker, and its text


@define
class Example:
    """The example archive in a folder of its own, and a shell there. ``events`` are when what was shown."""

    folder: Path
    events: list[Event] = Factory(list)
    began: float = Factory(time.monotonic)

    def shown(self, text: str) -> str:
        """Return a text of this machine as it is shown."""
        text = text.replace(str(self.folder), FOLDER)
        return re.sub(rf"\S+@{re.escape(socket.gethostname())}\b", USER, text)

    def show(self, text: str) -> None:
        """Record what the terminal shows now."""
        self._record("o", self.shown(text))

    def _record(self, kind: str, text: str) -> None:
        self.events.append((round(time.monotonic() - self.began, 3), kind, text))

    def type(self, text: str) -> None:
        """Record what is typed, key by key."""
        for char in text:
            self.show(char)
            time.sleep(TYPING)

    def start(self, command: str, terminal: int | None = None) -> subprocess.Popen[bytes]:
        """Start a command of the shell."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RECONCILE_")},
            "TERM": "xterm-256color",
            "PYTHONPATH": os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""))),
        }
        shell = f'reconcile() {{ "{sys.executable}" -m reconcile --log-level error "$@"; }}; {command}'
        return subprocess.Popen(  # noqa: S603 - our own commands
            ["bash", "-c", shell],  # noqa: S607 - whichever bash there is
            cwd=self.folder,
            env=environment,
            start_new_session=True,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )

    def scene(self, command: str) -> None:
        """Type a command on an empty screen and record what it shows. Raises `CalledProcessError` where it fails."""
        self.show("\x1b[2J\x1b[H\x1b[38;5;10m$\x1b[0m ")
        self.type(command)
        self.show("\r\n")
        ours, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        process = self.start(command, terminal)
        os.close(terminal)
        for text in _written(ours):
            self.show(text)
            if ASKED in text:
                time.sleep(PAUSE)
                os.write(ours, b"yes\n")
        os.close(ours)
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)
        self._record("m", command)


def _written(terminal: int) -> Iterator[str]:
    """Yield what programs write to a terminal, in pieces that hold whole characters and words."""
    held = b""
    while True:
        if held and not select.select([terminal], [], [], QUIET)[0]:
            yield held.decode()
            held = b""
        try:
            more = os.read(terminal, 1 << 16)
        except OSError:  # they have all ended
            more = b""
        if not more:
            break
        held += more
    if held:
        yield held.decode()


def cast(events: list[Event]) -> str:
    """Return the recording as asciinema has it, version 2."""
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": TITLE, "env": {"TERM": "xterm-256color"}}
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (header, *events))


def frames(events: list[Event]) -> Iterator[Frame]:
    """Yield the screens of a recording: none for less than `FRAME`, none but a scene's end for more than `PAUSE`."""
    screen = Screen(COLUMNS, ROWS)
    waited = 0.0
    for (when, kind, text), then in zip(events, [when for when, *_rest in events[1:]] + [0.0], strict=True):
        if kind == "o":
            screen.write(text)
        waited += min(then - when, PAUSE) if kind == "o" else SCENES[text]
        if waited >= FRAME:
            yield Frame(waited, screen.shown(), is_poster=(kind, text) == ("m", POSTER))
            waited = 0.0


def main() -> None:
    """Make the pictures in the folder that is given."""
    out = Path(sys.argv[1])
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="") as name:
        example = Example(Path(name).resolve() / "a")
        build(example.folder)
        for command in SCENES:
            example.scene(command)
        (out / "terminal.cast").write_text(cast(example.events))
        (out / "terminal.svg").write_text(to_svg(list(frames(example.events)), TITLE))
        _plan(example, out / "plan.png")


def _plan(example: Example, out: Path) -> None:
    """Save what the page of the plan looks like."""
    page = example.folder / "plan.html"
    example.start(f"reconcile show plan.json --format html --out {page.name} 2> said.txt").wait()
    page.write_text(example.shown(page.read_text()))
    browser = Chromium()
    browser.resize(1280)
    browser.prefer("light")
    browser.open(page)
    browser.run("document.body.style.zoom = 0.85")  # as Ctrl and - does: more of the page, fewer bytes
    bottom = browser.run("document.querySelector('svg.flow').getBoundingClientRect().bottom")
    browser.screenshot(out, 1280, int(bottom) + 12)  # down to the diagram of what goes where
    browser.close()


if __name__ == "__main__":
    main()
