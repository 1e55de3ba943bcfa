"""What an engine is: it takes messages and gives futures of answers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen

from reconcile.catalog import DatabaseOptions

Message = dict[str, Any]  # numbers and short texts, as JSON takes them: no document, no credential, no location


@frozen
class Setup:
    """What a worker that is started here is given beside messages, by a way that nobody else reads.

    ``task`` names the function that makes a worker's answer, as ``module:attribute``: it is called with the setup, and
    returns what each message is given to. ``threads`` is how many of them a worker takes at once.
    """

    task: str
    database: DatabaseOptions
    source: Path | None = None
    dest: Path | None = None
    threads: int = 4


class Engine(Protocol):
    """Carries messages to workers. ``name`` is what it was asked for by."""

    name: str

    def width(self) -> int:
        """Return how many messages are worked on at once now; it may grow and shrink. 0: there is no worker."""

    def submit(self, message: Message) -> Future[Message]:
        """Have a message worked on. The future raises `LostError` where its worker is gone, `EngineError` otherwise."""

    def close(self) -> None:
        """Let go of the workers; those that were started here are ended, whatever they are at."""


def task_of(setup: Setup) -> Callable[[Message], Message]:
    """Return what a worker gives each message to."""
    module, _colon, attribute = setup.task.partition(":")
    make: Callable[[Setup], Callable[[Message], Message]] = getattr(import_module(module), attribute)
    return make(setup)
