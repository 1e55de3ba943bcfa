"""The steps of a run in their order: docs/safety.md says of each what is written, and what a crash after it leaves.

The function that carries a step out says so with `carries_out`. The crash tests kill runs at these functions, by
this list, not by their names.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


class Step(StrEnum):
    """What is on disk before the next step begins."""

    LOAD = "load"
    INTEND = "intend"
    COPY = "copy"
    RECORD = "record"
    RECHECK = "recheck"
    UNDO_PLAN = "undo plan"
    SWITCH = "switch"
    MARK = "check and mark"
    DELETE = "delete"
    END = "end"


_functions: dict[Step, list[str]] = {step: [] for step in Step}


def carries_out(step: Step) -> Callable[[F], F]:
    """Register the decorated function as the one that carries out a step."""

    def noted(function: F) -> F:
        _functions[step].append(f"{function.__module__}:{function.__qualname__}")
        return function

    return noted


def carried_out_by(step: Step) -> tuple[str, ...]:
    """Return the functions of a step, as ``module:qualified.name``; those of modules that are loaded."""
    return tuple(_functions[step])
