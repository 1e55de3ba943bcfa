"""The vendor's tables as SQLAlchemy sees them (object store reference, section 2).

Column names are the vendor's, case included. Types are given as far as this tool needs them; it never
creates these tables but in the example archive.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Enum,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

VENDOR = MetaData()

archive_metadata = Table(
    "archive_metadata",
    VENDOR,
    Column("bucket", String, primary_key=True),
    Column("archiveId", String, primary_key=True),
    Column("userId", String, primary_key=True),
    Column("documentName", String, primary_key=True),
    Column("content_url", String),
    Column("is_compressed", Boolean),
    Column("digest", String),
    Column("size", BigInteger),
    Column("document_metadata", String),
    Column("created_at", Integer),
    Column("last_updated", Integer),
    Column("record_state_key", String),
    Column("record_state_val", String),
)

archive_document = Table(
    "archive_document",
    VENDOR,
    Column("bucket", String, primary_key=True),
    Column("archiveId", String, primary_key=True),
    Column("userId", String, primary_key=True),
    Column("documentName", String, primary_key=True),
    Column("created_at", Integer),
    Column("last_updated", Integer),
    Column("record_state_key", String),
    Column("record_state_val", String),
    Column("jsondata", String),
    Column("b64_encoded", Boolean),
)

object_storage = Table(
    "object_storage",
    VENDOR,
    Column("userId", String, primary_key=True),
    Column("bucket", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("object_metadata", String),
    Column("content", LargeBinary),
    Column("created_at", Integer),
    Column("last_updated", Integer),
)

services = Table(
    "services",
    VENDOR,
    Column("hostid", String, primary_key=True),
    Column("servicename", String, primary_key=True),
    Column("base_url", String),
    Column("status", Boolean),
    Column("heartbeat", Integer),
)

_task_state = Enum("initializing", "pending", "running", "complete", "failed", name="task_states")

tasks = Table(
    "tasks",
    VENDOR,
    Column("id", Integer, primary_key=True),
    Column("state", _task_state),
    Column("last_state", _task_state),
    Column("created_at", DateTime),
    Column("started_at", DateTime),
    Column("ended_at", DateTime),
    Column("last_updated", DateTime),
    Column("executor_id", String),
    Column("type", String),
)

archive_migration_tasks = Table(
    "archive_migration_tasks",
    VENDOR,
    Column("id", Integer, ForeignKey("tasks.id"), primary_key=True),
    Column("migrate_from_driver", String),
    Column("migrate_to_driver", String),
    Column("archive_documents_to_migrate", Integer),
    Column("archive_documents_migrated", Integer),
    Column("online_migration", Boolean),
)

CONTENT_TABLES = {"db": archive_document, "db2": object_storage}
