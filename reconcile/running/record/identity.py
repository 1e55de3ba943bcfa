"""Whether the database, and each place, is the one that a run began with.

A dump restored elsewhere, a physical copy on another port, a data dir that is not mounted, another cluster behind the
same name: each looks right until it is asked what it is. What is asked for here is on record with the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from reconcile.catalog import Catalog
from reconcile.errors import PlaceChangedError
from reconcile.running.record.records import RunRecord
from reconcile.running.record.tables import refuse_later

_CONNECT_SECONDS = 5


def database_record(catalog: Catalog) -> dict[str, Any]:
    """Return what identifies this database: its identity, and where it is reached; no user, no password."""
    return {"identity": catalog.identity, "address": _address(catalog)}


def encoded_record(catalog: Catalog) -> str:
    """Return `database_record` as the work table keeps it."""
    return msgspec.json.encode(database_record(catalog)).decode()


def _address(catalog: Catalog) -> dict[str, Any] | None:
    """Return host, port and name as they were given, else as the client library found them. None for a file."""
    if not catalog.is_postgresql:
        return None
    url = catalog.engine.url
    with _driver(catalog) as connection:
        info = connection.info
        return {"host": url.host or info.host, "port": url.port or info.port, "database": url.database or info.dbname}


def same_database(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two identities can be one database, as far as both are known."""
    known = [name for name in one if one[name] is not None and other.get(name) is not None]
    return one.get("kind") == other.get("kind") and all(one[name] == other[name] for name in known)


def database_text(recorded: Mapping[str, Any]) -> str:
    """Return a recorded database in words: name, host and port, or the file."""
    identity, address = recorded.get("identity", {}), recorded.get("address", {})
    if identity.get("kind") == "sqlite":
        return str(identity.get("path"))
    where = f" at {address['host'] or 'a local socket'}:{address['port']}" if address else ""
    return f"{identity.get('database')}{where} (oid {identity.get('oid')}, system {identity.get('system')})"


def check_database(catalog: Catalog, record: RunRecord) -> None:
    """Raise `PlaceChangedError` unless this is the run's database, at its recorded address or proven to be the same.

    A run of an earlier version has none on record: then its plan's counts. Raises `ReconcileError` for the records of a
    later version.
    """
    refuse_later(catalog)
    recorded, here = record.database or {"identity": record.header.database}, database_record(catalog)
    rebind = (
        "if this is the run's database from now on (after a restore, upgrade or move): reconcile rebind "
        f"{record.run_id}"
    )
    if not same_database(recorded["identity"], here["identity"]):
        raise PlaceChangedError(
            f"run {record.run_id} belongs to another database: {database_text(recorded)}. This one is"
            f" {database_text(here)}. Nothing was done",
            hint=rebind,
        )
    if recorded.get("address") in (None, here["address"]):
        return
    answer = is_same_server(catalog, recorded["address"])
    if answer:
        return
    if answer is None:
        why = (
            "the former address does not answer or refuses the connection, so it is unknown whether it is "
            "the same database"
        )
    else:
        why = "another server answers at the former address: one of the two is a copy of the other"
    raise PlaceChangedError(
        f"run {record.run_id} was begun on the database {database_text(recorded)}; it is reached as"
        f" {database_text(here)} now, and {why}. Nothing was done",
        hint=rebind,
    )


def is_same_server(catalog: Catalog, address: Mapping[str, Any]) -> bool | None:
    """Tell whether the database at an address is this one: our own session shows there. None: no answer."""
    with _driver(catalog) as here:
        session = _row(here, "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        seen = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE pid = %s AND backend_start = %s AND datname = current_database()"
        )
        return _asked(catalog, address, seen, session)


def holds_run(catalog: Catalog, address: Mapping[str, Any], run_id: str) -> bool | None:
    """Tell whether the database at an address answers and has the run on record. None: no answer."""
    there = _asked(catalog, address, "SELECT count(*) FROM pg_tables WHERE tablename = 'reconcile_runs'", ())
    return there and _asked(catalog, address, "SELECT count(*) FROM reconcile_runs WHERE run_id = %s", (run_id,))


def _asked(catalog: Catalog, address: Mapping[str, Any], query: str, values: tuple[Any, ...]) -> bool | None:
    """Ask the database at an address for a number, with our own credentials; None where it does not answer."""
    import psycopg2  # noqa: PLC0415 - only PostgreSQL has addresses

    with _driver(catalog) as connection:
        info = connection.info
        ours = {name: value for name, value in info.dsn_parameters.items() if name != "hostaddr"}
        theirs = {"host": address["host"], "port": address["port"], "dbname": address["database"]}
        password = {"password": info.password} if info.password else {}
    try:
        other = psycopg2.connect(**ours | theirs | password | {"connect_timeout": _CONNECT_SECONDS})
        try:
            return bool(_row(other, query, values)[0])
        finally:
            other.close()
    except psycopg2.Error:
        return None


def _row(connection: Any, query: str, values: tuple[Any, ...] = ()) -> tuple[Any, ...]:  # noqa: ANN401
    with connection.cursor() as cursor:
        cursor.execute(query, values or None)
        return tuple(cursor.fetchone())


@contextmanager
def _driver(catalog: Catalog) -> Iterator[Any]:
    """Lend the driver's own connection to the catalog's database."""
    connection = catalog.engine.raw_connection()
    try:
        yield connection.driver_connection
    finally:
        connection.rollback()
        connection.close()
