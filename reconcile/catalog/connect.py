"""Connect to the catalog's database, PostgreSQL or SQLite, and open transactions on it.

Session settings are made inside each transaction (``SET LOCAL``), never on the session: a connection
pooler may give the next transaction to another session.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import stamina
from attrs import field, frozen
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from reconcile.catalog import tables
from reconcile.config import Config
from reconcile.errors import CatalogError, ConfigError, MissingRightError, StandbyError
from reconcile.payload import md5
from reconcile.secret import Secret, remember, scrub

_BUSY_SECONDS = 60
_POOL_SECONDS = 3600  # that a thread waits for one of the others to give its connection back
_NO_HURRY = "SET LOCAL idle_in_transaction_session_timeout = 0"  # whatever the role's default
_OF_PG8000 = ("ssl", "timeout", "ssl_context")


@frozen
class DatabaseOptions:
    """How to connect. ``timeout`` and ``connect_timeout`` are in seconds; ``timeout`` bounds short statements."""

    url: Secret | None = None
    ssl: bool = False
    retries: int = 3
    timeout: int = 30
    connect_timeout: int = 30
    pool_size: int = 20


@frozen
class Catalog:
    """An open catalog: the engine, and what kind of database it is."""

    engine: Engine
    identity: dict[str, Any]
    display_url: str
    timeout: int
    _writes: threading.Lock = field(factory=threading.Lock, repr=False)

    @property
    def is_postgresql(self) -> bool:
        """Whether the database is PostgreSQL; else it is SQLite."""
        return self.engine.dialect.name == "postgresql"

    @property
    def sqlite_path(self) -> Path:
        """The file of an SQLite database."""
        return Path(self.identity["path"])

    @contextmanager
    def read(self, *, bulk: bool = False) -> Iterator[Connection]:
        """Open a short read-only transaction; ``bulk`` lifts the statement time-out."""
        with translated(), self.engine.connect() as connection, connection.begin():
            self.settle(connection, bulk=bulk)
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Open a read-only repeatable-read transaction for streaming: every statement sees one state."""
        with translated(), self.engine.connect() as connection:
            if self.is_postgresql:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                self.settle(connection, bulk=True)
                yield connection

    @contextmanager
    def write(self, *, bulk: bool = False) -> Iterator[Connection]:
        """Open a transaction that is durable once it is committed; ``bulk`` lifts the statement time-out."""
        with self._one_writer(), translated(), self.engine.connect() as connection:
            connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
            with connection.begin():
                self.settle(connection, bulk=bulk, durable=True)
                yield connection

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        """Queue the threads of this process for SQLite, which has one writer and unfair waiting."""
        if self.is_postgresql:
            yield
        else:
            with self._writes:
                yield

    def settle(self, connection: Connection, *, bulk: bool = False, durable: bool = False) -> None:
        """Make this transaction's settings: time-outs, and durability whatever the role's default."""
        if not self.is_postgresql:
            return
        limit = 0 if bulk else self.timeout * 1000
        settings = f"SET LOCAL statement_timeout = {limit}; {_NO_HURRY}"
        if durable:
            settings += "; SET LOCAL synchronous_commit = on"
        connection.exec_driver_sql(settings)

    def favour_hash_joins(self, connection: Connection) -> None:
        """Keep this transaction from joining big tables row by row where their statistics are young or missing."""
        if self.is_postgresql:
            connection.exec_driver_sql("SET LOCAL enable_nestloop = off")

    def has_table(self, table: sa.Table) -> bool:
        """Tell whether the database has the table."""
        with translated():
            return sa.inspect(self.engine).has_table(table.name)

    def has_archive(self) -> bool:
        """Tell whether the table that no archive lacks is there."""
        return self.has_table(tables.archive_metadata)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def connect(options: DatabaseOptions, config: Config | None = None) -> Catalog:
    """Connect to the catalog named by the options, else by the config's ``credentials.database``.

    Raises `ConfigError` for no URL or one that cannot be used, `CatalogError` for a database that is
    down, refuses us, or has no catalog.
    """
    settings = config.database if config else None
    secret = options.url or (settings.url if settings else None)
    if secret is None:
        raise ConfigError(
            "no database is named: give --source CONFIG, a config of the services with credentials.database.db_connect,"
            " or RECONCILE_DB_CONNECT, or --db-connect"
            + (f" ({config.path} has no credentials.database.db_connect)" if config else ""),
            hint="export RECONCILE_DB_CONNECT=postgresql://user@host:5432/database and keep the password in PGPASSFILE",
        )
    url = _checked_url(str(secret.reveal()))
    use_ssl = options.ssl or bool(settings and options.url is None and settings.ssl)
    engine = _engine(url, options, use_ssl=use_ssl)
    display = url.set(username=None, password=None, query={}).render_as_string()
    try:
        identity = stamina.retry_context(on=OperationalError, attempts=max(1, options.retries), wait_initial=0.2)
        for attempt in identity:
            with attempt, engine.connect() as connection:
                who = _identity(connection, url)
    except SQLAlchemyError as error:
        raise CatalogError(
            f"cannot connect to the database {display}: {_first_line(error)}",
            hint="is it up, and are host, port, name, user and password right?",
        ) from None
    catalog = Catalog(engine=engine, identity=who, display_url=display, timeout=options.timeout)
    if not catalog.has_archive():
        raise CatalogError(
            f"the database {display} has no table archive_metadata: it is not the catalog of an Anchore archive",
            hint="connect to the database of the catalog service: credentials.database.db_connect of its config",
        )
    return catalog


