"""Build an example archive: an SQLite catalog with the vendor's tables, some 500 documents, two config files.

    python examples/build_archive.py DIR

The documents lie in driver ``db``. ``config.yaml`` says so; ``dest-config.yaml`` says localfs for the object
store and db2 for the analysis archive. The archive is the same every time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import sqlite3
import sys
from pathlib import Path

ACCOUNTS = ("admin", "team-a", "Ops.Team@example.com")
BUCKETS = (
    "analysis_data",
    "manifest_data",
    "image_content_data",
    "policy_bundles",
    "policy_evaluations",
    "syft_sbom",
    "vulnerability_scan",
    "analysis_archive",
)
DOCUMENTS = 504
NOW = 1_700_000_000

SCHEMA = """
CREATE TABLE archive_metadata (
    bucket VARCHAR NOT NULL, "archiveId" VARCHAR NOT NULL, "userId" VARCHAR NOT NULL,
    "documentName" VARCHAR NOT NULL, content_url VARCHAR, is_compressed BOOLEAN, digest VARCHAR, size BIGINT,
    document_metadata VARCHAR, created_at INTEGER, last_updated INTEGER, record_state_key VARCHAR,
    record_state_val VARCHAR, PRIMARY KEY (bucket, "archiveId", "userId", "documentName"));
CREATE TABLE archive_document (
    bucket VARCHAR NOT NULL, "archiveId" VARCHAR NOT NULL, "userId" VARCHAR NOT NULL,
    "documentName" VARCHAR NOT NULL, created_at INTEGER, last_updated INTEGER, record_state_key VARCHAR,
    record_state_val VARCHAR, jsondata VARCHAR, b64_encoded BOOLEAN,
    PRIMARY KEY (bucket, "archiveId", "userId", "documentName"));
CREATE TABLE object_storage (
    "userId" VARCHAR NOT NULL, bucket VARCHAR NOT NULL, key VARCHAR NOT NULL, version VARCHAR NOT NULL,
    object_metadata VARCHAR, content BLOB, created_at INTEGER, last_updated INTEGER,
    PRIMARY KEY ("userId", bucket, key, version));
CREATE TABLE services (
    hostid VARCHAR NOT NULL, servicename VARCHAR NOT NULL, base_url VARCHAR, status BOOLEAN, heartbeat INTEGER,
    PRIMARY KEY (hostid, servicename));
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY, state VARCHAR, last_state VARCHAR, created_at TIMESTAMP, started_at TIMESTAMP,
    ended_at TIMESTAMP, last_updated TIMESTAMP, executor_id VARCHAR, type VARCHAR);
CREATE TABLE archive_migration_tasks (
    id INTEGER PRIMARY KEY REFERENCES tasks (id), migrate_from_driver VARCHAR, migrate_to_driver VARCHAR,
    archive_documents_to_migrate INTEGER, archive_documents_migrated INTEGER, online_migration BOOLEAN);
"""

CONFIG = """\
# The services' config until now: everything in the database.
credentials:
  database:
    db_connect: sqlite:///{database}
services:
  catalog:
    enabled: true
    object_store:
      compression: {{enabled: false, min_size_kbytes: 100}}
      storage_driver: {{name: db, config: {{}}}}
"""

DEST_CONFIG = """\
# The services' config as it will be: files for the object store, table object_storage for the analysis archive.
credentials:
  database:
    db_connect: sqlite:///{database}
services:
  catalog:
    enabled: true
    object_store:
      compression: {{enabled: true, min_size_kbytes: 100}}
      storage_driver:
        name: localfs
        config: {{archive_data_dir: {data_dir}}}
    analysis_archive:
      enabled: true
      compression: {{enabled: false, min_size_kbytes: 100}}
      storage_driver: {{name: db2, config: {{}}}}
"""


def document(rng: random.Random, bucket: str, number: int) -> bytes:
    """Return a document: JSON mostly, a tarball-like block of bytes in the analysis archive."""
    size = min(int(rng.lognormvariate(9, 1.4)), 3_000_000)
    if bucket == "analysis_archive":
        return rng.randbytes(size)
    words = [f"package-{rng.randrange(4000)}" for _ in range(size // 14)]
    return json.dumps({"document": {"bucket": bucket, "number": number, "packages": words}}).encode()


def build(folder: Path) -> int:
    """Write database and configs into the folder; return the number of documents."""
    folder.mkdir(parents=True)
    database = folder.absolute() / "anchore.db"
    connection = sqlite3.connect(database)
    connection.executescript(SCHEMA)
    rng = random.Random(20_180_815)  # noqa: S311 - an example, the same every time
    for number in range(DOCUMENTS):
        bucket, account = BUCKETS[number % len(BUCKETS)], ACCOUNTS[number // len(BUCKETS) % len(ACCOUNTS)]
        data = document(rng, bucket, number)
        archive_id = f"sha256:{hashlib.sha256(data).hexdigest()}"
        try:
            text, is_base64 = data.decode(), False
        except UnicodeDecodeError:
            text, is_base64 = base64.encodebytes(data).decode(), True
        name, url = f"{archive_id}.json", f"db://{account}/{bucket}/{archive_id}"
        digest = hashlib.md5(data).hexdigest()  # noqa: S324 - the vendor's digest
        connection.execute(
            "INSERT INTO archive_metadata VALUES (?, ?, ?, ?, ?, 0, ?, ?, NULL, ?, ?, 'active', NULL)",
            (bucket, archive_id, account, name, url, digest, len(data), NOW, NOW),
        )
        connection.execute(
            "INSERT INTO archive_document VALUES (?, ?, ?, ?, ?, ?, 'active', NULL, ?, ?)",
            (bucket, archive_id, account, name, NOW, NOW, text, is_base64),
        )
    connection.commit()
    connection.close()
    (folder / "config.yaml").write_text(CONFIG.format(database=database))
    data_dir = folder.absolute() / "archive"
    (folder / "dest-config.yaml").write_text(DEST_CONFIG.format(database=database, data_dir=data_dir))
    return DOCUMENTS


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(f"{build(target)} documents in {target}")  # noqa: T201
