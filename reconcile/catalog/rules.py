"""What the database does by itself when rows are written: triggers, rules, generated columns.

Such a rule may keep what is written from being written, change it, or change other rows. Most are harmless (an audit
trail, replication), and only a trial shows that: see `reconcile.running.phases.rehearsal`. Here they are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from reconcile.errors import CatalogError

_TIMES = {0: "AFTER", 2: "BEFORE", 64: "INSTEAD OF"}
_EVENTS = {4: "INSERT", 8: "DELETE", 16: "UPDATE", 32: "TRUNCATE"}
_BEFORE_OR_INSTEAD = 2 | 64  # bits of pg_trigger.tgtype, from PostgreSQL's pg_trigger.h; so are those above

_TREE = (  # the table and those that inherit from it, partitions among them
    "WITH RECURSIVE tree (oid) AS (SELECT oid FROM pg_class WHERE relname = %s AND pg_table_is_visible(oid)"
    " UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid)"
)
_TRIGGERS = (  # enabled for sessions like this one; those of foreign keys are the database's own
    "SELECT t.tgname, t.tgrelid::regclass::text, t.tgtype::int FROM pg_trigger t JOIN tree"
    " ON t.tgrelid = tree.oid WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') ORDER BY 2, 1"
)
_RULES = (
    "SELECT r.rulename, r.ev_class::regclass::text, CASE r.ev_type WHEN '2' THEN 'UPDATE' WHEN '3' THEN"
    " 'INSERT' WHEN '4' THEN 'DELETE' END FROM pg_rewrite r JOIN tree ON r.ev_class = tree.oid"
    " WHERE r.ev_type IN ('2', '3', '4') AND r.ev_enabled IN ('O', 'A') ORDER BY 2, 1"
)
_COLUMNS = (
    "SELECT a.attname, a.attrelid::regclass::text FROM pg_attribute a JOIN tree ON a.attrelid = tree.oid"
    " WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> '' ORDER BY 2, 1"
)


@frozen
class Rule:
    """One thing that the database does by itself. ``kind``: ``trigger``, ``rule`` or ``generated column``.

    ``events`` are those of ``INSERT``, ``UPDATE`` and ``DELETE`` that it may answer to; ``when`` is for people.
    """

    kind: str
    name: str
    table: str
    events: tuple[str, ...]
    when: str = ""

    def describe(self) -> str:
        """Return its name for people."""
        return f"{self.kind} {self.name} on {self.table}" + (f" ({self.when})" if self.when else "")

    @property
    def without(self) -> str:
        """What to do so that it does nothing for a while."""
        if self.kind == "trigger" and self.when:
            return f"ALTER TABLE {self.table} DISABLE TRIGGER {self.name}"
        if self.kind == "rule":
            return f"ALTER TABLE {self.table} DISABLE RULE {self.name}"
        return f"drop the {self.kind} {self.name}"


def rules_of(connection: Connection, table: str, *events: str) -> list[Rule]:
    """Return the rules that act on one of the events on the table."""
    read = _of_postgresql if connection.dialect.name == "postgresql" else _of_sqlite
    return [rule for rule in read(connection, table) if set(rule.events) & set(events)]


def _of_postgresql(connection: Connection, table_name: str) -> list[Rule]:
    names = (table_name,)
    found = []
    for name, table, kind in connection.exec_driver_sql(f"{_TREE} {_TRIGGERS}", names):
        events = tuple(event for bit, event in _EVENTS.items() if kind & bit)
        found.append(Rule("trigger", name, table, events, f"{_TIMES[kind & _BEFORE_OR_INSTEAD]} {' OR '.join(events)}"))
    for name, table, event in connection.exec_driver_sql(f"{_TREE} {_RULES}", names):
        found.append(Rule("rule", name, table, (event,), f"ON {event}"))
    if connection.dialect.server_version_info >= (12,):  # type: ignore[operator]
        for name, table in connection.exec_driver_sql(f"{_TREE} {_COLUMNS}", names):
            found.append(Rule("generated column", name, table, ("INSERT", "UPDATE")))
    return found


def _of_sqlite(connection: Connection, table_name: str) -> list[Rule]:
    """Return every trigger: which events one answers to stands only in its text."""
    query = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?) ORDER BY name"
    names = connection.exec_driver_sql(query, (table_name,)).scalars()
    return [Rule("trigger", name, table_name, ("INSERT", "UPDATE", "DELETE")) for name in names]


def fire_deferred(connection: Connection) -> None:
    """Run deferred constraints and triggers now, so that their effect can be seen."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")


def row_sum(
    connection: Connection, table: sa.Table, joined: sa.Join, of: sa.ColumnElement[bool], but: Sequence[str]
) -> int:
    """Return a checksum over all rows of a table, every column of theirs; of rows ``of`` without the columns ``but``.

    ``joined`` is the table with what ``of`` needs, each row of it once. Rows that were changed, added or deleted change
    the sum. Reads the whole table.
    """
    if connection.dialect.name == "postgresql":
        whole = sa.func.to_jsonb(sa.literal_column(table.name))
        part = whole.op("-")(sa.cast(list(but), sa.ARRAY(sa.Text)))
        digits = sa.func.substr(sa.func.md5(sa.cast(sa.case((of, part), else_=whole), sa.Text)), 1, 15)
        number = sa.cast(sa.cast(sa.literal("x").concat(digits), postgresql.BIT(60)), sa.BigInteger)
        total = sa.select(sa.func.coalesce(sa.func.sum(number), 0)).select_from(joined)
        return int(connection.execute(total).scalar_one())
    names = [str(row[1]) for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")]
    rest = [name for name in names if name not in but]
    line = sa.func.md5(sa.case((of, _quoted(table, rest)), else_=_quoted(table, names)))
    return sum(int(digits, 16) for digits in connection.execute(sa.select(line).select_from(joined)).scalars())


def _quoted(table: sa.Table, names: Sequence[str]) -> sa.ColumnElement[str]:
    """Return a row's columns as one text (SQLite)."""
    columns = (sa.func.quote(sa.literal_column(f'{table.name}."{name}"')) for name in names)
    return reduce(lambda text, column: text.op("||")(",").op("||")(column), columns)


def meddled(rules: Sequence[Rule], what: str) -> CatalogError:
    """Return the error for a change that the database made by itself: ``what`` describes it and the state now."""
    names = "; ".join(rule.describe() for rule in rules) or "none found"
    without = "; ".join(rule.without for rule in rules)
    return CatalogError(
        f"{what}. Triggers and rules on that table: {names}",
        hint=f"{without}. Run the same command again, and enable it afterwards"
        if rules
        else "ask the database's administrator what changes these rows, then run the same command again",
    )
