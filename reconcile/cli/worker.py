"""``reconcile worker``."""

from __future__ import annotations

from typing import Any

import click

from reconcile.cli.env_option import option, verb
from reconcile.cli.options import config_options, database_of, database_options
from reconcile.control import PIPELINES
from reconcile.engines import Setup


@verb("worker", "stage parts of a run that another machine leads")
@option("--scheduler", required=True, metavar="ADDRESS", help="The scheduler: tls://HOST:PORT.")
@option(
    "--threads",
    type=click.IntRange(1, 64),
    metavar="N",
    default=PIPELINES,
    show_default=True,
    help="How many parts to work on at once.",
)
@config_options
@database_options
def command(**options: Any) -> None:  # noqa: ANN401
    """Work for `reconcile apply --engine dask:ADDRESS`, until the scheduler stops or the worker gets a signal.

    It uses the configs, credentials and database of its own environment. It refuses a run with another config, place,
    database or version before anything is staged. At SIGTERM it finishes the parts it works on, then ends.

    \b
      reconcile worker --scheduler tls://scheduler:8786 --source config.yaml --dest dest-config.yaml
    """
    from reconcile.workers.dask import work  # noqa: PLC0415 - an extra

    work(
        options["scheduler"],
        Setup(
            task="",
            database=database_of(options),
            source=options["source"],
            dest=options["dest"],
            threads=options["threads"],
        ),
    )
