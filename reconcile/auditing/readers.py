"""Parts that only read, done by workers of an engine: those of an audit, and those of a plan's probe.

What goes out is numbers: of the audit and the part, this tool's version, and what tells the configs from others. What
comes back is counts. What seems wrong to a worker is judged once more by the process that asked: so a worker without a
mount, say, costs time, and reports no document as missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Generic, TypeVar

from attrs import asdict, define

from reconcile._version import __version__
from reconcile.engines import Engine, Message
from reconcile.running.phases.elsewhere import pass_on
from reconcile.running.record.parts import Part

_QUIET_SECONDS = (
    120.0  # in which nothing came back, after which parts are given out again: to verify twice harms nothing
)


R = TypeVar("R")


@define
class Readers(Generic[R]):
    """Has parts done that only read, by workers of an engine. ``task`` is what each message says beside its part."""

    engine: Engine
    task: Message
    result: type[R]
    patience: float | None = 0.0  # what only reads need not be waited for

    def width(self) -> int:
        """Return how many parts the workers do at once now."""
        return self.engine.width()

    def submit(self, part: Part) -> Future[R]:
        """Have a part done by a worker."""
        answer = self.engine.submit({"version": __version__, **self.task, "part": asdict(part)})
        result: Future[R] = Future()
        result.set_running_or_notify_cancel()
        answer.add_done_callback(lambda done: pass_on(done, result, self.result))
        return result

    def overdue(self, given: Mapping[int, float], quiet: float) -> set[int]:
        """Return all that were given out long ago, if nothing comes back."""
        return {first for first, seconds in given.items() if min(seconds, quiet) > _QUIET_SECONDS}

    def check(self) -> None:
        """Do nothing: what only reads holds no lock."""

    def name_of(self, part: Part) -> str:
        """Return how many documents it has."""
        return f"part {part.first:,} of {part.documents:,} documents"
