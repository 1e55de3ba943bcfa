"""What an audit found: counts by backend, problems and orphans, and its JSON, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
from attrs import define, field, frozen

from reconcile._version import __version__
from reconcile.auditing.contents import Problem
from reconcile.auditing.spool import Lines
from reconcile.config import Config
from reconcile.running.record.states import RunState

FORMAT_VERSION = "1.0"
PARTIAL = "a partial switch across schemes would leave an archive that no config can read whole"


@frozen
class Request:
    """What is to be audited. ``sample`` is a percentage of the rows; ``run`` the id of a run with staged copies."""

    buckets: tuple[str, ...] = ()
    sample: float | None = None
    orphans: bool = False
    run: str | None = None


@define
class Tally:
    """Documents of one backend, their bytes, and how many of them have a problem."""

    documents: int = 0
    bytes: int = 0
    problems: int = 0


@frozen
class Orphan:
    """Content that no catalog row refers to. ``kind`` is ``document``, or ``temporary`` for a file of ours."""

    backend: str
    url: str
    size: int | None
    kind: str


@define
class Orphans:
    """What the stores hold beside the catalog's documents. ``bytes`` counts those whose size is known.

    ``staged`` copies belong to unfinished runs, ``kept`` sources to finished ones, ``self_checks`` to services.
    """

    listed: Lines[Orphan] = field(factory=lambda: Lines(Orphan))
    bytes: int = 0
    temporary: int = 0
    staged: int = 0
    kept: int = 0
    self_checks: int = 0


@frozen
class RunScope:
    """The run whose copies were audited. ``remark``: what makes it partial, None where all documents are staged."""

    run_id: str
    state: RunState
    staged: int
    not_staged: int
    remark: str | None


@define
class Audited:
    """What an audit found. ``total`` is how many documents are in scope, ``gone`` how many went while it ran."""

    config: Config
    request: Request
    total: int = 0
    documents: int = 0
    bytes: int = 0
    unverifiable: int = 0
    gone: int = 0
    by_backend: dict[str, Tally] = field(factory=dict)
    problems: Lines[Problem] = field(factory=lambda: Lines(Problem))
    orphans: Orphans | None = None
    run: RunScope | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is missing or wrong. Orphans alone are no problem."""
        return not len(self.problems)

    def count(self, backend: str, size: int, problem: Problem | None, *, verifiable: bool) -> None:
        """Count one document."""
        tally = self.by_backend.setdefault(backend, Tally())
        tally.documents += 1
        tally.bytes += size
        self.documents += 1
        self.bytes += size
        if problem is not None:
            tally.problems += 1
            self.problems.append(problem)
        elif not verifiable:
            self.unverifiable += 1

    def count_intact(self, backend: str, documents: int, size: int, unverifiable: int) -> None:
        """Count documents that are as the catalog says, all at once."""
        tally = self.by_backend.setdefault(backend, Tally())
        tally.documents += documents
        tally.bytes += size
        self.documents += documents
        self.bytes += size
        self.unverifiable += unverifiable

    def json(self) -> Iterator[str]:
        """Yield it, in pieces, as ``schemas/verify.schema.json`` describes it: one problem or orphan a line."""
        head: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "config": str(self.config.path),
            "verified_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "tool_version": __version__,
            "ok": self.ok,
            "scope": {"buckets": list(self.request.buckets), "run": self._run()},
            "sample": self.request.sample and {"percent": self.request.sample, "of": self.total},
            "documents": self.documents,
            "bytes": self.bytes,
            "unverifiable": self.unverifiable,
            "gone": self.gone,
            "by_backend": {name: attrs.asdict(tally) for name, tally in sorted(self.by_backend.items())},
        }
        yield _open_ended(head) + ',"problems":['
        yield from _separated(self.problems)
        yield '],"orphans":'
        if self.orphans is None:
            yield "null}"
            return
        counts = attrs.asdict(self.orphans, filter=lambda attribute, _value: attribute.name != "listed")
        yield _open_ended({"count": len(self.orphans.listed)} | counts) + ',"listed":['
        yield from _separated(self.orphans.listed)
        yield "]}}"

    def _run(self) -> dict[str, Any] | None:
        return attrs.asdict(self.run) | {"partial": self.run.remark is not None} if self.run else None


def _open_ended(fields: dict[str, Any]) -> str:
    return msgspec.json.encode(fields).decode().removesuffix("}")


def _separated(lines: Lines[Any]) -> Iterator[str]:
    for number, line in enumerate(lines.encoded()):
        yield (",\n" if number else "\n") + line.decode()
