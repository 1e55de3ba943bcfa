"""``reconcile rebind``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reconcile import verbs
from reconcile.cli.env_option import option, verb
from reconcile.cli.options import config_options, database_of, database_options, lock_wait
from reconcile.cli.prompt import confirm_by_name, controlled
from reconcile.config import load_config
from reconcile.errors import UsageError
from reconcile.running.phases.options import RunOptions
from reconcile.running.rebind import Binding, binding_of, rebind
from reconcile.running.record.configs import configs_of
from reconcile.running.record.records import run_record


@verb("rebind", "make this database the owner of a run")
@click.argument("run")
@config_options
@option("--yes", is_flag=True, help="Do not ask if the former database is known to be out of use.")
@option("--confirm", metavar="RUN", help="The run's id again, instead of typing it at the prompt.")
@lock_wait
@database_options
@click.pass_context
def command(context: click.Context, /, run: str, **options: Any) -> None:  # noqa: ANN401
    """Make this database the owner of RUN: after a restore, an upgrade with pg_upgrade, or a move to another server.

    Shows what is on record and what is here now. Refuses while the former database still answers and has the run. If
    that database cannot be reached, you type the run's id to confirm that no other copy of the database is in use.
    Moves, deletes and switches nothing.

    \b
      reconcile rebind 20260801-101500-a1b2c3d4 --source config.yaml --dest dest-config.yaml
    """
    database = database_of(options)
    source: Path | None = options["source"]
    dest: Path | None = options["dest"]
    given = source or dest
    with verbs.opened(database, load_config(given) if given else None) as catalog:
        record = run_record(catalog, run)
        desired = configs_of(record.header, source, dest, anywhere=record.switched_at is not None)
        binding = binding_of(catalog, run, desired)
        _show(binding)
        if options["confirm"] is not None and options["confirm"] != run:
            raise UsageError(f"--confirm has {options['confirm']}, but the run is {run}: nothing was changed")
        if options["confirm"] is None and not (options["yes"] and binding.certain):
            confirm_by_name(
                "No other copy of this database may be in use. Make this database the owner of the run?",
                run,
                instead="--confirm RUN",
            )
        run_options = RunOptions(lock_wait=options["lock_wait"])
        with controlled(quiet=context.obj) as control:
            rebind(catalog, run, desired, run_options, control)
    click.echo(f"run {run} belongs to this database now")
    click.echo(f"next: reconcile status {run}")


def _show(binding: Binding) -> None:
    click.echo(f"run {binding.record.run_id}, {binding.record.state}", err=True)
    click.echo(f"  database on record: {binding.former}", err=True)
    click.echo(f"  database here:      {binding.present}", err=True)
    for name, (then, now, owner) in binding.places.items():
        click.echo(f"  {name} on record: {then}", err=True)
        click.echo(f"  {name} here:      {now}; {owner}", err=True)
