"""What the database role must be allowed to do, asked before anything is done, and named in one list.

Otherwise each missing privilege ends another attempt, the last ones after hours of staging.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.engine import Connection

from reconcile.catalog.connect import Catalog
from reconcile.catalog.tables import archive_metadata, archive_migration_tasks, services, tasks
from reconcile.errors import MissingPrivilegeError

READ: tuple[str, ...] = ("SELECT",)
CONTENT: tuple[str, ...] = ("SELECT", "INSERT", "DELETE")  # of a table that content is moved to, and from
_WORK = ("SELECT", "INSERT", "UPDATE", "DELETE")
_WORK_TABLES = r"reconcile\_%"
_FIRST_WORK_TABLE = "reconcile_runs"  # all are made in one transaction

# A privilege on some columns counts: whether it is on those that matter, the statement itself tells. There is none to
# delete by. Names are looked up as statements do; a table that is not there needs nothing.
_TABLES = (
    "SELECT n.name, n.privilege FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS n (name, privilege, number)"
    " WHERE to_regclass(n.name) IS NOT NULL AND NOT has_table_privilege(to_regclass(n.name), n.privilege)"
    " AND (n.privilege = 'DELETE' OR NOT has_any_column_privilege(to_regclass(n.name),"
    " CASE n.privilege WHEN 'DELETE' THEN 'SELECT' ELSE n.privilege END)) ORDER BY n.number"
)
_PRESENT = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid) AND relname LIKE %s ORDER BY 1"
)
_SCHEMA = (
    "SELECT quote_ident(current_schema()) WHERE to_regclass(%s) IS NULL"
    " AND NOT has_schema_privilege(current_schema(), 'CREATE')"
)
_SEQUENCE = (
    "SELECT s.name FROM (SELECT CASE WHEN to_regclass(%s) IS NOT NULL THEN pg_get_serial_sequence(%s, %s) END) s (name)"
    " WHERE s.name IS NOT NULL AND NOT has_sequence_privilege(s.name, 'USAGE')"
)


@frozen
class Lacking:
    """What a role may not do: ``missing`` as (privileges, object), such as ``("SELECT, INSERT", "tasks")``."""

    role: str
    missing: tuple[tuple[str, str], ...]

    def __bool__(self) -> bool:
        return bool(self.missing)

    def describe(self) -> str:
        """Return it for people."""
        return "; ".join(f"{privileges} on {target}" for privileges, target in self.missing)

    @property
    def grants(self) -> str:
        """The statements that give what is lacking, for the owner of the tables."""
        return " ".join(f"GRANT {privileges} ON {target} TO {self.role};" for privileges, target in self.missing)


def lacking(connection: Connection, content: Iterable[tuple[sa.Table, tuple[str, ...]]]) -> Lacking:
    """Return what the role lacks to apply a plan and to undo it; nothing on SQLite, which has no roles.

    ``content`` are the tables that hold documents on either side, and the privileges on them that are needed.
    """
    if connection.dialect.name != "postgresql":
        return Lacking("", ())
    role = str(connection.exec_driver_sql("SELECT quote_ident(current_user)").scalar_one())
    work = connection.exec_driver_sql(_PRESENT, (_WORK_TABLES,)).scalars()
    needed = {
        archive_metadata.name: ("SELECT", "UPDATE"),
        **{str(table.name): privileges for table, privileges in content},
        services.name: READ,
        tasks.name: ("SELECT", "INSERT"),
        archive_migration_tasks.name: ("SELECT", "INSERT"),
        **dict.fromkeys((str(name) for name in work), _WORK),
    }
    pairs = [(name, privilege) for name, privileges in needed.items() for privilege in privileges]
    tables: dict[str, list[str]] = {}
    for name, privilege in connection.exec_driver_sql(_TABLES, tuple(list(part) for part in zip(*pairs, strict=True))):
        tables.setdefault(name, []).append(privilege)
    schema = connection.exec_driver_sql(_SCHEMA, (_FIRST_WORK_TABLE,)).scalars()
    sequence = connection.exec_driver_sql(_SEQUENCE, (tasks.name, tasks.name, tasks.c.id.name)).scalars()
    missing = [(", ".join(privileges), name) for name, privileges in tables.items()]
    missing += [("USAGE", f"SEQUENCE {name}") for name in sequence]
    missing += [("CREATE", f"SCHEMA {name}") for name in schema]
    return Lacking(role, tuple(missing))


def refuse_lacking(catalog: Catalog, content: Iterable[tuple[sa.Table, tuple[str, ...]]]) -> None:
    """Raise `MissingPrivilegeError` with all that the role lacks; see `lacking`."""
    with catalog.read() as connection:
        found = lacking(connection, content)
    if found:
        raise MissingPrivilegeError(
            f"the database role {found.role} lacks privileges: {found.describe()}; nothing was done",
            hint=f"have the owner of the tables run: {found.grants}",
        )
