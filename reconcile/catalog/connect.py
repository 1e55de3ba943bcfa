"""Connect to the catalog's database, PostgreSQL or SQLite, and open transactions on it.

Session settings are made inside each transaction (``SET LOCAL``), never on the session: a connection
pooler may give the next transaction to another session.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from attrs import Factory, field, frozen
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from reconcile.catalog import tables
from reconcile.catalog.database_url import DatabaseOptions, Target, target_of
from reconcile.catalog.failures import explained, may_pass, not_connected
from reconcile.catalog.hidden import RAISE_RATHER_THAN_HIDE, refuse_hidden_rows
from reconcile.config import Config
from reconcile.errors import CatalogError, StandbyError
from reconcile.payload import md5

_BUSY_SECONDS = 60
_CONNECTING_SECONDS = 45  # after which a server that does not answer is not asked again
_POOL_SECONDS = 3600  # that a thread waits for one of the others to give its connection back
_NO_HURRY = "SET LOCAL idle_in_transaction_session_timeout = {}"  # in milliseconds, whatever the role's default
# Also where nothing is written: a proxy may send what is read-only to a replica that lags behind, and rows that are not
# there yet must not count as rows that are not there. A replica itself refuses this.
# It also holds where the role's default is to read only.
_ON_THE_PRIMARY = "SET TRANSACTION READ WRITE"
_FOR_A_FEW_ROWS = "; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL enable_sort = off"
_COMPILE_NOTHING, _COMPILES = "; SET LOCAL jit = off", 110_000  # the first version that does
_connections: weakref.WeakSet[Any] = weakref.WeakSet()  # of psycopg2, all that this process has opened


@frozen
class Catalog:
    """An open catalog: the engine, and what kind of database it is.

    ``is_utf8``: text is stored as UTF-8; otherwise the server converts it, and refuses some of it.
    ``idle_timeout``: seconds that a transaction may be idle, such as when its process is stopped; 0: no limit.
    """

    engine: Engine
    identity: dict[str, Any]
    timeout: int
    is_utf8: bool = True
    idle_timeout: int = 0
    is_postgresql: bool = field(  # else it is SQLite
        init=False, default=Factory(lambda catalog: catalog.engine.dialect.name == "postgresql", takes_self=True)
    )
    _writes: threading.Lock = field(factory=threading.Lock, repr=False)

    @property
    def sqlite_path(self) -> Path:
        """The file of an SQLite database."""
        return Path(self.identity["path"])

    @contextmanager
    def read(self, *, bulk: bool = False, limited: bool = True) -> Iterator[Connection]:
        """Open a transaction that writes nothing, to read a few rows by an index, or in ``bulk``.

        A few have a statement time-out, if that is not lifted (``limited``).
        """
        with translated(), self.engine.connect() as connection, connection.begin():
            self.settle(connection, bulk=bulk, limited=limited)
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Open a repeatable-read transaction that writes nothing: every statement sees one state."""
        with translated(), self.engine.connect() as connection:
            if self.is_postgresql:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                self.settle(connection, bulk=True)
                yield connection

    @contextmanager
    def write(self, *, bulk: bool = False, limited: bool = True) -> Iterator[Connection]:
        """Open a transaction that is durable once it is committed. ``bulk`` and ``limited`` are as for `read`."""
        with self._one_writer(), translated(), self.engine.connect() as connection:
            connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
            with connection.begin():
                self.settle(connection, bulk=bulk, limited=limited, durable=True)
                yield connection

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        """Queue the threads of this process for SQLite, which has one writer and unfair waiting."""
        if self.is_postgresql:
            yield
        else:
            with self._writes:
                yield

    def settle(
        self, connection: Connection, *, bulk: bool = False, limited: bool = True, durable: bool = False
    ) -> None:
        """Make this transaction's settings: time-outs, no hidden rows, and durability, overriding the role's defaults.

        The first statement of every transaction. For a few rows PostgreSQL is to start no parallel workers, compile
        nothing, and not sort all rows for each page: it would where statistics are from before rows were staged.
        """
        if not self.is_postgresql:
            return
        limit = 0 if bulk or not limited else self.timeout * 1000
        hurry = _NO_HURRY.format(self.idle_timeout * 1000)
        settings = f"{_ON_THE_PRIMARY}; SET LOCAL statement_timeout = {limit}; {hurry}; {RAISE_RATHER_THAN_HIDE}"
        if not bulk:
            driver: Any = connection.connection.dbapi_connection
            settings += _FOR_A_FEW_ROWS + (_COMPILE_NOTHING if driver.server_version >= _COMPILES else "")
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

    def columns_of(self, table: sa.Table) -> set[str]:
        """Return the names of the columns that the table has in this database."""
        with translated():
            return {column["name"] for column in sa.inspect(self.engine).get_columns(table.name)}

    def has_archive(self) -> bool:
        """Tell whether the table that no archive lacks is there."""
        return self.has_table(tables.archive_metadata)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


