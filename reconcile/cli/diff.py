"""``reconcile diff``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import msgspec

from reconcile import beforehand
from reconcile.cli.env_option import PATH, option, verb
from reconcile.cli.lines import show
from reconcile.cli.options import config_options, database_of, database_options
from reconcile.errors import EXIT_CHANGES
from reconcile.formatting import count, human_bytes
from reconcile.logs import printable
from reconcile.planning.diff import (
    ADDED,
    BLOCKED,
    CHANGED,
    KINDS,
    REMOVED,
    UNBLOCKED,
    Change,
    changes,
    circumstances,
    flow_changes,
    head_data,
)
from reconcile.planning.model import Blocker, Move
from reconcile.planning.planfile import PlanFile, open_whole_plan

_MARKS = {ADDED: "+", REMOVED: "-", CHANGED: "~", BLOCKED: "!", UNBLOCKED: "*"}


@verb("diff", "show what changed since a plan was made")
@click.argument("plan", type=PATH)
@click.argument("plan2", type=PATH, required=False)
@config_options
@option("--detailed-exitcode", is_flag=True, help="Exit 2 if anything differs.")
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@database_options
@click.pass_context
def command(context: click.Context, /, plan: Path, plan2: Path | None, form: str, **options: Any) -> None:  # noqa: ANN401
    """Show what changed since PLAN was made: compare it with the catalog of now, or with PLAN2, file against file.

    To compare with the catalog, it plans again as PLAN was made (configs, scope, limit, probe) and saves nothing.
    A line begins with + for a move that was added, - for one that was removed, ~ for one that changed, ! for a
    document that is blocked now, * for one that is no longer blocked.

    \b
      reconcile diff plans/to-s3.json
      reconcile diff plans/to-s3.json plans/to-s3-again.json
    """
    with ExitStack() as stack:
        before = open_whole_plan(plan)
        if plan2 is None:
            after = stack.enter_context(
                beforehand.planned_again(before, database_of(options), options["source"], options["dest"])
            )
        else:
            after = open_whole_plan(plan2)
        counts: Counter[str] = Counter()
        if form == "json":
            for line in _json(before, after, counts):
                click.echo(line)
        else:
            show(_text(before, after, counts))
        differs = bool(counts) or bool(circumstances(before.header, after.header))
    if differs and options["detailed_exitcode"]:
        context.exit(EXIT_CHANGES)


def _json(before: PlanFile, after: PlanFile, counts: Counter[str]) -> Iterator[bytes]:
    """Yield one JSON object, a change a line, however many there are."""
    yield msgspec.json.encode(head_data(before, after))[:-1] + b', "changes": ['
    separator = b""
    for change in _counted(before, after, counts):
        yield separator + msgspec.json.encode(change.data())
        separator = b","
    yield b'], "summary": ' + msgspec.json.encode({kind: counts[kind] for kind in KINDS}) + b"}"


def _text(before: PlanFile, after: PlanFile, counts: Counter[str]) -> Iterator[str]:
    for name, (was, now) in circumstances(before.header, after.header).items():
        yield printable(f"{name}: was {_compact(was)}, is {_compact(now)}")
    for change in _counted(before, after, counts):
        yield f"{_MARKS[change.kind]} {printable('/'.join(_name(change)))}: {printable(_what(change))}"
    for flow in flow_changes(before.header, after.header):
        pairs = zip(flow["documents"], flow["bytes"], strict=True)
        was, now = (f"{count(documents)}, {human_bytes(size)}" for documents, size in pairs)
        yield f"{flow['source']} -> {flow['dest']}  {printable(flow['bucket'])}: {was}; now {now}"
    total = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    yield f"since {before.header.plan_id}, made {before.header.created_at}: {total or 'no document differs'}"


def _counted(before: PlanFile, after: PlanFile, counts: Counter[str]) -> Iterator[Change]:
    for change in changes(before, after):
        counts[change.kind] += 1
        yield change


def _name(change: Change) -> tuple[str, ...]:
    row = change.row
    usual = row.documentName == f"{row.archiveId}.json"
    return (row.userId, row.bucket, row.archiveId, *(() if usual else (f"({row.documentName})",)))


def _what(change: Change) -> str:
    row = change.row
    if change.kind == CHANGED:
        return "; ".join(f"{name} was {was}, is {now}" for name, (was, now) in change.columns.items())
    if isinstance(row, Blocker):
        gone = "it was blocked, and is no longer in the plan: " if change.kind == UNBLOCKED else ""
        return f"{gone}{row.reason}: {row.detail}"
    return _move(row)


def _move(move: Move) -> str:
    return f"{move.before.content_url} -> {move.after.content_url}"


def _compact(value: object) -> str:
    return msgspec.json.encode(value).decode()
