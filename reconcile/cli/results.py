"""How results are put out, and what `apply` and `undo` print at the end: what was done, the config, the way back."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml

from reconcile._version import OUTPUT_FORMAT
from reconcile.cli.lines import show
from reconcile.commands import command_line, copy_line, old_name, undo_run
from reconcile.config import Config, load_config
from reconcile.errors import ConfigError
from reconcile.formatting import count
from reconcile.logs import printable
from reconcile.rendering.output import write_new
from reconcile.running.record.result import Outcome
from reconcile.verbs import Prepared


def put_out(pieces: Iterable[str], out: Path | None, *, wrapped: bool = False) -> None:
    """Print a rendering piece by piece, or write it to a new file and say so; ``wrapped``: pieces are lines to read."""
    if out is not None:
        write_new(out, pieces)
        click.echo(f"saved as {out}", err=True)
        return
    if wrapped:
        show(piece.removesuffix("\n") for piece in pieces)
        return
    for piece in pieces:
        click.echo(piece, nl=False)


def show_outcome(outcome: Outcome, prepared: Prepared, form: str, *, config: bool = False) -> None:
    """Print the outcome to stdout, as text or JSON; ``config``: with the sections that the services need now."""
    if form == "json":
        click.echo(msgspec.json.encode(outcome_data(outcome, prepared)))
        return
    if outcome.already:
        click.echo(f"nothing to do: {outcome.already}")
    if outcome.run_id:
        show(_lines(outcome, prepared))
    if config and not outcome.staged:
        click.echo("\nservices.catalog of the config, credentials masked:\n")
        click.echo(config_text(prepared.desired.dest))


def outcome_data(outcome: Outcome, prepared: Prepared) -> dict[str, Any]:
    """Return the outcome as plain data. ``services_config`` is None where the services' config need not change."""
    dest = prepared.desired.dest
    dropped = prepared.plan is None
    needs_none = dropped or outcome.already or outcome.unreadable or outcome.staged
    config = None if needs_none else {"path": str(dest.path), **_sections(dest), "second_file": _second_file(prepared)}
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
        "last_copies": outcome.last_copies,
        "not_intact": list(outcome.not_intact),
        "undo_plan": str(outcome.undo_plan) if outcome.undo_plan else None,
        "remark": outcome.remark,
        "already": outcome.already,
        "services_config": config,
    }


def _lines(outcome: Outcome, prepared: Prepared) -> Iterator[str]:
    is_undo = prepared.undo_of is not None
    if is_undo and prepared.plan is None and not outcome.already:
        how = (
            "except copies that may be the last of their documents"
            if outcome.last_copies
            else "the catalog is unchanged"
        )
        yield f"run {outcome.run_id} never switched; its copies are deleted, {how}"
        yield from _not_dropped(outcome)
        return
    if outcome.staged:
        yield from _staged(outcome, prepared)
        return
    verb = "moved back" if is_undo else "moved"
    yield f"run {outcome.run_id}: {count(outcome.documents)} {verb}"
    if outcome.left:
        left = count(outcome.left, "document stays where it was", "documents stay where they were")
        yield f"  {left}: {_look(outcome, prepared)}"
    if outcome.kept:
        yield f"  {count(outcome.kept, 'source')} kept; reasons: {_look(outcome, prepared)}"
    yield from not_intact_lines(outcome.not_intact)
    if outcome.remark:
        yield f"  {outcome.remark}"
    if outcome.already:
        return
    if outcome.unreadable:
        yield (
            f"  NOT YET: services with {prepared.desired.dest.path} could not read "
            f"{count(outcome.unreadable)}, which are still at another driver. Move those too before you start "
            "the services with it."
        )
        yield from _way_back(outcome, prepared)
        return
    yield from _copy_lines(prepared)
    if outcome.clean_later or (outcome.keep_source and not is_undo):
        new, old = _sides(prepared)
        clean = command_line("clean", outcome.run_id, source=old, dest=new)
        yield f"all sources are kept; to delete them: {clean}"
    yield from _way_back(outcome, prepared)


