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

import psycopg2
from attrs import frozen

from benchmarks.spec import End
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
    def key(self) -> str:
        """The name in parts, as URLs and buckets have it."""
        return f"{self.user}/{self.bucket}/{self.archive_id}"

    @property
    def md5(self) -> str:
        """Hex MD5 of the bytes."""
        return hashlib.md5(self.data).hexdigest()  # noqa: S324


def items(count: int) -> Iterator[Item]:
    """Yield so many documents."""
    chance = random.Random(1)  # noqa: S311
    words = [chance.randbytes(chance.randrange(2, 12)).hex() for _ in range(4000)]
    parts = list[str]()
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


def fill(url: str, end: End, count: int, files: Path | None = None) -> None:
    """Put the documents' catalog rows, and their content where it is in tables, into a fresh database.

    Rows lead to the end's bucket or data dir; ``files`` is where files of such a data dir are laid ready.
    """
    connection = connect(url)
    catalog, content = io.StringIO(), io.StringIO()
    for item in items(count):
        location = f"{end.driver}://{item.key}"
        if end.driver == "s3":
            location = f"s3://{end.bucket}/{item.key}"
        if files is not None:
            location = f"file://{file_path(Path(end.root), item)}"
            path = file_path(files, item)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(item.data)
        name = f"{item.archive_id}.json"
        row = (item.bucket, item.archive_id, item.user, name, location, "f", item.md5, len(item.data), r"\N", NOW, NOW)
        catalog.write("\t".join(map(str, row)) + "\tactive\t\\N\n")
        if end.driver == "db":
            _db_row(content, item)
        elif end.driver == "db2":
            content.write(
                f"{item.user}\t{item.bucket}\t{item.archive_id}\t\t\\N\t\\\\x{item.data.hex()}\t{NOW}\t{NOW}\n"
            )
        if content.tell() > 64 << 20:
            _flush(connection, end.driver, content)
    _flush(connection, end.driver, content)
    catalog.seek(0)
    connection.cursor().copy_expert("COPY archive_metadata FROM STDIN", catalog)
    connection.commit()
    connection.autocommit = True
    connection.cursor().execute("VACUUM ANALYZE")
    connection.close()


def put_all(end: End, count: int) -> None:
    """Put the documents into a bucket."""
    import obstore  # noqa: PLC0415

    store = end.objects()
    with ThreadPoolExecutor(16) as executor:
        for _done in executor.map(
            lambda item: obstore.put(store, item.key, item.data, use_multipart=False), items(count)
        ):
            pass


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
