"""Who does what in a search, and what may happen meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

from tests.model.faults import FAULTS, check
from tests.model.guards import Guard
from tests.model.protocol import Protocol
from tests.model.search import Found
from tests.model.world import World, violation

KINDS = ("table", "server", "file", "unbounded")
ROUTES = [
    ("table", "server"),
    ("server", "file"),
    ("file", "unbounded"),
    ("unbounded", "table"),
]  # each kind, each side
VERBS = ("apply", "undo", "clean", "drop")
SERVER, FILE, TABLE = ("server", "server"), ("file", "file"), ("table", "table")


class Scenario(NamedTuple):
    """Two executors with their verbs, and the faults; the search that finds something shows its trace."""

    kinds: tuple[str, str]
    first: tuple[str, ...]
    second: tuple[str, ...]
    faults: frozenset[str]
    copy: str = "logical"

    def search(
        self, guards: frozenset[Guard], wanted: Callable[[World, tuple[str, str]], str | None] = violation
    ) -> Found:
        found = check(Protocol(self.kinds, guards, copy=self.copy), self.first, self.second, self.faults, wanted)
        if found.violation:
            sys.stdout.write(f"{self}\n{found}\n")
        return found


def faults(*names: str) -> frozenset[str]:
    return frozenset(names)


PAUSED = Scenario(SERVER, ("apply",), ("undo",), faults("pause"))
PAUSED_FILE = PAUSED._replace(kinds=FILE)
PAUSED_TABLE = PAUSED._replace(kinds=TABLE)
PAUSED_DROP = Scenario(SERVER, ("drop",), ("drop", "apply"), faults("pause"))
IN_FLIGHT = PAUSED._replace(faults=faults("kill", "late"))
RESUMED = Scenario(SERVER, ("apply", "undo"), ("apply",), FAULTS)
VANISHED = Scenario(SERVER, ("clean",), (), faults("vanish"))
RESTORED = Scenario(SERVER, ("apply",), ("drop",), faults("dump", "restore"))
RESTORED_FILES = Scenario(SERVER, ("apply",), ("undo",), faults("dump", "restore"), "physical")
RESTORED_LATE = Scenario(SERVER, ("drop",), ("apply",), faults("dump", "restore", "late"), "physical")
BESIDE = Scenario(SERVER, ("clean",), ("undo",), faults("dump", "copy"))
BESIDE_FILES = BESIDE._replace(copy="physical")


def after_the_end(world: World, kinds: tuple[str, str]) -> str | None:
    """Look for what breaks when B is done; what breaks before is another case."""
    what = violation(world, kinds)
    done = not world.executors[1].step and world.databases[0].runs[0].phase in ("done", "undone")
    return what if what is None or done else ""


def lost(world: World, kinds: tuple[str, str]) -> str | None:
    """Look for content that is gone: a row that leads to nothing can be repaired while there is another copy."""
    what = violation(world, kinds)
    return what if what and what.startswith("lost") else None


def assert_in_order(trace: tuple[str, ...], *steps: str) -> None:
    rest = iter(trace)
    for step in steps:
        assert any(step == name for name in rest), f"no {step!r} where it is expected in {trace}"
