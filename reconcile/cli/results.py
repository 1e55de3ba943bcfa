"""How results are put out, and what `apply` and `undo` print at the end: what was done, the config, the way back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml

from reconcile._version import OUTPUT_FORMAT
from reconcile.config import Config
from reconcile.logs import printable
from reconcile.rendering.output import write_new
from reconcile.running.outcome import Outcome
from reconcile.verbs import Prepared
from reconcile.wording import count


def put_out(pieces: Iterable[str], out: Path | None) -> None:
    """Print a rendering piece by piece, or write it to a new file and say so."""
    if out is not None:
        write_new(out, pieces)
        click.echo(f"saved as {out}", err=True)
        return
    for piece in pieces:
        click.echo(piece, nl=False)


def show_outcome(outcome: Outcome, prepared: Prepared, form: str) -> None:
    """Print the outcome to stdout, as text or JSON."""
    if form == "json":
        click.echo(msgspec.json.encode(outcome_data(outcome, prepared)))
        return
    if outcome.already:
        click.echo(f"nothing to do: {outcome.already}")
    if outcome.run_id:
        for line in _lines(outcome, prepared):
            click.echo(line)


def outcome_data(outcome: Outcome, prepared: Prepared) -> dict[str, Any]:
    """Return the outcome as plain data. ``services_config`` is None where the services' config need not change."""
    dest = prepared.desired.dest
    dropped = prepared.plan is None
    needs_none = dropped or outcome.already or outcome.unreadable or outcome.staged
    config = None if needs_none else {"path": str(dest.path), **_sections(dest)}
    return {
        "format_version": OUTPUT_FORMAT,
        "run_id": outcome.run_id or None,
        "undo_of": prepared.undo_of,
        "documents": outcome.documents,
        "switched": bool(outcome.run_id) and not (outcome.staged or dropped),
        "changed": outcome.changed,
        "left": outcome.left,
        "sources_kept": outcome.kept,
        "unreadable": outcome.unreadable,
        "not_dropped": list(outcome.not_dropped),
        "undo_plan": str(outcome.undo_plan) if outcome.undo_plan else None,
        "remark": outcome.remark,
        "already": outcome.already,
        "services_config": config,
    }


def _lines(outcome: Outcome, prepared: Prepared) -> Iterator[str]:
    is_undo = prepared.undo_of is not None
    if is_undo and prepared.plan is None and not outcome.already:
        yield f"run {outcome.run_id} never switched; its copies are dropped, the catalog is as it was"
        if outcome.left:
            left = count(outcome.left, "copy was", "copies were")
            yield f"  {left} left alone: not, or not surely, what this run wrote"
            yield from (f"    {printable(name)}" for name in outcome.not_dropped)
        return
    if outcome.staged:
        yield from _staged(outcome, prepared)
        return
    verb = "taken back" if is_undo else "moved"
    yield f"run {outcome.run_id}: {count(outcome.documents)} {verb}"
    if outcome.left:
        left = count(outcome.left, "document left where it was", "documents left where they were")
        yield f"  {left}: {_look(outcome, prepared)}"
    if outcome.kept:
        yield f"  {count(outcome.kept, 'source')} kept, each for a reason: {_look(outcome, prepared)}"
    if outcome.remark:
        yield f"  {outcome.remark}"
    if outcome.already:
        return
    if outcome.unreadable:
        yield (
            f"  NOT YET: services with {prepared.desired.dest.path} could not read {count(outcome.unreadable)},"
            " at another driver still. Move the rest too before you start the services with it."
        )
        yield from _way_back(outcome, prepared)
        return
    yield ""
    yield "The services must have this in services.catalog of their config from now on:"
    yield ""
    yield from (f"  {line}" for line in config_text(prepared.desired.dest).splitlines())
    yield ""
    yield f"next: put {prepared.desired.dest.path} in place as the services' config, then start them"
    yield from _way_back(outcome, prepared)


def _staged(outcome: Outcome, prepared: Prepared) -> Iterator[str]:
    assert prepared.plan is not None  # noqa: S101 - only a plan is staged alone
    path = prepared.plan.path
    yield f"run {outcome.run_id}: {count(outcome.documents)} staged and confirmed; nothing was switched"
    if outcome.left:
        yield f"  {count(outcome.left)} not among them: {_look(outcome, prepared)}"
    if outcome.changed:
        yield f"  {count(outcome.changed, 'row')} changed since the plan was made: --refresh takes that along"
    yield "  the catalog is untouched, and the services go on as they are"
    refresh = "" if prepared.undo_of else " --refresh"
    yield f"next: stop the services, then reconcile apply {path}{refresh}"
    yield f"to check the copies before: reconcile verify {prepared.desired.dest.path} --run {outcome.run_id}"
    source, dest = prepared.desired.source.path, prepared.desired.dest.path
    yield f"to take them away again: reconcile undo {outcome.run_id} --source {dest} --dest {source}"


def _look(outcome: Outcome, prepared: Prepared) -> str:
    return f"reconcile status {outcome.run_id} --source {prepared.desired.source.path}"


def _way_back(outcome: Outcome, prepared: Prepared) -> Iterator[str]:
    if outcome.undo_plan is None:
        return
    source, dest = prepared.desired.source.path, prepared.desired.dest.path
    yield f"keep {source} as it is now, or a copy: it is needed to go back"
    yield f"to take it back: reconcile undo {outcome.undo_plan} --source {dest} --dest {source}"


def config_text(config: Config) -> str:
    """Return the sections of a config as YAML, credentials masked."""
    return yaml.safe_dump(_sections(config), default_flow_style=False, sort_keys=True)


def _sections(config: Config) -> dict[str, Any]:
    return {backend.role: backend.as_config() for backend in config.backends()}
