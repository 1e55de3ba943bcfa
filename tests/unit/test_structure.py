"""Imports point one way: from verbs to phases to stores, as docs/design.md lists the rooms; and in no circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import reconcile

PACKAGE = Path(reconcile.__file__).parent
ROOMS = [  # each may import what comes after it
    "library",
    "cli",
    "metrics",
    "verbs",
    "beforehand",
    "prepared",
    "rendering",
    "workers",
    "auditing",
    "running",
    "running.phases",
    "running.record",
    "engines",
    "planning",
    "stores",
    "catalog",
    "config",
]


@cache
def modules() -> dict[str, Path]:
    """Return every module of the package by its name below it."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
        if path.parent != PACKAGE or path.name not in ("__init__.py", "__main__.py")
    }


def imported(path: Path, *, only_at_once: bool) -> Iterator[str]:
    """Yield what a module imports of the package; ``only_at_once``: without what is imported when it is used."""
    tree = ast.parse(path.read_text())
    known = modules()
    for node in tree.body if only_at_once else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reconcile"):
            module = (node.module or "").removeprefix("reconcile").removeprefix(".")
            for alias in node.names:
                name = f"{module}.{alias.name}".removeprefix(".")
                yield name if name in known else module


def room_of(module: str) -> int | None:
    """Return the place of a module's room in the list; None for what all rooms use."""
    inside = [room for room in ROOMS if module == room or module.startswith(f"{room}.")]
    return ROOMS.index(max(inside, key=len)) if inside else None


def test_no_room_imports_one_above_it() -> None:
    upward = []
    for module, path in modules().items():
        here = room_of(module)
        for other in imported(path, only_at_once=False):
            there = room_of(other)
            if there is not None and (here is None or there < here):
                upward.append(f"{module} imports {other}")
    assert not upward


def test_the_design_lists_the_rooms_in_their_order() -> None:
    table = (PACKAGE.parent / "docs" / "design.md").read_text().partition("## The packages")[2]
    listed = re.findall(r"^\| `(\w+)(?:\.py|/)` \|", table, re.MULTILINE)
    assert listed == [room for room in ROOMS if "." not in room]


def test_no_imports_in_a_circle() -> None:
    graph = {
        module: {other for other in imported(path, only_at_once=True) if other != module and other in modules()}
        for module, path in modules().items()
    }
    TopologicalSorter(graph).prepare()
