"""Which database to connect to, and how: the options and the config's ``credentials.database`` put together.

A mode of TLS is never lowered: of all that ask for one, the strictest applies. What none asks for, libpq decides
by ``PGSSLMODE``, ``PGSSLROOTCERT``, ``~/.postgresql/root.crt`` and the like.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from reconcile.config import Config, DatabaseSettings
from reconcile.config.database import read_again
from reconcile.errors import CatalogError, ConfigError, ReconcileError
from reconcile.secret import MASK, Secret, remember

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")  # of libpq, the strictest last
_REQUIRED = "require"
_CONNECT_SECONDS = 30
_LOGIN = ("user", "password")
_FILES = {"sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY"}
_ROOT = "~/.postgresql/root.crt"
_AT_IN_USER = re.compile(r"[^:/?@]+@[^:/?@]+(:[^@]*)?@[^@]*")  # user@server:password@host, of some cloud providers
_ENCODE = "percent-encode special characters of user and password: %40 for @, %2F for /, %3A for :, %25 for %"


@frozen
class DatabaseOptions:
    """How to connect. ``timeout`` and ``connect_timeout`` are in seconds; ``timeout`` bounds short statements.

    ``idle_timeout`` is what `Catalog` has by this name.
    Without ``connect_timeout`` the URL's or the config's counts. ``password`` wins over the one of either.
    """

    url: Secret | None = None
    password: Secret | None = None
    ssl: bool = False
    retries: int = 3
    timeout: int = 30
    connect_timeout: int | None = None
    pool_size: int = 20
    idle_timeout: int = 0


@frozen
class Target:
    """A PostgreSQL database by libpq's arguments, or an SQLite file. ``shown`` is what messages call it."""

    shown: str
    sqlite: Path | None = None
    arguments: dict[str, Any] = field(factory=dict, repr=False)
    config: Path | None = None  # whose user and password these are

    def now(self) -> dict[str, Any]:
        """Return the arguments for a new connection, with the user and password that the config has now."""
        if self.config is None:
            return self.arguments
        try:
            settings = read_again(self.config)
            again = _given_by(settings).arguments | settings.arguments(*_LOGIN) if settings else {}
        except ReconcileError:  # it is being written, or gone: what it said holds
            again = {}
        return self.arguments | {name: again[name] for name in _LOGIN if name in again}


def target_of(options: DatabaseOptions, config: Config | None) -> Target:
    """Return the database that the options name, else the config's. Raises `ConfigError`, `CatalogError`."""
    settings = config.database if config else None
    if options.url is not None:
        target = _parsed(str(options.url.reveal()))
    elif settings is not None:
        target = evolve(_given_by(settings), config=settings.path)
    else:
        raise ConfigError(
            "no database is given: give --source CONFIG (a config of the services with "
            "credentials.database), RECONCILE_DB_CONNECT, or --db-connect"
            + (f" ({config.path} has no credentials.database)" if config else ""),
            hint="export RECONCILE_DB_CONNECT=postgresql://user@host:5432/database and keep the password in PGPASSFILE",
        )
    if target.sqlite is not None:
        return target
    target = evolve(target, arguments=_complete(target, options, settings))
    if options.password is None:
        return target
    return evolve(target, config=None, arguments=target.arguments | {"password": options.password.reveal()})


def _complete(target: Target, options: DatabaseOptions, settings: DatabaseSettings | None) -> dict[str, Any]:
    """Return all arguments of a connection: the target's own, those of ``db_connect_args``, and this tool's."""
    arguments = dict(target.arguments)
    asked, needs_tls = [arguments.pop("sslmode", ""), *_of_pg8000(arguments)], options.ssl
    _refuse_unknown("the database URL", arguments)
    if settings is not None and options.url is None:
        given = settings.arguments()
        _refuse_unknown(f"{settings.path}: credentials.database.db_connect_args", given)
        seconds = settings.timeout()
        arguments |= given if seconds is None else given | {"connect_timeout": seconds}
        asked.append(arguments.pop("sslmode", ""))
        needs_tls = needs_tls or settings.ssl()
    elif settings is not None:  # another way to the database is no reason for less TLS
        given = settings.tls()
        needs_tls = needs_tls or bool(given.pop("ssl", ""))
        _refuse_unknown(f"{settings.path}: credentials.database.db_connect_args", given)
        arguments = given | arguments
        asked.append(arguments.pop("sslmode", ""))
    mode = _strictest([mode for mode in asked if mode], needs_tls=needs_tls)
    if mode:
        arguments["sslmode"] = mode
    _check_files(arguments)
    if options.connect_timeout is not None:
        arguments["connect_timeout"] = options.connect_timeout
    arguments.setdefault("connect_timeout", _CONNECT_SECONDS)
    return arguments | {"application_name": "reconcile", "client_encoding": "UTF8"}


def _of_pg8000(arguments: dict[str, Any]) -> list[str]:
    """Take out what only pg8000 knows, and return the modes of TLS that it asks for."""
    asked = [arguments.pop(name, "") for name in ("ssl", "ssl_context")]
    seconds = str(arguments.pop("timeout", ""))
    if seconds.isdecimal():
        arguments.setdefault("connect_timeout", seconds)
    return [mode if mode in MODES else _REQUIRED for mode in asked if mode]