@contextmanager
def translated() -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except (DBAPIError, sa.exc.TimeoutError) as error:
        raise explained(error) from error


def connect(options: DatabaseOptions, config: Config | None = None) -> Catalog:
    """Connect to the catalog named by the options, else by the config's ``credentials.database``.

    Raises `ConfigError` for no URL or one that cannot be used, `CatalogError` for a database that is
    down, refuses us, or has no catalog.
    """
    target = target_of(options, config)
    engine = _engine(target, options)
    try:
        who, is_utf8 = _first_answer(engine, target, options.retries)
    except SQLAlchemyError as error:
        engine.dispose()
        raise not_connected(error, target.shown) from None
    catalog = Catalog(
        engine=engine,
        identity=who,
        timeout=options.timeout,
        is_utf8=is_utf8,
        idle_timeout=options.idle_timeout,
    )
    if not catalog.has_archive():
        raise CatalogError(
            f"the database {target.shown} has no table archive_metadata: it is not the catalog of an Anchore archive",
            hint="connect to the database of the catalog service: its config names it under credentials.database",
        )
    if catalog.is_postgresql:
        with catalog.read() as connection:
            refuse_hidden_rows(connection)
    return catalog


def _first_answer(engine: Engine, target: Target, attempts: int) -> tuple[dict[str, Any], bool]:
    """Return who the catalog is, and whether it holds UTF-8; a server that is about to start is tried again."""

    def ask() -> tuple[dict[str, Any], bool]:
        with engine.connect() as connection:
            return _identity(connection, target), _is_utf8(connection)

    began = time.monotonic()
    try:
        return ask()
    except SQLAlchemyError as error:
        try:
            from reconcile.retries import try_again  # noqa: PLC0415 - seldom needed
        except OSError:  # out of descriptors, which is why the connection failed
            raise error from None
        left = _CONNECTING_SECONDS - (time.monotonic() - began)
        if left <= 0:
            raise
        return try_again(error, ask, on=may_pass, attempts=max(1, attempts), seconds=left, first_pause=0.2, jitter=1.0)


def _engine(target: Target, options: DatabaseOptions) -> Engine:
    if target.sqlite is not None:
        engine = sa.create_engine(
            URL.create("sqlite", database=str(target.sqlite)),
            connect_args={"timeout": _BUSY_SECONDS},
            pool_size=options.pool_size,
            max_overflow=0,
        )
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    return sa.create_engine(
        "postgresql+psycopg2://",
        creator=partial(_connected, target),  # for each connection anew: passwords may live for minutes
        isolation_level="READ COMMITTED",  # whatever the role's default
        pool_size=options.pool_size,
        max_overflow=0,
        pool_timeout=_POOL_SECONDS,
        pool_pre_ping=True,
    )


def _connected(target: Target) -> Any:  # noqa: ANN401 - psycopg2 has no types of its own
    import psycopg2  # noqa: PLC0415

    connection = psycopg2.connect(**target.now())
    _connections.add(connection)
    return connection


def cancel_statements() -> None:
    """Cancel what this process has PostgreSQL do at this moment. May be called from any thread."""
    from psycopg2.extensions import TRANSACTION_STATUS_ACTIVE  # noqa: PLC0415

    for connection in list(_connections):
        if not connection.closed and connection.info.transaction_status == TRANSACTION_STATUS_ACTIVE:
            connection.cancel()


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


def _identity(connection: Connection, target: Target) -> dict[str, Any]:
    """Return what tells this database from any other: no credential, no host name in it."""
    if target.sqlite is not None:
        return {"kind": "sqlite", "path": str(target.sqlite.resolve())}
    connection.exec_driver_sql(_NO_HURRY.format(0))
    if connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one():
        raise StandbyError("the database is a read-only standby; nothing was done", hint="connect to the primary")
    name, oid = connection.exec_driver_sql(
        "SELECT datname, oid::bigint FROM pg_database WHERE datname = current_database()"
    ).one()
    connection.rollback()
    try:
        connection.exec_driver_sql(_NO_HURRY.format(0))
        system = connection.exec_driver_sql("SELECT system_identifier::text FROM pg_control_system()").scalar_one()
    except DBAPIError:  # some managed services withhold it; name and oid remain
        connection.rollback()
        system = None
    return {"kind": "postgresql", "system": system, "database": name, "oid": oid}


def _is_utf8(connection: Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return True
    driver: Any = connection.connection.dbapi_connection
    return bool(driver.get_parameter_status("server_encoding") == "UTF8")
