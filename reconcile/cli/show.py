"""``reconcile show``."""

from __future__ import annotations

from pathlib import Path

import attrs
import click
import msgspec

from reconcile.cli.options import PATH, option
from reconcile.planning.planfile import open_plan
from reconcile.planning.render import move_text, summary_data, summary_text


@click.command("show")
@click.argument("plan", type=PATH)
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@option("--moves", is_flag=True, help="List every move too.")
def command(plan: Path, form: str, *, moves: bool) -> None:
    """Show what a saved PLAN would do, from its file alone.

    Needs no database, and works on old and stale plans.

    \b
      reconcile show plans/to-s3.json --moves | less
    """
    plan_file = open_plan(plan)
    plan_file.verify()
    if form == "json":
        data = summary_data(plan_file)
        data["blockers"] = [attrs.asdict(blocker) for blocker in plan_file.blockers()]
        if moves:
            data["moves"] = [attrs.asdict(move) for move in plan_file.moves()]
        click.echo(msgspec.json.encode(data))
        return
    click.echo(summary_text(plan_file))
    if moves:
        for line in move_text(plan_file):
            click.echo(line)
