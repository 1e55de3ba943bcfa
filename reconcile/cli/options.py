"""Options that several verbs share."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from reconcile.catalog import DatabaseOptions
from reconcile.cli.option import PATH, option
from reconcile.running.phases.budget import Budget
from reconcile.running.phases.options import Share
from reconcile.secret import Secret

_DAY_SECONDS = 86_400

F = TypeVar("F", bound=Callable[..., Any])


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
            option("--db-use-ssl", is_flag=True, help="Require TLS to the database."),
            option("--db-retries", type=click.IntRange(1), default=3, show_default=True, help="Attempts to connect."),
            option(
                "--db-timeout",
                type=click.IntRange(1),
                default=30,
                show_default=True,
                help="Seconds a short statement may take; bulk ones have no limit.",
            ),
            option(
                "--db-connect-timeout",
                type=click.IntRange(1),
                help="Seconds a connection may take.  [default: timeout of the config's db_connect_args, or 30]",
            ),
        )
    ):
        command = add(command)
    return command


def database_of(options: dict[str, Any]) -> DatabaseOptions:
    """Take the database options out of a verb's keyword arguments."""
    url = options.pop("db_connect")
    return DatabaseOptions(
        url=Secret(url, remembered=False) if url else None,
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


def _share(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Share | None:
    """Read ``20`` documents, or ``0.5%`` of them."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", value.strip())
    if not found or float(found[2] or 0) > 100:  # noqa: PLR2004
        raise click.BadParameter(f"{value!r} is neither a number of documents nor a percentage of them")
    return Share(float(found[1] or found[2]), percent=found[2] is not None)


def _size(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """Read a number of bytes, or of KiB, MiB, GiB."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+) ?(?:([KMG])(?:i?B)?)?", value.strip(), re.IGNORECASE)
    if not found:
        raise click.BadParameter(f"{value!r} is no size; 1048576, 512K, 200MiB and 1G are")
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[(found[2] or "").upper()]


def _duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """Read ``45s``, ``90m``, ``2h30m`` as seconds."""
    if value is None:
        return None
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", value.strip().lower())
    if not found or not any(found.groups()):
        raise click.BadParameter(f"{value!r} is no duration; 45s, 90m and 2h30m are")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _seconds_until(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """Read a time of day as the seconds until it comes next, by this machine's clock."""
    if value is None:
        return None
    try:
        wanted = datetime.strptime(value.strip(), "%H:%M").time()  # noqa: DTZ007 - local, as people mean it
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time of day; 04:30 is") from None
    now = datetime.now().astimezone()
    then = now.replace(hour=wanted.hour, minute=wanted.minute, second=0, microsecond=0)
    return int((then - now).total_seconds()) % _DAY_SECONDS


def digest_of(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Read the digest of a plan as `show` prints it."""
    if value is not None and not re.fullmatch(r"sha256:[0-9a-f]{64}", value):
        raise click.BadParameter(f"{value!r} is no digest of a plan; sha256: and 64 hex digits are")
    return value


def budget_of(options: dict[str, Any]) -> Budget:
    """Take what limits a staging out of a verb's keyword arguments."""
    times = [seconds for name in ("until", "max_duration") if (seconds := options.pop(name)) is not None]
    until = time.monotonic() + min(times) if times else None
    return Budget(documents=options.pop("limit"), size=options.pop("max_bytes"), until=until)


def run_options(command: F) -> F:
    """Add what `apply` and `undo` share."""
    for add in reversed(
        (
            option("--yes", is_flag=True, help="Do not ask."),
            option(
                "--workers",
                type=click.IntRange(1, 256),
                help="Requests to a store at once.  [default: what it does best with]",
            ),
            option(
                "--lock-wait",
                type=click.FloatRange(0),
                default=15,
                show_default=True,
                help="Seconds to wait for another run to end.",
            ),
            option(
                "--wait-for-services",
                type=click.IntRange(0),
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
                metavar="N|P%",
                callback=_share,
                help="Stop staging once more documents than this failed.  [default: none is too many]",
            ),
            option(
                "--max-document-size",
                metavar="SIZE",
                callback=_size,
                default="5GiB",
                show_default=True,
                help="Decompress no document to more than this.",
            ),
            option(
                "--memory",
                metavar="SIZE",
                callback=_size,
                default="256MiB",
                show_default=True,
                help="Hold documents of no more than this at once.",
            ),
            option(
                "--max-rate", type=click.FloatRange(0, min_open=True), metavar="N", help="Documents a second at most."
            ),
            option("--limit", type=click.IntRange(1), metavar="N", help="Stage at most N documents now (exit 12)."),
            option("--max-bytes", metavar="SIZE", callback=_size, help="Stage at most this much now (exit 12)."),
            option(
                "--max-duration",
                metavar="TIME",
                callback=_duration,
                help="Begin no more documents after this time, such as 2h30m (exit 12).",
            ),
            option(
                "--until",
                metavar="HH:MM",
                callback=_seconds_until,
                help="Begin no more documents after this time of day (exit 12).",
            ),
        )
    ):
        command = add(command)
    return command
