"""An archive to measure on: its documents, and how they get into each driver's place in the vendor's form.

Sizes are log-normal with a median of 8 KiB, 1 % are of 1 to 3 MiB; the content is JSON-like text, one document in
twenty is bytes. All follows from the document's number, so that every contender has the same.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import psycopg2
from attrs import frozen

from tests.archives import connect

_POOL_BYTES = 4 << 20
NOW = 1_700_000_000
USERS, BUCKETS = ("admin", "team-a"), ("analysis_data", "image_content_data", "policy_evaluations")


@frozen
class Item:
    """One document: its name and its bytes."""

    user: str
    bucket: str
    archive_id: str
    data: bytes

    @property
    def md5(self) -> str:
        """Hex MD5 of the bytes."""
        return hashlib.md5(self.data).hexdigest()  # noqa: S324


def items(count: int) -> Iterator[Item]:
    """Yield so many documents."""
    chance = random.Random(1)  # noqa: S311
    words = [chance.randbytes(chance.randrange(2, 12)).hex() for _ in range(4000)]
    parts = []
    while sum(map(len, parts)) < _POOL_BYTES:
        parts.append(json.dumps({chance.choice(words): chance.choices(words, k=6), "size": chance.randrange(10**9)}))
    text = "\n".join(parts).encode()
    noise = chance.randbytes(_POOL_BYTES)
    for number in range(count):
        big = number % 100 == 50  # noqa: PLR2004
        size = chance.randrange(1 << 20, 3 << 20) if big else min(1 << 20, int(chance.lognormvariate(9.01, 0.8)))
        start = chance.randrange(_POOL_BYTES - (3 << 20))
        data = (noise if number % 20 == 7 else text)[start : start + size]  # noqa: PLR2004
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        yield Item(USERS[number % 2], BUCKETS[number % 3], f"sha256:{digest}", data)


def file_path(root: Path, item: Item) -> Path:
    """Return where the vendor's localfs driver keeps the document."""
    user, name = (hashlib.md5(part.encode()).hexdigest() for part in (item.user, item.archive_id))  # noqa: S324
    return root / user / item.bucket / name[:2] / f"{name}.json"


def fill(url: str, driver: str, count: int, *, server: Any = None, bucket: str = "", root: Path | None = None) -> None:  # noqa: ANN401
    """Put the documents and their catalog rows into a fresh database and, where it is not that, the driver's place."""
    connection = connect(url)
    catalog, content = io.StringIO(), io.StringIO()
    executor, client = ThreadPoolExecutor(16), s3_client(server) if server else None
    pending = []
    for item in items(count):
        key = f"{item.user}/{item.bucket}/{item.archive_id}"
        location = {"db": f"db://{key}", "db2": f"db2://{key}", "s3": f"s3://{bucket}/{key}"}.get(driver)
        if root is not None:
            path = file_path(root, item)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(item.data)
            location = f"file://{path}"
        if client is not None:
            pending.append(executor.submit(client.put_object, Bucket=bucket, Key=key, Body=item.data))
        name = f"{item.archive_id}.json"
        row = (item.bucket, item.archive_id, item.user, name, location, "f", item.md5, len(item.data), r"\N", NOW, NOW)
        catalog.write("\t".join(map(str, row)) + "\tactive\t\\N\n")
        if driver == "db":
            _db_row(content, item)
        elif driver == "db2":
            content.write(
                f"{item.user}\t{item.bucket}\t{item.archive_id}\t\t\\N\t\\\\x{item.data.hex()}\t{NOW}\t{NOW}\n"
            )
        if content.tell() > 64 << 20:
            _flush(connection, driver, content)
    _flush(connection, driver, content)
    catalog.seek(0)
    connection.cursor().copy_expert("COPY archive_metadata FROM STDIN", catalog)
    connection.commit()
    connection.autocommit = True
    connection.cursor().execute("VACUUM ANALYZE")
    connection.close()
    for future in pending:
        future.result()
    executor.shutdown()


def _db_row(content: io.StringIO, item: Item) -> None:
    try:
        text, is_base64 = item.data.decode(), "f"
    except UnicodeDecodeError:
        text, is_base64 = base64.encodebytes(item.data).decode(), "t"
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    name = f"{item.bucket}\t{item.archive_id}\t{item.user}\t{item.archive_id}.json"
    content.write(f"{name}\t{NOW}\t{NOW}\tactive\t\\N\t{escaped}\t{is_base64}\n")


def _flush(connection: psycopg2.extensions.connection, driver: str, content: io.StringIO) -> None:
    table = {"db": "archive_document", "db2": "object_storage"}.get(driver)
    if table:
        content.seek(0)
        connection.cursor().copy_expert(f"COPY {table} FROM STDIN", content)
        content.seek(0)
        content.truncate()


def s3_client(server: Any) -> Any:  # noqa: ANN401
    """Return a boto3 client of a server."""
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
