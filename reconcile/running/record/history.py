"""All runs that are on record, as lines of a list and as plain data for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from reconcile._version import OUTPUT_FORMAT
from reconcile.catalog.tasks import Migration
from reconcile.planning.model import ConfigReference, PlanHeader
from reconcile.planning.places import role_of
from reconcile.running.record.records import RunRecord
from reconcile.running.record.status import Status
from reconcile.throughput import Rate


def run_data(record: RunRecord) -> dict[str, Any]:
    """Return a run as plain data. ``documents`` and ``bytes`` are those of its plan."""
    sources, dests = drivers_of(record.header)
    moved = record.header.summary.moves
    return {
        "run_id": record.run_id,
        "plan_id": record.plan_id,
        "plan": record.plan_path,
        "undo_plan": record.undo_path,
        "undo_of": record.undo_of,
        "state": record.state,
        "begun": instant(record.created_at),
        "refreshed": instant(record.refreshed_at),
        "staged": instant(record.staged_at),
        "switched": instant(record.switched_at),
        "ended": instant(record.finished_at),
        "documents": moved.documents,
        "bytes": moved.bytes,
        "from": sources,
        "to": dests,
        "keep_source": record.keep_source,
        "executor": record.executor,
        "engine": record.engine,
        "approved": record.approved,
        "remark": record.remark,
    }


def drivers_of(header: PlanHeader) -> tuple[list[str], list[str]]:
    """Return the drivers that a plan's documents come from and go to."""
    sources = {_driver(flow.source, header) for flow in header.summary.flows}
    return sorted(sources), sorted({_driver(flow.dest, header) for flow in header.summary.flows})


def _driver(place: str, header: PlanHeader) -> str:
    side, role = place.partition(".")[0], role_of(place)
    config: ConfigReference | None = {"source": header.source, "dest": header.dest}.get(side)
    return str(config.backends[role]["driver"]) if config else role


def instant(seconds: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def runs_data(runs: list[RunRecord], migrations: list[Migration]) -> dict[str, Any]:
    """Return the list as plain data: runs, and what the vendor's tables record."""
    return {
        "format_version": OUTPUT_FORMAT,
        "runs": [run_data(record) for record in runs],
        "migrations": [
            {
                "id": task.id,
                "state": task.state,
                "from": task.from_driver,
                "to": task.to_driver,
                "documents": task.documents,
                "migrated": task.migrated,
                "begun": _utc(task.started_at),
                "ended": _utc(task.ended_at),
                "executor": task.executor,
                "by_reconcile": task.is_ours,
            }
            for task in migrations
        ],
    }


def _utc(time: datetime | None) -> str | None:
    return None if time is None else time.replace(tzinfo=UTC).isoformat(timespec="seconds")


def status_data(
    status: Status | None, rate: Rate | None = None, troubles: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    """Return a run's status as plain data; ``run`` is None where none is recorded."""
    if status is None:
        return {"format_version": OUTPUT_FORMAT, "run": None}
    rate = rate or status.average
    left = status.total.documents - status.done.documents
    return {
        "format_version": OUTPUT_FORMAT,
        "run": run_data(status.record),
        "at": instant(status.at),
        "finished": status.is_finished,
        "at_work": status.holder is not None and not status.is_finished,
        "doing": status.doing,
        "lock_holder": status.holder,
        "workers": [
            attrs.asdict(worker) | {"since": instant(worker.since), "seen_at": instant(worker.seen_at)}
            for worker in status.workers
        ],
        "states": {state: {"documents": t.documents, "bytes": t.bytes} for state, t in status.documents.items()},
        "sources": status.sources,
        "done": {"documents": status.done.documents, "bytes": status.done.bytes},
        "total": {"documents": status.total.documents, "bytes": status.total.bytes},
        "rate": attrs.asdict(rate) if rate else None,
        "seconds_left": rate.seconds_for(left) if rate else None,
        "troubles": [{"document": name, "reason": why} for name, why in troubles],
        "next": status.next_step,
        "others": [other.run_id for other in status.others],
    }