def _strictest(asked: list[str], *, needs_tls: bool) -> str:
    """Return the strictest of the modes; nothing where none is asked for, and libpq's default holds.

    ``needs_tls`` says only that there shall be TLS: ``PGSSLMODE`` counts beside it, where libpq would heed it.
    """
    if needs_tls:
        asked = [*(asked or [os.environ.get("PGSSLMODE") or _REQUIRED]), _REQUIRED]
    if any(mode not in MODES for mode in asked):
        raise ConfigError(f"the sslmode given for the database is unknown, expected one of {', '.join(MODES)}")
    return max(asked, key=MODES.index, default="")


def _check_files(arguments: dict[str, Any]) -> None:
    """Raise `ConfigError` for a file of TLS that is named and missing: libpq would do without it, and say nothing."""
    mode = arguments.get("sslmode") or os.environ.get("PGSSLMODE", "")
    if mode == "disable":
        return
    for name, variable in _FILES.items():
        path = str(arguments.get(name) or os.environ.get(variable, ""))
        is_engine = name == "sslkey" and ":" in path
        if path and path != "system" and not is_engine and not Path(path).is_file():
            raise ConfigError(
                f"{path}: no such file, but {name} of the database connection names it",
                hint="put the file there, or give the database URL with the file's path on this machine: "
                f"export RECONCILE_DB_CONNECT=postgresql://user@host:5432/database?{name}=FILE",
            )
    if mode.startswith("verify") and not (arguments.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")):
        root = Path(_ROOT).expanduser()
        if not root.is_file():
            raise ConfigError(
                f"{root}: no such file, but sslmode={mode} of the database connection needs the authority's "
                "certificate",
                hint="give sslrootcert=FILE, or sslrootcert=system for the certificates of this machine",
            )


def _refuse_unknown(place: str, arguments: Iterable[str]) -> None:
    """Raise `ConfigError` for an argument that libpq does not know: the services could not connect with it either."""
    import psycopg2  # noqa: PLC0415 - heavy
    from psycopg2.extensions import parse_dsn  # noqa: PLC0415

    for name in arguments:
        try:
            parse_dsn(f"{name}=x")
        except psycopg2.Error:
            raise ConfigError(
                f"{place}: PostgreSQL's client library knows no argument {name!r}; the services cannot connect with it"
                " either",
                hint="remove it, or give the database URL in RECONCILE_DB_CONNECT",
            ) from None


def _given_by(settings: DatabaseSettings) -> Target:
    """Return the database of a config, without ``db_connect_args``."""
    url = settings.url()
    if url is not None:
        return _parsed(url)
    parts = settings.parts()
    if "@" in parts.get("host", ""):
        raise ConfigError(f"{settings.path}: credentials.database.host: found a value with @, expected a host name")
    return Target(_shown(parts), arguments=parts)


def _parsed(text: str) -> Target:
    """Return the database that a URL names. Raises `ConfigError`, `CatalogError`."""
    if text.startswith("postgres://"):
        text = "postgresql://" + text.removeprefix("postgres://")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "the database URL cannot be parsed (it is not shown: it may hold a password)",
            hint=f"it looks like postgresql://user:password@host:5432/database; {_ENCODE}",
        ) from None
    kind = url.get_backend_name()
    if kind == "sqlite" and url.database not in (None, "", ":memory:"):
        path = Path(url.database or "")
        if not path.is_file():
            raise CatalogError(f"{path}: no such SQLite database")
        return Target(f"sqlite:///{path}", sqlite=path)
    if kind != "postgresql":
        raise ConfigError(f"the database URL begins with {kind}, expected postgresql:// or sqlite:///FILE")
    return _of_postgresql(text, url)


def _of_postgresql(text: str, url: URL) -> Target:
    """Return the database of a PostgreSQL URL. Nothing is shown of one with several ``@``: any may end the password."""
    from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2  # noqa: PLC0415 - not for SQLite

    rest = text.partition("://")[2]
    several = rest.count("@") > 1
    if (several and not _AT_IN_USER.fullmatch(rest)) or ("@" in rest and url.username is None and "@" in _path(rest)):
        raise ConfigError(
            "the database URL holds an @ that does not end user and password (the URL is not shown)",
            hint=f"{_ENCODE}; or omit the password there and keep it in PGPASSFILE",
        )
    remember(str(url.password or ""))
    plain = url.set(drivername="postgresql+psycopg2")
    arguments: dict[str, Any] = PGDialect_psycopg2().create_connect_args(plain)[1]  # type: ignore[no-untyped-call]
    if several:
        remember(url.username or "")
    return Target(f"postgresql://{MASK}" if several else _shown(arguments), arguments=dict(arguments))


def _path(rest: str) -> str:
    return rest.partition("?")[0]


def _shown(arguments: dict[str, Any]) -> str:
    host = str(arguments.get("host") or "")
    port = f":{arguments['port']}" if arguments.get("port") else ""
    return f"postgresql://{host}{port}/{arguments.get('dbname') or ''}"
