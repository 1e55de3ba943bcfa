"""Which rows a plan covers: checked against the catalog, and in words."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from reconcile.catalog import Scope
from reconcile.catalog.rows import names_in_use
from reconcile.catalog.tables import archive_metadata
from reconcile.errors import UsageError
from reconcile.formatting import count, human_bytes, time_text
from reconcile.logs import printable

_NAMED = 5  # documents of a list that a message names


def check_scope(connection: Connection, scope: Scope) -> None:
    """Raise `UsageError` for a ``--bucket``, ``--user`` or listed document that no row has, and where none is left."""
    for name in set(scope.buckets) & set(scope.exclude_buckets):
        raise UsageError(f"--bucket {name} and --exclude-bucket {name} exclude each other; no plan was saved")
    for option, wanted, column in (
        ("--bucket", scope.buckets, "bucket"),
        ("--exclude-bucket", scope.exclude_buckets, "bucket"),
        ("--user", scope.users, "userId"),
    ):
        if not wanted:
            continue
        there = names_in_use(connection, column)
        for name in wanted:
            if name not in there:
                known = ", ".join(sorted(there)[:20]) or "no documents"
                raise UsageError(
                    f"{option} {name}: the catalog has no document with it; no plan was saved",
                    hint=f"the catalog has: {known}",
                )

    rows = sa.select(archive_metadata.c.userId, archive_metadata.c.bucket, archive_metadata.c.archiveId).distinct()
    if scope.documents:
        there = {"/".join(row) for row in connection.execute(rows.where(Scope(documents=scope.documents).condition()))}
        missing = [name for name in scope.documents if name not in there]
        if missing:
            named = ", ".join(map(printable, missing[:_NAMED])) + (" and more" if missing[_NAMED:] else "")
            raise UsageError(
                f"{scope.listed_in}: the catalog does not have {count(len(missing))} of it: {named}; no plan was saved",
                hint="remove them from the list; names are user/bucket/archiveId",
            )
    is_narrowed = scope.documents or scope.created_before is not None or scope.larger_than is not None
    if is_narrowed and connection.execute(rows.where(scope.condition()).limit(1)).first() is None:
        raise UsageError(
            "no document matches --from-file, --older-than, --larger-than and the other filters; no plan was saved",
            hint="reconcile plan --help    explains each filter",
        )


def scope_text(filters: dict[str, list[str]]) -> str:
    """Return in words which rows a plan covers; nothing if it covers all of them."""
    scope = Scope.of(filters)
    names = (("buckets", scope.buckets), ("exclude_buckets", scope.exclude_buckets), ("users", scope.users))
    parts = [f"{name} {', '.join(values)}" for name, values in names if values]
    if scope.documents:
        parts.append(f"{count(len(scope.documents))} listed in {scope.listed_in}")
    if scope.created_before is not None:
        parts.append(f"created before {time_text(scope.created_before)}")
    if scope.larger_than is not None:
        parts.append(f"larger than {human_bytes(scope.larger_than)}")
    return "; ".join(parts)
