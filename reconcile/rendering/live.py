"""The live page of a run, and the data that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from reconcile.formatting import count, time_text
from reconcile.rendering.embedded import embedded, policy_source
from reconcile.running.record.history import status_data
from reconcile.running.record.records import RunRecord
from reconcile.running.record.samples import Speed
from reconcile.running.record.states import RunState
from reconcile.running.record.status import PHASES, Status
from reconcile.throughput import Rate


def live_page() -> tuple[bytes, str]:
    """Return the page, and the Content-Security-Policy that it is served with: it asks its own server and no other."""
    style, script = embedded("page.css") + embedded("live.css"), embedded("live.js")
    page = embedded("live.html").replace("{{style}}", style).replace("{{script}}", script)
    policy = (
        f"default-src 'none'; style-src {policy_source(style)}; script-src {policy_source(script)};"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page.encode(), policy


def live_data(
    status: Status | None, rate: Rate | None, troubles: Sequence[tuple[str, str]], speeds: Sequence[Speed]
) -> dict[str, Any]:
    """Return what the page shows: the status as `reconcile status --format json` has it, phases, samples."""
    data = {"status": status_data(status, rate, troubles), "phases": [], "speeds": [attrs.asdict(s) for s in speeds]}
    if status is None:
        return data | {"headline": "No run is recorded yet", "state": "Waiting for a run to begin", "kind": "attention"}
    kind, state = _verdict(status)
    moved = count(status.record.header.summary.moves.documents)
    what = "moved back" if status.record.undo_of else "moved"
    return data | {
        "headline": f"{moved} to be {what}" if not status.is_finished else f"{moved}: {PHASES[status.record.state]}",
        "state": state,
        "kind": kind,
        "phases": _phases(status.record),
    }


def _verdict(status: Status) -> tuple[str, str]:
    state = PHASES[status.record.state]
    if status.rest is not None:
        return ("bad" if status.is_interrupted else "attention"), f"{status.rest} ({state})"
    if status.is_finished:
        return "good", f"{state[:1].upper()}{state[1:]}"
    doing = f"; now: {status.doing}" if status.doing else ""
    return ("good" if status.holder else "attention"), f"{state[:1].upper()}{state[1:]}{doing}"


def _phases(record: RunRecord) -> list[dict[str, Any]]:
    times = (("Stage", record.staged_at), ("Switch", record.switched_at), ("Clean", record.finished_at))
    reached = {RunState.STAGING: 0, RunState.SWITCHED: 2, RunState.DONE: 3, RunState.UNDONE: 3}.get(record.state, 0)
    told = [{"name": "Begun", "is_over": True, "is_now": False, "said": time_text(record.created_at)}]
    for number, (name, ended) in enumerate(times):
        is_over = ended is not None and number < reached
        is_now = number == reached
        said = time_text(ended) if is_over and ended is not None else "now" if is_now else ""
        told.append({"name": name, "is_over": is_over, "is_now": is_now, "said": said})
    return told
