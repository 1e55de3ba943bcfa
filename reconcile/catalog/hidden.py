"""Rows that PostgreSQL would hide: row-level security filters what a role sees, without a word.

A row that is not seen must not count as one that is not there: its source would be deleted. So every transaction says
``row_security = off``, with which PostgreSQL raises instead of filtering (its manual, "Row Security Policies"), and
`refuse_hidden_rows` names table and policies before anything is done.
"""

from __future__ import annotations

import re

from sqlalchemy.engine import Connection

from reconcile.catalog.tables import VENDOR
from reconcile.errors import CatalogError

RAISE_RATHER_THAN_HIDE = "SET LOCAL row_security = off"
_HINT = (
    "have the owner of the database give this role the attribute: ALTER ROLE {role} BYPASSRLS;"
    " or connect as the owner of the tables, as the services do"
)


def refuse_hidden_rows(connection: Connection) -> None:
    """Raise `CatalogError` if row-level security holds for this role on one of the vendor's tables."""
    query = (
        "SELECT c.relname, coalesce(string_agg(p.polname, ', ' ORDER BY p.polname), ''), quote_ident(current_user)"
        " FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid"
        " WHERE c.relname = ANY (%s) AND pg_table_is_visible(c.oid) AND row_security_active(c.oid)"
        " GROUP BY c.relname ORDER BY c.relname"
    )
    found = connection.exec_driver_sql(query, (list(VENDOR.tables),)).all()
    if found:
        tables = "; ".join(
            f"{table} ({f'policy {policies}' if policies else 'no policy: every row is hidden'})"
            for table, policies, _role in found
        )
        raise CatalogError(
            f"row-level security hides rows of the catalog from the role {found[0][2]}: {tables}; content "
            "that a hidden row refers to could be deleted; nothing was done",
            hint=_HINT.format(role=found[0][2]),
        )


def explain_hidden(line: str) -> CatalogError | None:
    """Return the error for PostgreSQL's message that a policy would have hidden rows; None for another message."""
    table = re.search(r"row-level security policy for table \"([^\"]+)\"", line)
    if table is None:
        return None
    return CatalogError(
        f"row-level security was enabled on {table[1]} during this command, and its policy would hide rows "
        "from this role; the statement was not executed",
        hint=_HINT.format(role="<the role you connect as>") + "; then run the same command again",
    )