def _copy_lines(prepared: Prepared) -> Iterator[str]:
    """Yield how the new config gets its place, as lines for a shell; the services' own file is the one left behind."""
    old, new = prepared.desired.source.path, prepared.desired.dest.path
    if prepared.desired.dest.is_from_plan:
        yield (
            f"NOT YET: {new} has changed since the plan, and no other file has its former content. Services "
            "need this in it:"
        )
        yield from (f"    {line}" for line in config_text(prepared.desired.dest).splitlines())
        return
    if prepared.undo_of is not None:
        assert prepared.plan is not None  # noqa: S101 - only the undo of a run that never switched goes without
        own = Path(prepared.plan.header.dest.path)  # the file that the services had when the run was planned
        if new == own or not own.exists():
            yield f"next: start the services with {shlex.quote(str(new))}"
            return
        yield "next:"
        yield f"  {copy_line(new, own)}"
        yield f"  and start the services with {shlex.quote(str(own))}"
        return
    in_place = _in_place(prepared)
    if in_place is not None:
        yield f"next: start the services with {shlex.quote(str(in_place))}, which already has the new config"
        return
    yield "next:"
    yield f"  {copy_line(old, old_name(old))}"
    yield f"  {copy_line(new, old)}"
    yield f"  and start the services with {shlex.quote(str(old))}"
    second = _second_file(prepared)
    if second:
        yield (
            f"  first put the same object_store into {second}, the component catalog's own file: at the "
            "file's root, the driver's keys beside its name"
        )


def _in_place(prepared: Prepared) -> Path | None:
    """Return the services' own file where the new config was put there already, and the old one is elsewhere."""
    assert prepared.plan is not None  # noqa: S101 - only the undo of a run that never switched goes without
    file = Path(prepared.plan.header.source.path)
    if prepared.undo_of is not None or not file.exists():
        return None
    with suppress(ConfigError):
        if load_config(file).fingerprint() == prepared.desired.dest.fingerprint():
            return file
    return None


def _sides(prepared: Prepared) -> tuple[Path, Path]:
    """Return where the new config and the old one are once the lines that are printed have been typed."""
    old = prepared.desired.source.path
    in_place = _in_place(prepared)
    return (in_place, old) if in_place is not None else (old, old_name(old))


def not_intact_lines(names: Sequence[str]) -> Iterator[str]:
    """Yield lines that name documents whose sources stay since their copies are gone or damaged."""
    if names:
        yield (
            "  NOT INTACT at the destination, so their sources were kept. Find the cause, then run reconcile verify:"
        )
        yield from (f"    {printable(name)}" for name in names)


def _not_dropped(outcome: Outcome) -> Iterator[str]:
    if outcome.left > outcome.last_copies:
        left = count(outcome.left - outcome.last_copies, "copy was", "copies were")
        yield f"  {left} kept: not, or not verifiably, what this run wrote"
    if outcome.last_copies:
        left = count(outcome.last_copies, "copy was", "copies were")
        yield f"  {left} kept: the source is not intact, so the copy may be the last one of its document"
        yield "  the run stays staged: apply its plan again to move these documents; it copies the others again"
    yield from (f"    {printable(name)}" for name in outcome.not_dropped)


def _staged(outcome: Outcome, prepared: Prepared) -> Iterator[str]:
    assert prepared.plan is not None  # noqa: S101 - only a plan is staged alone
    path = prepared.plan.path
    yield f"run {outcome.run_id}: {count(outcome.documents)} staged and confirmed; nothing was switched"
    if outcome.left:
        yield f"  {count(outcome.left)} not staged: {_look(outcome, prepared)}"
    if outcome.changed:
        yield f"  {count(outcome.changed, 'row')} changed since the plan was made: --refresh includes that"
    yield "  the catalog is unchanged; the services continue with their present config"
    source, dest = prepared.desired.source.path, prepared.desired.dest.path
    refresh = prepared.undo_of is None and not prepared.plan.header.policy.limited
    yield f"next: stop the services, then: {command_line('apply', path, refresh=refresh)}"
    yield f"to check the copies first: {command_line('verify', dest, run=outcome.run_id)}"
    yield f"to delete the copies: {undo_run(outcome.run_id, dest, source)}"


def _look(outcome: Outcome, prepared: Prepared) -> str:
    return command_line("status", outcome.run_id, source=prepared.desired.source.path)


def _second_file(prepared: Prepared) -> str | None:
    """Return the name of the other file that names the object store, where the services have one and it changes."""
    source, dest = prepared.desired.source, prepared.desired.dest
    if source.object_store == dest.object_store:
        return None
    return source.second_file or dest.second_file


def _way_back(outcome: Outcome, prepared: Prepared) -> Iterator[str]:
    if outcome.undo_plan is None:
        return
    source, dest = prepared.desired.source.path, prepared.desired.dest.path
    if outcome.unreadable:
        yield f"to undo it: {undo_run(str(outcome.undo_plan), dest, source)}"
    else:
        yield f"to undo it: {undo_run(str(outcome.undo_plan), *_sides(prepared))}"


def config_text(config: Config) -> str:
    """Return the sections of a config as YAML, credentials masked."""
    return yaml.safe_dump(_sections(config), default_flow_style=False, sort_keys=True)


def _sections(config: Config) -> dict[str, Any]:
    return {backend.role: backend.as_config() for backend in config.backends()}
