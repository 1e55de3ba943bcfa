"""Options that several verbs share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from reconcile.catalog import DatabaseOptions
from reconcile.cli.engines import engine_option
from reconcile.cli.option import PATH, option
from reconcile.cli.values import BANDWIDTH, DURATION, RATE, SHARE, SIZE, TIME_OF_DAY
from reconcile.config.text import read_secret
from reconcile.errors import UsageError
from reconcile.running.phases.budget import Budget
from reconcile.secret import Secret

F = TypeVar("F", bound=Callable[..., Any])


workers = option(
    "--workers",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Requests to a store at once.  [default: what it does best with]",
)
max_rate = option("--max-rate", type=RATE, help="Documents a second at most.")
lock_wait = option(
    "--lock-wait",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=15,
    show_default=True,
    help="Seconds to wait for another run to end.",
)


def database_options(command: F) -> F:
    """Add ``--db-connect`` and its kin."""
    for add in reversed(
        (
            option(
                "--db-connect",
                metavar="URL",
                help="Database of the catalog. A URL here shows its password in the process list: prefer the"
                " environment, and PGPASSFILE.  [default: credentials.database of the source config]",
            ),
            option(
                "--db-connect-file",
                type=PATH,
                help="A file that holds the URL instead, such as a secret that is mounted.",
            ),
            option("--db-password-file", type=PATH, help="A file that holds the database's password."),
            option("--db-use-ssl", is_flag=True, help="Require TLS to the database."),
            option(
                "--db-retries",
                type=click.IntRange(1),
                metavar="N",
                default=3,
                show_default=True,
                help="Attempts to connect.",
            ),
            option(
                "--db-timeout",
                type=click.IntRange(1),
                metavar="SECONDS",
                default=30,
                show_default=True,
                help="Seconds a short statement may take; bulk ones have no limit.",
            ),
            option(
                "--db-connect-timeout",
                type=click.IntRange(1),
                metavar="SECONDS",
                help="Seconds a connection may take.  [default: timeout of the config's db_connect_args, or 30]",
            ),
        )
    ):
        command = add(command)
    return command


def database_of(options: dict[str, Any]) -> DatabaseOptions:
    """Take the database options out of a verb's keyword arguments."""
    url, file, password = (options.pop(name) for name in ("db_connect", "db_connect_file", "db_password_file"))
    if url and file:
        raise UsageError("--db-connect and --db-connect-file are both given: which of them names the database?")
    url = read_secret(file) if file else url
    return DatabaseOptions(
        url=Secret(url, remembered=False) if url else None,
        password=Secret(read_secret(password)) if password else None,
        ssl=options.pop("db_use_ssl"),
        retries=options.pop("db_retries"),
        timeout=options.pop("db_timeout"),
        connect_timeout=options.pop("db_connect_timeout"),
    )


def config_options(command: F) -> F:
    """Add ``--source`` and ``--dest`` for the configs of a plan."""
    command = option(
        "--dest", type=PATH, help="The config that documents are to be moved to, if not where the plan recorded it."
    )(command)
    return option(
        "--source", type=PATH, help="The config that documents are moved from, if not where the plan recorded it."
    )(command)


def budget_of(options: dict[str, Any]) -> Budget:
    """Take what limits a staging out of a verb's keyword arguments."""
    times = [seconds for name in ("until", "max_duration") if (seconds := options.pop(name)) is not None]
    until = time.monotonic() + min(times) if times else None
    return Budget(documents=options.pop("limit"), size=options.pop("max_bytes"), until=until)


def _readable(_context: click.Context, _parameter: click.Parameter, file: Path | None) -> Path | None:
    """Refuse a file of limits in disorder before anything is done."""
    if file is not None:
        from reconcile.running.phases.speed import read_limits  # noqa: PLC0415 - a plan does without what runs need

        read_limits(file)
    return file


def run_options(command: F) -> F:
    """Add what `apply` and `undo` share."""
    for add in reversed(
        (
            option("--yes", is_flag=True, help="Do not ask."),
            workers,
            lock_wait,
            option(
                "--wait-for-services",
                type=click.IntRange(0),
                metavar="SECONDS",
                default=150,
                show_default=True,
                help="Seconds to watch recent heartbeats before the switch; 0 refuses one at once.",
            ),
            option("--ignore-services", is_flag=True, help="Switch although services may be running."),
            option(
                "--takeover-wait",
                type=click.FloatRange(0),
                metavar="SECONDS",
                help="Wait at most this long for deletes of a killed run that may still arrive; 0 ends at once"
                " (exit 10).  [default: as long as they live]",
            ),
            option(
                "--max-failures",
                type=SHARE,
                help="Stop staging once more documents than this failed.  [default: none is too many]",
            ),
            option(
                "--max-document-size",
                type=SIZE,
                default="5GiB",
                show_default=True,
                help="Decompress no document to more than this.",
            ),
            option(
                "--memory",
                type=SIZE,
                default="256MiB",
                show_default=True,
                help="Hold documents of no more than this at once.",
            ),
            max_rate,
            option(
                "--max-bandwidth",
                type=BANDWIDTH,
                help="Bytes a second at most, read and written: 50MiB, or by the time of day: '08:00=20MiB 19:00=off'.",
            ),
            option(
                "--limits-file",
                type=PATH,
                callback=_readable,
                help="Read max_rate, max_bandwidth and workers from this file, and again whenever it changes.",
            ),
            engine_option,
            option("--limit", type=click.IntRange(1), metavar="N", help="Stage at most N documents now (exit 12)."),
            option("--max-bytes", type=SIZE, help="Stage at most this much now (exit 12)."),
            option(
                "--max-duration",
                type=DURATION,
                help="Begin no more documents after this time, such as 2h30m (exit 12).",
            ),
            option(
                "--until",
                type=TIME_OF_DAY,
                help="Begin no more documents after this time of day (exit 12).",
            ),
        )
    ):
        command = add(command)
    return command
