"""Options that several verbs share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from reconcile.catalog import DatabaseOptions
from reconcile.cli.engines import engine_option
from reconcile.cli.env_option import PATH, option
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
    help="Concurrent requests to a store.  [default: chosen for its driver]",
)
max_rate = option("--max-rate", type=RATE, help="At most this many documents a second.")
lock_wait = option(
    "--lock-wait",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=15,
    show_default=True,
    help="Seconds to wait for another run's lock.",
)


def database_options(command: F) -> F:
    """Add ``--db-connect`` and its kin."""
    for add in reversed(
        (
            option(
                "--db-connect",
                metavar="URL",
                help="URL of the catalog's database. A password in it shows in the process list: prefer the "
                "environment and PGPASSFILE.  [default: credentials.database of the source config]",
            ),
            option(
                "--db-connect-file",
                type=PATH,
                help="File that holds the URL instead, such as a mounted secret.",
            ),
            option("--db-password-file", type=PATH, help="File that holds the database's password."),
            option("--db-use-ssl", is_flag=True, help="Require TLS to the database."),
            option(
                "--db-retries",
                type=click.IntRange(1),
                metavar="N",
                default=3,
                show_default=True,
                help="How often to try to connect.",
            ),
            option(
                "--db-timeout",
                type=click.IntRange(1),
                metavar="SECONDS",
                default=30,
                show_default=True,
                help="Time limit of a short statement, in seconds; bulk statements have none.",
            ),
            option(
                "--db-connect-timeout",
                type=click.IntRange(1),
                metavar="SECONDS",
                help="Time limit of connecting, in seconds.  [default: timeout of the config's db_connect_args, or 30]",
            ),
        )
    ):
        command = add(command)
    return command


def database_of(options: dict[str, Any]) -> DatabaseOptions:
    """Take the database options out of a verb's keyword arguments."""
    url, file, password = (options.pop(name) for name in ("db_connect", "db_connect_file", "db_password_file"))
    if url and file:
        raise UsageError("--db-connect and --db-connect-file are mutually exclusive")
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
        "--dest", type=PATH, help="The config that documents move to, if it is not at the path that the plan recorded."
    )(command)
    return option(
        "--source",
        type=PATH,
        help="The config that documents move from, if it is not at the path that the plan recorded.",
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
            option("--yes", is_flag=True, help="Do not ask for confirmation."),
            workers,
            lock_wait,
            option(
                "--wait-for-services",
                type=click.IntRange(0),
                metavar="SECONDS",
                default=150,
                show_default=True,
                help="Seconds to wait for recent heartbeats to expire before the switch. 0 refuses a recent "
                "heartbeat at once.",
            ),
            option("--ignore-services", is_flag=True, help="Switch even if services may be running."),
            option(
                "--takeover-wait",
                type=click.FloatRange(0),
                metavar="SECONDS",
                help="Wait at most this many seconds until delete requests of a killed run have expired; 0 "
                "does not wait (exit 10).  [default: until they have expired]",
            ),
            option(
                "--max-failures",
                type=SHARE,
                help="Stop staging when more documents than this have failed.  [default: no limit]",
            ),
            option(
                "--max-document-size",
                type=SIZE,
                default="5GiB",
                show_default=True,
                help="Do not decompress a document to more than this.",
            ),
            option(
                "--memory",
                type=SIZE,
                default="96MiB",
                show_default=True,
                help="Hold at most this many bytes of documents at once.",
            ),
            max_rate,
            option(
                "--max-bandwidth",
                type=BANDWIDTH,
                help="At most this many bytes a second, read and written: 50MiB, or by time of day: "
                "'08:00=20MiB 19:00=off'.",
            ),
            option(
                "--limits-file",
                type=PATH,
                callback=_readable,
                help="Read max_rate, max_bandwidth and workers from this file, and read it again when it changes.",
            ),
            engine_option,
            option(
                "--limit",
                type=click.IntRange(1),
                metavar="N",
                help="Stage at most N documents with this command (exit 12 if more remain).",
            ),
            option(
                "--max-bytes",
                type=SIZE,
                help="Stage at most this many bytes with this command (exit 12 if more remain).",
            ),
            option(
                "--max-duration",
                type=DURATION,
                help="Begin no further documents after this duration, such as 2h30m (exit 12 if more remain).",
            ),
            option(
                "--until",
                type=TIME_OF_DAY,
                help="Begin no further documents after this time of day (exit 12 if more remain).",
            ),
        )
    ):
        command = add(command)
    return command
