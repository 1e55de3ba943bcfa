"""How results are put out, and what `apply` and `undo` print at the end: what was done, the config, the way back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import yaml

from reconcile.config import Config
from reconcile.logs import printable
from reconcile.rendering.output import write_new
from reconcile.running.phases import Outcome
from reconcile.verbs import Prepared


def put_out(pieces: Iterable[str], out: Path | None) -> None:
    """Print a rendering piece by piece, or write it to a new file and say so."""
    if out is not None:
        write_new(out, pieces)
        click.echo(f"saved as {out}", err=True)
        return
    for piece in pieces:
        click.echo(piece, nl=False)


def show_outcome(outcome: Outcome, prepared: Prepared) -> None:
    """Print the outcome to stdout."""
    if outcome.already:
        click.echo(f"nothing to do: {outcome.already}")
    if outcome.run_id:
        for line in _lines(outcome, prepared):
            click.echo(line)


def _lines(outcome: Outcome, prepared: Prepared) -> Iterator[str]:
    is_undo = prepared.undo_of is not None
    if is_undo and prepared.plan is None and not outcome.already:
        yield f"run {outcome.run_id} never switched; its copies are dropped, the catalog is as it was"
        if outcome.left:
            yield f"  {outcome.left} copies were left alone: they are not, or not surely, what this run wrote"
            yield from (f"    {printable(name)}" for name in outcome.not_dropped)
        return
    verb = "taken back" if is_undo else "moved"
    yield f"run {outcome.run_id}: {outcome.documents} documents {verb}"
    if outcome.left:
        yield f"  {outcome.left} documents are left where they were: reconcile status {outcome.run_id}"
    if outcome.kept:
        yield f"  {outcome.kept} sources were kept, each for a reason: reconcile status {outcome.run_id}"
    if outcome.remark:
        yield f"  {outcome.remark}"
    if outcome.already:
        return
    if outcome.unreadable:
        yield (
            f"  NOT YET: services with {prepared.desired.dest.path} could not read {outcome.unreadable} documents,"
            " which are at another driver still. Move those too before you start the services with it."
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


def _way_back(outcome: Outcome, prepared: Prepared) -> Iterator[str]:
    if outcome.undo_plan is None:
        return
    source, dest = prepared.desired.source.path, prepared.desired.dest.path
    yield f"keep {source} as it is now, or a copy: it is needed to go back"
    yield f"to take it back: reconcile undo {outcome.undo_plan} --source {dest} --dest {source}"


def config_text(config: Config) -> str:
    """Return the sections of a config as YAML, credentials masked."""
    sections = {backend.role: backend.as_config() for backend in config.backends()}
    return yaml.safe_dump(sections, default_flow_style=False, sort_keys=True)
