"""The work tables: runs and their moves, in the catalog's own database.

From the moment a plan is loaded these tables are the state of the run; resume, status and undo on any
machine need only them and the configs. They hold no credentials.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from reconcile._version import __version__
from reconcile.catalog import Catalog
from reconcile.errors import ReconcileError

LAYOUT = 2  # of the work tables; 0.1.0 had 1, and wrote none down. A later one may mean what this version does not know
WORK = sa.MetaData()

runs = sa.Table(
    "reconcile_runs",
    WORK,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),  # counts runs: times are too coarse to tell the last
    sa.Column("plan_id", sa.String, nullable=False),
    sa.Column("plan_digest", sa.String, nullable=False),
    sa.Column("plan_path", sa.String, nullable=False),
    sa.Column("header", sa.Text, nullable=False),
    sa.Column("undo_of", sa.String),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("executor", sa.String),
    sa.Column("keep_source", sa.Boolean, nullable=False),
    sa.Column("undo_path", sa.String),
    sa.Column("undo_digest", sa.String),
    sa.Column("services_seen", sa.Text),
    sa.Column("remark", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("refreshed_at", sa.BigInteger),
    sa.Column("staged_at", sa.BigInteger),
    sa.Column("switched_at", sa.BigInteger),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("paused_at", sa.BigInteger),  # when its executor stopped where it was asked to, such as at a limit
    sa.Column("asked", sa.String),  # where it was asked to stop, or that it was reopened for a clean: `Asked`
    sa.Column("doing", sa.String),  # what its executor is at: a phase or a step, as it is called on its screen
    sa.Column("token", sa.String),  # of the executor that worked on it last
    sa.Column("phase", sa.String),  # in which it deletes
    sa.Column("database", sa.Text),  # JSON: which database this run belongs to, and where that was reached
    sa.Column("configs", sa.Text),  # JSON: both configs without secrets, and where each secret came from
    sa.Column("approved", sa.String),  # who approved the plan, where somebody had to
    sa.Column("parts", sa.String),  # a random token of the phase whose parts workers may claim
    sa.Column("engine", sa.String),  # that its parts were carried by last, by name; None: this process alone
    sa.Column("tool_version", sa.String),
    sa.Column("layout", sa.Integer),  # `LAYOUT` of the version that began the run
)

# Every process that executed here, the last one without an end. Its token is what its deletes are fenced by.
executors = sa.Table(
    "reconcile_executors",
    WORK,
    sa.Column("token", sa.String, primary_key=True),
    sa.Column("who", sa.String, nullable=False),
    sa.Column("taken_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("session", sa.Integer),  # database process that holds the lock, and when that was started
    sa.Column("session_start", sa.String),
)

# Parts of runs that workers have in hand, each by a random token: what another has claimed is not a worker's any more.
claims = sa.Table(
    "reconcile_claims",
    WORK,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("first", sa.BigInteger, primary_key=True),  # number of the part's first move
    sa.Column("token", sa.String, nullable=False),
    sa.Column("worker", sa.String, nullable=False),
    sa.Column("session", sa.Integer, nullable=False),  # database process that holds the lock which workers share
    sa.Column(
        "folder", sa.String
    ),  # where the worker takes files aside to, and where those did who had the part before
    sa.Column("seen_at", sa.BigInteger, nullable=False),
)

# What each worker did of a run.
workers = sa.Table(
    "reconcile_workers",
    WORK,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("worker", sa.String, primary_key=True),
    sa.Column("documents", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
)

# The places of a run's backends, as they were when it began.
places = sa.Table(
    "reconcile_places",
    WORK,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),  # of the backend, such as source.object_store
    sa.Column("store", sa.String, nullable=False),
    sa.Column("details", sa.Text, nullable=False),  # JSON: what `Store.place` said
    sa.Column("life", sa.Integer, nullable=False),  # seconds by which a delete may take effect late
    sa.Column("mark", sa.String),  # the random word in the owner mark that this run wrote there last
    sa.Column("mark_before", sa.String),  # and in the one before: a kill may come between the record and the place
)

# The words of all owner marks that were about to be written: one may come to its place late, after a kill or a pause.
marks = sa.Table(
    "reconcile_marks",
    WORK,
    sa.Column("word", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),  # of the backend
    sa.Column("store", sa.String, nullable=False),
)

# Where the parts of an audit by workers begin, by the catalog's primary key.
audit_parts = sa.Table(
    "reconcile_audit_parts",
    WORK,
    sa.Column("audit", sa.String, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("bucket", sa.String, nullable=False),
    sa.Column("archive_id", sa.String, nullable=False),
    sa.Column("user_id", sa.String, nullable=False),
    sa.Column("document_name", sa.String, nullable=False),
)

# What workers found out about moves that are not simply to be done, for the plan that has its stores asked.
probe_findings = sa.Table(
    "reconcile_probe_findings",
    WORK,
    sa.Column("audit", sa.String, primary_key=True),
    sa.Column("part", sa.BigInteger, primary_key=True),
    sa.Column("user_id", sa.String, primary_key=True),
    sa.Column("bucket", sa.String, primary_key=True),
    sa.Column("archive_id", sa.String, primary_key=True),
    sa.Column("document_name", sa.String, primary_key=True),
    sa.Column("before", sa.String, nullable=False),  # MD5 of the row as it was
    sa.Column("adopt", sa.Boolean, nullable=False),  # else the process that plans asks the stores itself
)

# How far a run was when: documents and bytes of a phase, every few seconds.
samples = sa.Table(
    "reconcile_samples",
    WORK,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("phase", sa.String, nullable=False),
    sa.Column("documents", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)

# Deletes that may still arrive, see `late_requests`.
late_deletes = sa.Table(
    "reconcile_late_deletes",
    WORK,
    sa.Column("id", sa.String, primary_key=True),  # random: a table without a key cannot be published
    sa.Column("store", sa.String, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("life", sa.Integer, nullable=False),
    sa.Column("noted_at", sa.BigInteger, nullable=False),
    sa.Column("answered", sa.Boolean, nullable=False),  # its executor lives, and will hear of it
    sa.Column("until", sa.BigInteger),  # by the server's clock, in Unix seconds; None: it was not asked yet
)

# Rows that were at a destination when a run began, and that the run does not move: no undo of it concerns them.
in_place = sa.Table(
    "reconcile_in_place",
    WORK,
    sa.Column("since", sa.BigInteger, nullable=False),  # the number of the run
    sa.Column("user_id", sa.String, nullable=False),
    sa.Column("bucket", sa.String, nullable=False),
    sa.Column("archive_id", sa.String, nullable=False),
    sa.Column("document_name", sa.String, nullable=False),
    sa.Column("created_at", sa.BigInteger),
)

moves = sa.Table(
    "reconcile_moves",
    WORK,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("user_id", sa.String, nullable=False),
    sa.Column("bucket", sa.String, nullable=False),
    sa.Column("archive_id", sa.String, nullable=False),
    sa.Column("document_name", sa.String, nullable=False),
    sa.Column("source", sa.String),
    sa.Column("dest", sa.String),
    sa.Column("action", sa.String),
    sa.Column("dest_store", sa.String),
    sa.Column("dest_key", sa.String),
    sa.Column("before_url", sa.String),
    sa.Column("before_is_compressed", sa.Boolean),
    sa.Column("before_digest", sa.String),
    sa.Column("before_size", sa.BigInteger),
    sa.Column("before_last_updated", sa.BigInteger),
    sa.Column("after_url", sa.String),
    sa.Column("compressed", sa.Boolean),
    sa.Column("pinned", sa.Boolean, nullable=False),
    sa.Column("after_is_compressed", sa.Boolean),
    sa.Column("after_digest", sa.String),
    sa.Column("after_size", sa.BigInteger),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("detail", sa.Text),
    sa.Column("origin", sa.String),
    sa.Column("keep", sa.Boolean, nullable=False),
    sa.Column("source_version", sa.String),
    sa.Column("copy_version", sa.String),
    sa.Column("copy_mark", sa.String),
    sa.Column("read_back", sa.Text),
    sa.Column("restore", sa.Text),
    sa.Column("replaces", sa.String),
    sa.Column("cleaned", sa.String),
    postgresql_with={"fillfactor": 50},  # a move is updated four times: that stays within its page
)

sa.Index(
    "reconcile_in_place_by_row",
    *(in_place.c[name] for name in ("user_id", "bucket", "archive_id", "document_name")),
).ddl_if(dialect="sqlite")

# SQLite has no hash joins: there an index by the row's key does for the switch's look at new rows.
sa.Index(
    "reconcile_moves_by_row", moves.c.run_id, moves.c.user_id, moves.c.bucket, moves.c.archive_id, moves.c.document_name
).ddl_if(dialect="sqlite")


def refuse_later(catalog: Catalog) -> None:
    """Raise `ReconcileError` where a run was begun by a later version: this version may not understand its records."""
    if not catalog.has_table(runs) or runs.c.layout.name not in catalog.columns_of(runs):
        return
    query = sa.select(runs.c.run_id, runs.c.tool_version).where(runs.c.layout > LAYOUT).order_by(runs.c.number.desc())
    with catalog.read() as connection:
        found = connection.execute(query.limit(1)).first()
    if found is not None:
        raise ReconcileError(
            f"run {found.run_id} was begun by reconcile {found.tool_version}, and this version, "
            f"{__version__}, cannot read its records; nothing was done",
            hint=f"use reconcile {found.tool_version} or later on this database",
        )


def create_work_tables(catalog: Catalog) -> None:
    """Create missing work tables, and columns that tables of an earlier version lack.

    Raises `CatalogError` naming the missing privilege, `ReconcileError` as `refuse_later` does.
    """
    refuse_later(catalog)
    if all(catalog.has_table(table) for table in WORK.sorted_tables) and not _missing_columns(catalog):
        return
    with catalog.write() as connection:
        WORK.create_all(connection)
    missing = _missing_columns(catalog)
    with catalog.write() as connection:
        for column in missing:
            kind = column.type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}")


def _missing_columns(catalog: Catalog) -> list[sa.Column[Any]]:
    found = []
    for table in (runs, executors, claims):
        known = catalog.columns_of(table)
        found += [column for column in table.columns if known and column.name not in known]
    return found


def same_row(archive: sa.Table) -> sa.ColumnElement[bool]:
    """Return the join of a move to its catalog row by key."""
    return sa.and_(
        archive.c.userId == moves.c.user_id,
        archive.c.bucket == moves.c.bucket,
        archive.c.archiveId == moves.c.archive_id,
        archive.c.documentName == moves.c.document_name,
    )


def as_before(archive: sa.Table) -> sa.ColumnElement[bool]:
    """Return the condition that a catalog row is unchanged since the plan (R4)."""
    return sa.and_(
        archive.c.content_url.is_not_distinct_from(moves.c.before_url),
        archive.c.is_compressed.is_not_distinct_from(moves.c.before_is_compressed),
        archive.c.digest.is_not_distinct_from(moves.c.before_digest),
        archive.c.size.is_not_distinct_from(moves.c.before_size),
        archive.c.last_updated.is_not_distinct_from(moves.c.before_last_updated),
    )


def as_after(archive: sa.Table) -> sa.ColumnElement[bool]:
    """Return the condition that a catalog row is as the run's switch left it."""
    return sa.and_(
        archive.c.content_url.is_not_distinct_from(moves.c.after_url),
        archive.c.is_compressed.is_not_distinct_from(moves.c.after_is_compressed),
        archive.c.digest.is_not_distinct_from(moves.c.after_digest),
        archive.c.size.is_not_distinct_from(moves.c.after_size),
        archive.c.last_updated.is_not_distinct_from(moves.c.before_last_updated),
    )
