"""What to type next about a run, with the present paths of its configs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from reconcile.catalog import Scope
from reconcile.commands import command_line, undo_run
from reconcile.formatting import count
from reconcile.planning.model import PlanHeader, Tally
from reconcile.running.record.configs import path_now
from reconcile.running.record.records import RunRecord
from reconcile.running.record.states import Asked, MoveState, RunState

_PLACEHOLDER = "FILE"


def next_step(record: RunRecord, documents: dict[str, Tally], services: str | None = None) -> str:
    """Return what to type next about a run: a command a line, four blanks, and what it does.

    ``services`` is the line about the config that they need, as `config_for_services` returns it.
    """
    steps = list(_steps(record, documents))
    if services is not None:
        steps.insert(1 if record.state == RunState.DONE else 0, ("", services))
    return "\n".join(f"{command}    {what}" if command else what for command, what in steps)


def config_for_services(record: RunRecord, unreadable: int) -> str:
    """Say which config services need after the switch of a run; ``unreadable`` documents are elsewhere still."""
    header, planned = record.header, record.header.dest.path
    own = planned if record.undo_of is not None else header.source.path  # where the services' config has always been
    path = path_now(header, header.dest, own)
    if path is None:
        return (
            f"the services need a config with the content that {planned} had when the plan was made; no "
            "known file has it now"
        )
    if unreadable:
        return f"NOT YET: services with {path} could not read {count(unreadable)}, which are still at another driver"
    return f"you can start the services with {path}"


def watch_step(record: RunRecord) -> str:
    """Return how to watch a run that a process may be working on."""
    return f"{command_line('status', record.run_id, watch=True, source=_paths(record)[0])}    shows how far it is"


def _steps(record: RunRecord, documents: dict[str, Tally]) -> Iterator[tuple[str, str]]:
    is_undo, undo = record.undo_of is not None, undo_command(record, record.undo_of)
    if is_undo and record.state in (RunState.STAGING, RunState.SWITCHED):
        if MoveState.CHANGED in documents:
            yield (
                undo_command(record, record.undo_of, with_changes=True),
                "resumes it, and includes what services wrote since",
            )
        elif _is_made_anew(record):
            yield resume_command(record), "starts it again from the present catalog: what is staged is copied again"
        else:
            yield resume_command(record), "resumes it"
        if record.state == RunState.STAGING:
            yield undo_command(record), "abandons it: the copies that it made are deleted"
    elif record.state == RunState.STAGING:
        if MoveState.CHANGED in documents:
            yield apply_command(record, refresh=True), "resumes it, and includes what changed in the catalog"
        else:
            yield resume_command(record), _how_it_resumes(record)
        if MoveState.FAILED in documents:
            yield apply_command(record, leave_failed=True), "switches without the documents that failed"
        yield undo, "deletes what is staged"
    elif record.state == RunState.SWITCHED:
        yield resume_command(record), "deletes the sources that are left"
        yield undo, "undoes it"
    elif record.state == RunState.UNDOING:
        yield undo, "resumes it"
    else:
        yield from _steps_of_ended(record, documents, undo)


def _how_it_resumes(record: RunRecord) -> str:
    if is_staged(record):
        return "switches; stop the services first"
    stops: dict[str, str] = {
        Asked.STAGE_ONLY: ", and stops before the switch, as before",
        Asked.CLEAN_LATER: ", and stops after the switch, as before",
    }
    return "resumes it" + stops.get(record.asked or "", "")


def _is_made_anew(record: RunRecord) -> bool:
    """Tell whether an undo that did not switch is begun anew by the command that resumes it."""
    return record.state == RunState.STAGING and record.header.policy.with_changes


def _steps_of_ended(record: RunRecord, documents: dict[str, Tally], undo: str) -> Iterator[tuple[str, str]]:
    left = sum(documents[state].documents for state in (MoveState.BLOCKED, MoveState.FAILED) if state in documents)
    if record.state == RunState.DONE and left:
        yield "", f"{count(left, 'document was', 'documents were')} not moved: fix the causes and make a new plan"
    else:
        yield "", "nothing is left to do"
    if record.state == RunState.UNDONE and record.undo_of is not None:
        yield undo, "undoes that run"
    elif record.state == RunState.UNDONE:
        yield apply_command(record), "applies it again"
    elif record.undo_of is None:
        if record.keep_source:
            yield clean_command(record), "deletes the sources that it kept, when you no longer need them"
        yield undo, "undoes it"


def apply_command(record: RunRecord, **options: bool) -> str:
    """Return the command that resumes a run; an option names what has to be found first.

    A staging goes on by the engine that it had. Workers are gone where it is known what to switch or to leave.
    """
    header = record.header
    stages = record.state == RunState.STAGING and record.staged_at is None and not any(options.values())
    engine = record.engine if stages and not header.policy.overwrite else None
    leave_blocked = header.summary.blocked.documents > 0  # such a plan is refused without, whatever its run has done
    missing = {}
    if record.switched_at is not None:
        sides = (("source", header.source), ("dest", header.dest))
        missing = {side: _PLACEHOLDER for side, reference in sides if path_now(header, reference) is None}
    return command_line("apply", record.plan_path, engine=engine, leave_blocked=leave_blocked, **options, **missing)


def resume_command(record: RunRecord) -> str:
    """Return the command that resumes a run, or an undo of one."""
    if record.undo_of is not None:
        return undo_command(record, record.undo_of, with_changes=_is_made_anew(record))
    stops_later = record.asked in (Asked.CLEAN_LATER, Asked.CLEAN)
    if record.state == RunState.SWITCHED and (record.paused_at is not None or stops_later):
        return clean_command(record)
    staged = is_staged(record)
    return apply_command(
        record,
        refresh=staged and not record.header.policy.limited,
        stage_only=record.asked == Asked.STAGE_ONLY and record.switched_at is None and not staged,
        clean_later=record.asked == Asked.CLEAN_LATER,
    )


def is_staged(record: RunRecord) -> bool:
    """Tell whether a run stopped as it was asked to once all was staged, perhaps long before its switch."""
    return record.state == RunState.STAGING and record.staged_at is not None and record.paused_at is not None


def plan_again(header: PlanHeader, *, overwrite: bool = False) -> str:
    """Return the command that makes a plan like this one again, in a file of a new name."""
    policy, scope = header.policy, Scope.of(header.scope)
    before = scope.created_before
    return command_line(
        "plan",
        header.source.path,
        header.dest.path,
        bucket=scope.buckets,
        exclude_bucket=scope.exclude_buckets,
        user=scope.users,
        from_file=scope.listed_in,
        older_than=None if before is None else datetime.fromtimestamp(before, UTC).isoformat(),
        larger_than=scope.larger_than,
        limit=max(1, header.summary.moves.documents) if policy.limited else None,
        keep_source=policy.keep_source,
        clean_elsewhere=policy.clean_elsewhere,
        allow_unreadable=policy.allow_unreadable,
        overwrite=policy.overwrite or overwrite,
        s3_put=[f"{key}={value}" for key, value in policy.s3_put.items()],
        probe=header.summary.probed,
    )


def clean_command(record: RunRecord) -> str:
    """Return the command that deletes the sources that a run kept."""
    source, dest = _paths(record)
    return command_line("clean", record.run_id, source=source, dest=dest)


def rebind_command(record: RunRecord) -> str:
    """Return the command that binds the run to the present database and places."""
    source, dest = _paths(record)
    return command_line("rebind", record.run_id, source=source, dest=dest)


def undo_command(record: RunRecord, run_id: str | None = None, **options: bool) -> str:
    """Return the command that undoes a run, or with ``run_id`` resumes an undo of that one."""
    source, dest = _paths(record)
    return undo_run(run_id, source, dest, **options) if run_id else undo_run(record.run_id, dest, source, **options)


def _paths(record: RunRecord) -> tuple[str, str]:
    """Return where the configs are that a run moves from, and to."""
    header = record.header
    source, dest = (path_now(header, reference) for reference in (header.source, header.dest))
    if record.switched_at is None and record.undo_of is None:  # nothing has taken their place but an edit
        source, dest = source or Path(header.source.path), dest or Path(header.dest.path)
    return str(source or _PLACEHOLDER), str(dest or _PLACEHOLDER)