def _checked_url(text: str) -> URL:
    if text.startswith("postgres://"):
        text = "postgresql://" + text.removeprefix("postgres://")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "the database URL cannot be parsed (it is not shown: it may hold a password)",
            hint="it looks like postgresql://user:password@host:5432/database; percent-encode special characters",
        ) from None
    kind = url.get_backend_name()
    if url.password:
        remember(str(url.password))
    if kind == "postgresql":
        return url.set(drivername="postgresql+psycopg2").difference_update_query(_OF_PG8000)
    if kind == "sqlite" and url.database not in (None, "", ":memory:"):
        if not Path(url.database or "").is_file():
            raise CatalogError(f"{url.database}: no such SQLite database")
        return url.set(drivername="sqlite")
    raise ConfigError(f"the database URL begins with {kind}, expected postgresql:// or sqlite:///FILE")


def _engine(url: URL, options: DatabaseOptions, *, use_ssl: bool) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(
            url, connect_args={"timeout": _BUSY_SECONDS}, pool_size=options.pool_size, max_overflow=0
        )
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    arguments: dict[str, Any] = {"connect_timeout": options.connect_timeout, "application_name": "reconcile"}
    if use_ssl:
        arguments["sslmode"] = "require"
    return sa.create_engine(
        url,
        connect_args=arguments,
        isolation_level="READ COMMITTED",  # whatever the role's default
        pool_size=options.pool_size,
        max_overflow=0,
        pool_timeout=_POOL_SECONDS,
        pool_pre_ping=True,
    )


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's own recipe: BEGIN is sent by _begin_sqlite
    connection.execute("PRAGMA synchronous = FULL")
    connection.create_function("md5", 1, _sql_md5, deterministic=True)


def _sql_md5(value: str | bytes | None) -> str | None:
    if value is None:
        return None
    return md5(value.encode() if isinstance(value, str) else value)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _identity(connection: Connection, url: URL) -> dict[str, Any]:
    """Return what tells this database from any other: no credential, no host name in it."""
    if url.get_backend_name() == "sqlite":
        return {"kind": "sqlite", "path": str(Path(url.database or "").resolve())}
    connection.exec_driver_sql(_NO_HURRY)
    if connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one():
        raise StandbyError("the database is a standby: it cannot be written to", hint="connect to the primary")
    name, oid = connection.exec_driver_sql(
        "SELECT datname, oid::bigint FROM pg_database WHERE datname = current_database()"
    ).one()
    connection.rollback()
    try:
        connection.exec_driver_sql(_NO_HURRY)
        system = connection.exec_driver_sql("SELECT system_identifier::text FROM pg_control_system()").scalar_one()
    except DBAPIError:  # some managed services withhold it; name and oid remain
        connection.rollback()
        system = None
    return {"kind": "postgresql", "system": system, "database": name, "oid": oid}


def _first_line(error: SQLAlchemyError) -> str:
    original = getattr(error, "orig", None) or error
    return scrub(str(original).strip().splitlines()[0]) if str(original).strip() else type(original).__name__


@contextmanager
def translated() -> Iterator[None]:
    """Turn the library's errors into ours: no statement, no parameter, no credential in the message."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise CatalogError(
            f"the database failed: {_first_line(error)}",
            hint="once it is well, the same command goes on where this one stopped",
        ) from error
    except sa.exc.TimeoutError as error:
        raise CatalogError(
            "no connection to the database became free: its clients wait for one another",
            hint="run the same command again with fewer --workers",
        ) from error
    except DBAPIError as error:
        raise _explain(error) from error


def _explain(error: DBAPIError) -> CatalogError:
    line = _first_line(error)
    code = getattr(error.orig, "pgcode", None)
    insufficient_privilege = "42501"
    if code != insufficient_privilege:
        return CatalogError(f"the database refused a statement: {line}")
    target = line.rpartition(" ")[2].strip('"')
    if "sequence" in line:
        grant = f"GRANT USAGE ON SEQUENCE {target} TO <the role you connect as>"
    elif "schema" in line:
        grant = f"GRANT CREATE, USAGE ON SCHEMA {target} TO <the role you connect as>"
    else:
        grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {target} TO <the role you connect as>"
    return MissingRightError(f"the database role lacks a right: {line}", hint=f"have the owner run: {grant};")
