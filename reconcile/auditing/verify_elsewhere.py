"""An audit by workers: an engine carries its parts; what seems wrong is judged once more by who asked for the audit.

What goes out is numbers: of the audit and the part, this tool's version, and what tells the config from another. What
comes back is counts. So a worker without a mount, say, costs time, and reports no document as missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

from attrs import asdict, define

from reconcile._version import __version__
from reconcile.auditing.verify_part import VerifiedPart
from reconcile.config import Config
from reconcile.engines import Engine
from reconcile.running.phases.elsewhere import pass_on
from reconcile.running.record.parts import Part

_QUIET_SECONDS = (
    120.0  # in which nothing came back, after which parts are given out again: to verify twice harms nothing
)


@define
class Auditors:
    """Has parts of an audit done by workers of an engine."""

    engine: Engine
    config: Config
    audit: str
    sample: float | None = None
    patience: float | None = 0.0  # what only reads need not be waited for

    def width(self) -> int:
        """Return how many parts the workers do at once now."""
        return self.engine.width()

    def submit(self, part: Part) -> Future[VerifiedPart]:
        """Have a part done by a worker."""
        answer = self.engine.submit(
            {
                "version": __version__,
                "task": "verify",
                "audit": self.audit,
                "config": self.config.fingerprint(),
                "sample": self.sample,
                "part": asdict(part),
            }
        )
        result: Future[VerifiedPart] = Future()
        result.set_running_or_notify_cancel()
        answer.add_done_callback(lambda done: pass_on(done, result, VerifiedPart))
        return result

    def overdue(self, given: Mapping[int, float], quiet: float) -> set[int]:
        """Return all that were given out long ago, if nothing comes back."""
        return {first for first, seconds in given.items() if min(seconds, quiet) > _QUIET_SECONDS}

    def check(self) -> None:
        """Do nothing: an audit holds no lock."""

    def name_of(self, part: Part) -> str:
        """Return how many documents it has."""
        return f"part {part.first:,} of {part.documents:,} documents"
