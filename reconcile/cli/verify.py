"""``reconcile verify``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import click

from reconcile import verbs
from reconcile.auditing.contents import NOWHERE
from reconcile.auditing.verify_report import Audited, Orphans, Request
from reconcile.cli.engines import engine_for, engine_option, is_set_for_all_commands
from reconcile.cli.env_option import PATH, option, verb
from reconcile.cli.events import events_option
from reconcile.cli.hooks import hook_options
from reconcile.cli.lines import show
from reconcile.cli.metrics import metrics_options
from reconcile.cli.options import database_of, database_options
from reconcile.cli.prompt import controlled
from reconcile.cli.traces import otlp_option
from reconcile.cli.values import PERCENTAGE
from reconcile.commands import command_line
from reconcile.errors import VerificationError
from reconcile.formatting import count, human_bytes
from reconcile.logs import printable
from reconcile.planning.render import meaning_of

T = TypeVar("T")
_SHOWN = 20


@verb("verify", "audit the archive, or the copies of a run")
@click.argument("config", type=PATH)
@option("--bucket", multiple=True, metavar="B", help="Only this logical bucket. May be repeated.")
@option("--sample", type=PERCENTAGE, help="Check a random share of the documents, a different one each time.")
@option("--orphans", is_flag=True, help="Also find content that no catalog row refers to.")
@option("--run", metavar="RUN", help="Audit the copies that this run has staged, before the switch.")
@engine_option
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@events_option
@metrics_options
@hook_options
@otlp_option
@database_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:  # noqa: ANN401
    """Audit the archive of CONFIG: services can read the content of every row, with its digest and size.

    Changes nothing. Services may run. With --run, CONFIG is the run's destination config. Exit 5 if documents are
    missing or wrong; orphans alone give exit 0.

    \b
      reconcile verify config.yaml
      reconcile verify config.yaml --sample 1% --orphans
      reconcile verify dest-config.yaml --run 20260801-101500-a1b2c3d4
    """
    request = Request(options["bucket"], options["sample"], options["orphans"], options["run"])
    config, database = options["config"], database_of(options)
    has_no_part = bool(options["bucket"] or options["run"]) and is_set_for_all_commands(context)
    with engine_for(None if has_no_part else options["engine"], database, config) as engine:
        with controlled(quiet=context.obj, only_reads=True) as control:
            audited = verbs.verify(config, database, request, control, engine)
    if options["form"] == "json":
        for piece in audited.json():
            click.echo(piece, nl=False)
        click.echo()
    else:
        show(_lines(audited))
    if not audited.ok:
        wrong = f"{len(audited.problems):,} of {count(audited.documents)} missing or wrong"
        is_all = len(audited.problems) == audited.documents
        listed = command_line("verify", options["config"], run=options["run"], format="json")
        hint = f"{listed}    lists them all; services with this config cannot read their content"
        raise VerificationError(
            wrong, hint=f"check that {options['config']} is the config that the services have now" if is_all else hint
        )


def _lines(audited: Audited) -> Iterator[str]:
    yield _title(audited)
    run = audited.run
    if run is not None and run.remark:
        yield f"  PARTIAL: {run.remark}"
    for name, tally in sorted(audited.by_backend.items()):
        bad = f", {tally.problems:,} missing or wrong" if tally.problems else ""
        where = "at no place that services with this config can read" if name == NOWHERE else name
        yield f"  {where}: {count(tally.documents)}, {human_bytes(tally.bytes)}{bad}"
    if audited.gone:
        yield f"  {count(audited.gone)} removed by services during the audit"
    if audited.unverifiable:
        without = count(audited.unverifiable, "document has", "documents have")
        yield f"  {without} no digest in the catalog: only the size was compared"
    if audited.ok:
        yield "  nothing is missing or wrong"
    else:
        yield f"  {count(len(audited.problems), 'document is', 'documents are')} missing or wrong:"
        yield from _first(
            (f"{p.userId}/{p.bucket}/{p.archiveId}: {p.reason}: {p.detail}" for p in audited.problems),
            len(audited.problems),
        )
        for reason in sorted({problem.reason for problem in audited.problems}):
            yield f"  {reason}: {meaning_of(reason)}"
    if audited.orphans is not None:
        yield from _orphans(audited.orphans)


def _title(audited: Audited) -> str:
    if audited.run is not None:
        copies = count(audited.documents, "copy", "copies")
        return f"verified {copies} that run {audited.run.run_id} has staged; it has not switched"
    of = f" of {audited.total:,}, a random sample of {audited.request.sample:g}%" if audited.request.sample else ""
    only = f", only {printable(', '.join(audited.request.buckets))}" if audited.request.buckets else ""
    return f"verified {count(audited.documents)}{of}, {human_bytes(audited.bytes)}, of {audited.config.path}{only}"


def _orphans(orphans: Orphans) -> Iterator[str]:
    count = len(orphans.listed)
    yield f"  orphans: {count:,}, {human_bytes(orphans.bytes)}" + (
        f", {orphans.temporary:,} of them temporary files of killed processes" if orphans.temporary else ""
    )
    yield from _first(
        (orphan.url + (" (temporary)" if orphan.kind == "temporary" else "") for orphan in orphans.listed), count
    )
    for what, number in (
        ("staged by unfinished runs", orphans.staged),
        ("sources that runs have kept", orphans.kept),
        ("self checks of services", orphans.self_checks),
    ):
        if number:
            yield f"  not counted as orphans, {what}: {number:,}"


def _first(texts: Iterable[str], count: int) -> Iterator[str]:
    yield from (f"    {printable(text)}" for text in islice(texts, _SHOWN))
    if count > _SHOWN:
        yield f"    and {count - _SHOWN:,} more: --format json lists them all"
