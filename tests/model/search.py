"""A breadth-first search over all interleavings: the first violation it meets has a shortest trace."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple, TypeVar

S = TypeVar("S", bound=Hashable)


class Found(NamedTuple):
    """A violation, and the steps that lead to it; ``states`` counts what was seen."""

    violation: str | None
    trace: tuple[str, ...]
    states: int

    def __str__(self) -> str:
        steps = "\n".join(f"  {number:2} {step}" for number, step in enumerate(self.trace, 1))
        return f"{self.violation} ({self.states:,} states)\n{steps}"


def search(
    starts: Iterable[tuple[str, S]],
    steps: Callable[[S], Iterator[tuple[str, S]]],
    violation: Callable[[S], str | None],
) -> Found:
    """Return the violation with the fewest steps, or one that is None when no state violates anything.

    A ``violation`` that is empty is not what is looked for, and nothing is looked for behind it.
    """
    came_from: dict[S, tuple[str, S | None]] = {}
    level: list[S] = []
    for name, state in starts:
        if state not in came_from:
            came_from[state] = (name, None)
            level.append(state)
    while level:
        following: list[S] = []
        for state in level:
            for name, after in steps(state):
                if after in came_from:
                    continue
                came_from[after] = (name, state)
                what = violation(after)
                if what:
                    return Found(what, _trace(came_from, after), len(came_from))
                if what is None:
                    following.append(after)
        level = following
    return Found(None, (), len(came_from))


def _trace(came_from: dict[S, tuple[str, S | None]], state: S | None) -> tuple[str, ...]:
    names = []
    while state is not None:
        name, state = came_from[state]
        names.append(name)
    return tuple(reversed(names))
