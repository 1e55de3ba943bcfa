"""``reconcile check``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from reconcile import verbs
from reconcile.auditing.check import BackendReport, CheckReport
from reconcile.auditing.schema import CatalogReport, Group
from reconcile.cli.env_option import PATH, option, verb
from reconcile.cli.lines import show
from reconcile.cli.options import database_of, database_options
from reconcile.cli.prompt import controlled
from reconcile.errors import ReconcileError
from reconcile.formatting import count, human_bytes, noted
from reconcile.logs import printable
from reconcile.planning.render import backend_text


@verb("check", "test the backends of a config")
@click.argument("config", type=PATH)
@option("--analysis-archive", is_flag=True, help="Check only the backend of the analysis archive.")
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@database_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:  # noqa: ANN401
    """Test the backends of CONFIG: write a test object, read it back, list it, delete it. Then inspect the catalog.

    Creates the bucket, container or data dir if the config asks for it, and leaves nothing else behind. Reports what
    each backend can do and how fast it is. Services may run. Exit 1 if a step fails.

    \b
      reconcile check dest-config.yaml
    """
    with controlled(quiet=context.obj) as control:
        report = verbs.check(options["config"], database_of(options), control, only_archive=options["analysis_archive"])
    if options["form"] == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(report.data())))
    else:
        show(_lines(report))
    if not report.ok:
        raise ReconcileError(
            f"the check of {report.config.path} failed: {', '.join(_failures(report))}",
            hint="fix the failures listed above; the same command checks again",
        )


def _failures(report: CheckReport) -> Iterator[str]:
    for backend in report.backends:
        names = [step.name for step in backend.steps if not step.ok]
        if names:
            yield f"{backend.backend.role} ({', '.join(names)})"
    if any(table.missing for table in report.catalog.tables.values()):
        yield "catalog (columns are missing)"
    if report.catalog.lacks:
        yield "catalog (privileges are missing)"


def _lines(report: CheckReport) -> Iterator[str]:
    for doubt in report.config.doubts:
        yield noted(doubt)
    for backend in report.backends:
        yield from _backend(backend)
        yield ""
    yield from _catalog(report.catalog)


def _backend(report: BackendReport) -> Iterator[str]:
    yield f"{report.backend.role}: {backend_text(report.backend.describe())}"
    yield from (f"  {noted(printable(remark))}" for remark in report.remarks)
    for step in report.steps:
        detail = f"  {printable(step.detail)}" if step.detail else ""
        yield f"  {step.name:<8} {'ok' if step.ok else 'FAILED':<6} {step.seconds * 1000:>8.1f} ms{detail}"
        if step.right:
            yield f"           next: check the credentials, and that they have the privilege for: {step.right}"
    can = report.capabilities
    if can.conditional_put is not None:
        yield (
            f"  can      refuse an occupied key: {_yes(can.conditional_put)}, copy documents by itself: "
            f"{_yes(report.server_side_copy)}, delete in bulk: {_yes(can.bulk_delete)}"
        )
    rates = report.rates
    if rates is not None:
        yield (
            f"  reached  documents of 4 KiB: {rates.write_documents_per_second:.0f}/s written,"
            f" {rates.read_documents_per_second:.0f}/s read, {rates.delete_documents_per_second:.0f}/s deleted"
        )
        yield (
            f"           one of 1 MiB: {human_bytes(rates.write_bytes_per_second)}/s written,"
            f" {human_bytes(rates.read_bytes_per_second)}/s read"
        )


def _yes(value: bool) -> str:  # noqa: FBT001
    return "yes" if value else "no"


def _catalog(report: CatalogReport) -> Iterator[str]:
    database = report.database
    yield f"catalog: {database['kind']} database {database.get('path') or database.get('database')}"
    for version in report.versions or []:
        yield "  version  " + ", ".join(f"{name} {printable(str(value))}" for name, value in version.items())
    if report.versions is None:
        yield "  version  not recorded in the database"
    for name, table in report.tables.items():
        if table.missing:
            yield f"  FAILED   table {name} lacks the columns {', '.join(table.missing)}"
    if report.lacks:
        yield f"  FAILED   the role {report.role} lacks privileges: {'; '.join(report.lacks)}"
        yield f"           next: have the owner of the tables run: {report.grants}"
    absent = [name for name, table in report.tables.items() if not table.there]
    known = f"{len(report.tables) - len(absent)} of {len(report.tables)}"
    yield f"  tables   {known} of the vendor's tables are there" + (f"; not {', '.join(absent)}" if absent else "")
    yield f"  rows     {count(report.documents)}, {human_bytes(report.bytes)}"
    yield from (f"    {_group(group)}" for group in report.groups)
    if report.without_content_url:
        yield f"    {report.without_content_url:,} without a content_url: no service can read them"
    if report.without_digest:
        yield f"    {report.without_digest:,} without a digest: only their size can be compared"


def _group(group: Group) -> str:
    driver = group.driver or "at no known driver"
    return f"{driver:<8} {printable(group.bucket)}: {count(group.documents)}, {human_bytes(group.bytes)}"
