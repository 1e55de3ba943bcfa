"""The differences of two plans: moves and blockers that were added, removed or changed. Streamed by row key."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from typing import Any, TypeVar

import attrs
from attrs import field, frozen

from reconcile._version import OUTPUT_FORMAT
from reconcile.planning.model import Blocker, Flow, Move, PlanHeader
from reconcile.planning.planfile import PlanFile

Row = Move | Blocker
R = TypeVar("R", Move, Blocker)

ADDED, REMOVED, CHANGED, BLOCKED, UNBLOCKED = "added", "removed", "changed", "blocked", "unblocked"
KINDS = (ADDED, REMOVED, CHANGED, BLOCKED, UNBLOCKED)


@frozen
class Change:
    """How one row differs. ``columns`` are those that differ: old value, new value.

    A move was ``added`` or ``removed``; ``blocked`` or ``unblocked`` is a blocker that was added or removed, with or
    without a move in its place.
    """

    kind: str
    before: Row | None
    after: Row | None
    columns: dict[str, tuple[Any, Any]] = field(factory=dict)

    @property
    def row(self) -> Row:
        """The row as it is, or was."""
        found = self.after or self.before
        assert found is not None  # noqa: S101 - one of them is there
        return found

    def data(self) -> dict[str, Any]:
        """Return the change as plain data."""
        row = self.row
        return {
            "kind": self.kind,
            "userId": row.userId,
            "bucket": row.bucket,
            "archiveId": row.archiveId,
            "documentName": row.documentName,
            "columns": {name: list(values) for name, values in self.columns.items()},
        }


def changes(before: PlanFile, after: PlanFile) -> Iterator[Change]:
    """Yield every row on which the two plans differ, in the order of the rows' keys."""
    ours, theirs = _rows(before), _rows(after)
    old, new = next(ours, None), next(theirs, None)
    while old is not None or new is not None:
        if new is None or (old is not None and _key(old) < _key(new)):
            yield _change(old, None)
            old = next(ours, None)
        elif old is None or _key(new) < _key(old):
            yield _change(None, new)
            new = next(theirs, None)
        else:
            if old != new:
                yield _change(old, new)
            old, new = next(ours, None), next(theirs, None)


def _change(before: Row | None, after: Row | None) -> Change:
    kind = CHANGED
    if isinstance(after, Blocker) and not isinstance(before, Blocker):
        kind = BLOCKED
    elif isinstance(before, Blocker) and not isinstance(after, Blocker):
        kind = UNBLOCKED
    elif before is None or after is None:
        kind = ADDED if before is None else REMOVED
    was, now = _columns(before), _columns(after)
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    return Change(kind, before, after, {name: (was.get(name), now.get(name)) for name in names})


def _columns(row: Row | None) -> dict[str, Any]:
    """Return what a plan says of a row beyond its key, nested names joined by a dot."""
    if row is None:
        return {}
    columns = {}
    for name, value in attrs.asdict(row, recurse=False).items():
        if name in ("before", "after"):
            columns.update({f"{name}.{inner}": item for inner, item in attrs.asdict(value).items()})
        elif name not in ("userId", "bucket", "archiveId", "documentName"):
            columns[name] = value
    return columns


def _key(row: Row) -> tuple[str, str, str, str]:
    return (row.userId, row.bucket, row.archiveId, row.documentName)


def _rows(plan: PlanFile) -> Iterator[Row]:
    """Yield moves and blockers together, in the order of the row's key."""
    return heapq.merge(_sorted(plan.moves), _sorted(plan.blockers), key=_key)


def _sorted(read: Callable[[], Iterator[R]]) -> Iterator[R]:
    """Put a plan's items in order: they are, but for those that a probe found, which come behind the others."""
    starts: list[int] = [0, *(number for number, (one, two) in enumerate(pairwise(read()), 1) if _key(two) < _key(one))]
    ends: list[int | None] = [*starts[1:], None]
    return heapq.merge(*(islice(read(), start, end) for start, end in zip(starts, ends, strict=True)), key=_key)


def circumstances(before: PlanHeader, after: PlanHeader) -> dict[str, tuple[Any, Any]]:
    """Return how the plans differ beside their rows: configs, scope, policy, database, probe; by dotted name."""
    was, now = _circumstances(before), _circumstances(after)
    return {name: (was.get(name), now.get(name)) for name in {**was, **now} if was.get(name) != now.get(name)}


def _circumstances(header: PlanHeader) -> dict[str, Any]:
    nested = {
        "database": header.database,
        "source": header.source.backends,
        "dest": header.dest.backends,
        "scope": header.scope,
        "policy": attrs.asdict(header.policy),
        "probed": header.summary.probed,
        "undo_of": header.undo_of,
    }
    return dict(_flat(nested))


def _flat(nested: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def flow_changes(before: PlanHeader, after: PlanHeader) -> list[dict[str, Any]]:
    """Return the flows that differ: documents and bytes as they were and as they are."""
    was, now = _flows(before), _flows(after)
    return [
        {
            "source": key[0],
            "dest": key[1],
            "bucket": key[2],
            "documents": [was.get(key, _NONE).documents, now.get(key, _NONE).documents],
            "bytes": [was.get(key, _NONE).bytes, now.get(key, _NONE).bytes],
        }
        for key in sorted({*was, *now})
        if was.get(key) != now.get(key)
    ]


_NONE = Flow("", "", "", 0, 0, 0)


def _flows(header: PlanHeader) -> dict[tuple[str, str, str], Flow]:
    return {(flow.source, flow.dest, flow.bucket): flow for flow in header.summary.flows}


def plan_data(plan: PlanFile) -> dict[str, Any]:
    """Return which plan it is."""
    header = plan.header
    return {"plan_id": header.plan_id, "created_at": header.created_at, "digest": plan.digest or plan.verify()}


def head_data(before: PlanFile, after: PlanFile) -> dict[str, Any]:
    """Return what stands before the changes in the JSON of a diff."""
    return {
        "format_version": OUTPUT_FORMAT,
        "before": plan_data(before),
        "after": plan_data(after),
        "circumstances": {name: list(pair) for name, pair in circumstances(before.header, after.header).items()},
        "flows": flow_changes(before.header, after.header),
    }
