"""Follow a guide word for word: its ```sh blocks are typed line by line, in a folder that holds a real archive.

A line must exit with 0, or as it says itself: ``... # exit 12: work remains``. What is not there in a test has a
stand-in: the services behind ``docker-compose``, the operator's hand in ``$EDITOR``, the database's address, the id of
the last run for ``RUN``, ``pip install``, ``make demo``; a command that is to exit with 137 is killed. A line that is a
remark (``# days later``) may have an event.

A ```text block that directly follows a ```sh block is what its commands show. Each of its lines must be among the lines
that were shown, in this order. ``...`` stands for anything within a line, a line of only ``...`` for any lines. Any two
numbers, sizes, durations, times, run ids or digests compare equal, and spaces between words do not count.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from tests.guides.service import Service
from tests.world import World

REPOSITORY = Path(__file__).parents[2]
DATABASE = "postgresql://anchore@db:5432/anchore"  # as the guides write it
KILLED = 137

_EXIT = re.compile(r"#.*\bexit (\d+)")
_PART = re.compile(
    r"^#+ (?P<heading>[^\n]*)$"
    r"|^ *```sh\n(?P<typed>.*?)^ *```$(?:\s*^ *```text\n(?P<shown>.*?)^ *```$)?"
    r"|^ *```.*?^ *```$",  # a block of another kind
    re.DOTALL | re.MULTILINE,
)
_DIFFERENT_EACH_TIME = (  # in this order: what one leaves, the next finds
    (r"\b\d{8}-\d{6}-[0-9a-f]{8}\b", "RUN"),
    (r"\b[0-9a-f]{32,}\b", "DIGEST"),
    (r"\d+([.,]\d+)*", "0"),
    (r"\b0 documents?\b", "DOCUMENTS"),
    (r"\b0 ([KMGT]i)?B\b", "SIZE"),
    (r"\b0 (h 0 min|min 0 s|s|ms)\b", "DURATION"),
)


@frozen
class Line:
    """One line to type: the text, and what it must exit with."""

    text: str
    code: int = 0


@frozen
class Block:
    """The lines of one sh block, and of the text block behind it."""

    lines: list[Line]
    output: list[str]


def blocks_of(guide: str, section: str | None = None) -> Iterator[Block]:
    """Yield the sh blocks of a guide, or of one section."""
    here = section is None
    for part in _PART.finditer((REPOSITORY / guide).read_text()):
        if part["heading"] is not None:
            here = section in (None, part["heading"])
        elif part["typed"] is not None and here:
            typed = filter(None, map(str.strip, part["typed"].splitlines()))
            yield Block([_line(text) for text in typed], (part["shown"] or "").splitlines())


def _line(text: str) -> Line:
    code = _EXIT.search(text)
    return Line(text, int(code[1]) if code else 0)


def first_missing(output: Iterable[str], shown: str) -> str | None:
    """Return the first line of an output that is not in its place among the lines that were shown."""
    lines = map(_comparable, shown.splitlines())
    for line in output:
        pattern = re.compile(".*".join(map(re.escape, _comparable(line).split("..."))))
        if line.strip() not in ("", "...") and not any(map(pattern.fullmatch, lines)):
            return line
    return None


def _comparable(line: str) -> str:
    for pattern, name in _DIFFERENT_EACH_TIME:
        line = re.sub(pattern, name, line)
    return " ".join(line.split())


@define
class Operator:
    """Somebody who types what a guide says, at an archive with services.

    ``edits`` is what a file holds once it was edited; ``events`` what happens at a remark; ``patient`` operators do
    something else until the services' heartbeats are old. ``transcript`` is all that was typed and shown.
    """

    world: World
    service: Service
    edits: dict[str, Path] = field(factory=dict)
    events: dict[str, Callable[[], None]] = field(factory=dict)
    patient: bool = True
    killed_at: str = "recorded"
    transcript: list[str] = field(factory=list)

    def edit(self, name: str) -> None:
        """Save a file as it is to be."""
        (self.world.folder / name).write_text(self.edits[name].read_text())

    def follow(self, guide: str, section: str | None = None) -> str:
        """Type all of it, beginning in the folder of the archive; return what was shown."""
        blocks = list(blocks_of(guide, section))
        assert blocks, f"{guide} {section}: nothing to type"
        remarks = {line.text for block in blocks for line in block.lines if line.text.startswith("#")}
        assert set(self.events) <= remarks, "the guide no longer has the remark of an event"
        self._shell(f"cd {self.world.folder}")
        for block in blocks:
            before = len(self.transcript)
            for line in block.lines:
                self._type(line)
            shown = "\n".join(text for text in self.transcript[before:] if not text.startswith("$ "))
            missing = first_missing(block.output, shown)
            assert missing is None, f"{guide} {section}: not shown, or not in this order: {missing}\n{shown}"
        return "\n".join(self.transcript)

    def _type(self, line: Line) -> None:
        self.transcript.append(f"$ {line.text}")
        words = line.text.split()
        if line.text.startswith("#"):
            self.events.get(line.text, lambda: None)()
        elif words[0] == "docker-compose":
            self._compose(words[1])
        elif words[0] == "$EDITOR":
            self.edit(words[1])
        elif words[:2] != ["pip", "install"]:
            self._run(line)

    def _compose(self, verb: str) -> None:
        if verb == "start":
            self.service.start()
        elif verb == "stop":
            self.service.stop()
            if self.patient:
                self.service.let_time_pass()

    def _run(self, line: Line) -> None:
        text = line.text.replace(DATABASE, self.world.url)
        text = text.replace("make demo", f"{sys.executable} -m examples.demo demo")
        if re.search(r"\bRUN\b", text):
            text = re.sub(r"\bRUN\b", self.last_run(), text)
        if line.code == KILLED:
            text = text.replace("reconcile", f"{sys.executable} -m tests.crash.killer '{self.killed_at}'", 1)
        done = self._shell(text)
        self.transcript.append(done.stdout)
        code = KILLED if done.returncode == -9 else done.returncode
        assert code == line.code, f"{line.text}: exit {code}, not {line.code}\n" + "\n".join(self.transcript)

    def last_run(self) -> str:
        """Return the id of the last run, as an operator would look it up."""
        runs: list[dict[str, Any]] = json.loads(self._shell("reconcile runs --format json 2> /dev/null").stdout)["runs"]
        return str(runs[0]["run_id"])

    def _shell(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a line in a shell that knows what earlier lines exported, and where they went."""
        tools = self.world.folder / ".tools"
        if not tools.exists():
            tools.mkdir()
            _tool(tools / "reconcile", f'exec {sys.executable} -m reconcile "$@"')
            _tool(tools / "less", "exec cat")
            (tools / "state").write_text(f"cd {self.world.folder}\n")
        keep = f"code=$?; {{ export -p; echo cd $PWD; }} > {tools}/state; exit $code"
        environment = {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY), "RECONCILE_YES": "1"}
        return subprocess.run(
            ["bash", "-c", f"source {tools}/state\nset -o pipefail\n{text}\n{keep}"],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )


def _tool(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
