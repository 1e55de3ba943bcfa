"""The bare ceilings: the cheapest correct way to do a route's raw work, and nothing else.

No plan, no record, no verification but what the store does by itself. To S3 only the requests are made, of bytes in
memory, since they are what takes long; what is compressed on its way is compressed here, too. Between data dirs files
are renamed.

`move` does a little more, the least of a move to or from object storage: it reads the sources where they lie, and
deletes them at the end. What it uploads is written only where nothing is.
"""

from __future__ import annotations

import base64
import ctypes
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import obstore
import psycopg2
from attrs import evolve

from benchmarks.archive import NOW, Item, file_path, items
from benchmarks.spec import Spec
from reconcile.stores.binary_copy import BinaryCopy

T = TypeVar("T")
Took = tuple[float, float]  # seconds, and seconds of CPU

_COPY_ROWS = 500
_DB_TO_DB2 = (
    """INSERT INTO object_storage ("userId", bucket, key, version, content, created_at, last_updated)
    SELECT "userId", bucket, "archiveId", '',
           CASE WHEN b64_encoded THEN decode(jsondata, 'base64') ELSE convert_to(jsondata, 'UTF8') END, %s, %s
    FROM archive_document""",
    """UPDATE archive_metadata SET content_url = 'db2' || substr(content_url, 3) WHERE content_url LIKE 'db://%%'""",
    "DELETE FROM archive_document",
)


def run(spec: Spec) -> Took:
    """Do the route's raw work; return what it took, what is made ready first apart."""
    route = f"{spec.source.driver} to {spec.dest.driver}"
    if route == "db to db2":
        return _timed(_db_to_db2, spec)
    ready = list(items(spec.documents))
    if route == "s3 to s3":
        return _timed(_copy_objects, spec, ready)
    if route == "localfs to localfs":
        return _timed(_rename, spec, ready)
    if spec.dest.driver == "s3":
        return _timed(_put, spec, ready)
    if route == "s3 to localfs":
        return _timed(_get_files, spec, ready)
    if spec.source.driver == "s3":
        return _timed(_get_and_copy, spec, ready)
    return _timed(_files, spec, ready)


def move(spec: Spec) -> Took:
    """Do the least of a move; return what it took."""
    names = [evolve(item, data=b"") for item in items(spec.documents)]
    copy: Callable[[Spec, list[Item]], None] = _read_and_create
    if spec.source.driver == "s3":
        copy = {"s3": _copy_objects, "localfs": _get_files}.get(spec.dest.driver, _get_and_copy)

    def copy_and_delete() -> None:
        copy(spec, names)
        _delete(spec, names)

    return _timed(copy_and_delete)


def _timed(work: Callable[..., object], *arguments: object) -> Took:
    started, cpu = time.monotonic(), time.process_time()
    work(*arguments)
    return time.monotonic() - started, time.process_time() - cpu


def _threads(count: int, work: Callable[[T], object], things: Iterable[T]) -> None:
    with ThreadPoolExecutor(count) as pool:
        for _result in pool.map(work, things):
            pass


def _db_to_db2(spec: Spec) -> None:
    connection = psycopg2.connect(spec.url)
    cursor = connection.cursor()
    cursor.execute(_DB_TO_DB2[0], (NOW, NOW))
    cursor.execute(_DB_TO_DB2[1], ())
    cursor.execute(_DB_TO_DB2[2])
    connection.commit()


def _put(spec: Spec, ready: list[Item]) -> None:
    store = spec.dest.objects()

    def put(item: Item) -> None:
        obstore.put(store, item.key, _encoded(spec, item), use_multipart=False)

    _threads(spec.workers, put, ready)


def _read_and_create(spec: Spec, names: list[Item]) -> None:
    store, root = spec.dest.objects(), Path(spec.source.root)

    def create(item: Item) -> None:
        whole = evolve(item, data=file_path(root, item).read_bytes()) if spec.source.root else item
        obstore.put(store, item.key, _encoded(spec, whole), mode="create", use_multipart=False)

    _threads(spec.workers, create, names if spec.source.root else _rows(spec))


def _rows(spec: Spec) -> Iterator[Item]:
    """Yield the documents of the driver's table."""
    tables = {
        "db": 'SELECT "userId", bucket, "archiveId", jsondata, b64_encoded FROM archive_document',
        "db2": 'SELECT "userId", bucket, key, content, false FROM object_storage',
    }
    connection = psycopg2.connect(spec.url)
    cursor = connection.cursor("documents")
    cursor.itersize = _COPY_ROWS // 5
    cursor.execute(tables[spec.source.driver])
    for user, bucket, key, content, is_base64 in cursor:
        data = content.encode() if isinstance(content, str) else bytes(content)
        yield Item(user, bucket, key, base64.b64decode(data) if is_base64 else data)
    connection.close()


def _delete(spec: Spec, names: list[Item]) -> None:
    if spec.source.driver == "s3":
        obstore.delete(spec.source.objects(), [item.key for item in names])
    elif spec.source.driver == "localfs":
        _threads(spec.workers, lambda item: file_path(Path(spec.source.root), item).unlink(), names)
    else:
        connection = psycopg2.connect(spec.url)
        table = "archive_document" if spec.source.driver == "db" else "object_storage"
        connection.cursor().execute(f"DELETE FROM {table}")  # noqa: S608 - one of two names
        connection.commit()
        connection.close()


def _encoded(spec: Spec, item: Item) -> bytes:
    return zlib.compress(item.data, 3) if spec.dest.compressed else item.data


def _copy_objects(spec: Spec, ready: list[Item]) -> None:
    client = spec.dest.client()

    def copy(item: Item) -> None:
        where = {"Bucket": spec.source.bucket, "Key": item.key}
        client.copy_object(Bucket=spec.dest.bucket, Key=item.key, CopySource=where)

    _threads(spec.workers, copy, ready)


def _get_and_copy(spec: Spec, ready: list[Item]) -> None:
    store = spec.source.objects()

    def move(batch: list[Item]) -> None:
        rows = []
        for item in batch:
            data = bytes(obstore.get(store, item.key).bytes())
            rows.append((item.user, item.bucket, item.archive_id, "", None, data, NOW, NOW))
        connection = psycopg2.connect(spec.url)
        connection.cursor().copy_expert("COPY object_storage FROM STDIN (FORMAT binary)", BinaryCopy(rows))
        connection.commit()
        connection.close()

    stream = iter(ready)
    _threads(spec.workers, move, list(iter(lambda: list(islice(stream, _COPY_ROWS // 5)), [])))


def _get_files(spec: Spec, ready: list[Item]) -> None:
    store = spec.source.objects()

    def get(item: Item, path: Path) -> None:
        path.write_bytes(obstore.get(store, item.key).bytes())

    _make_files(spec, ready, get, _COPY_ROWS // 5)


def _rename(spec: Spec, ready: list[Item]) -> None:
    source = Path(spec.source.root)
    _make_files(spec, ready, lambda item, path: file_path(source, item).rename(path), _COPY_ROWS)


def _files(spec: Spec, ready: list[Item]) -> None:
    _make_files(spec, ready, lambda item, path: path.write_bytes(_encoded(spec, item)), _COPY_ROWS)


def _make_files(spec: Spec, ready: list[Item], make: Callable[[Item, Path], object], batch_files: int) -> None:
    root = Path(spec.dest.root)
    root.mkdir(exist_ok=True)

    def work(batch: list[Item]) -> None:
        for item in batch:
            path = file_path(root, item)
            path.parent.mkdir(parents=True, exist_ok=True)
            make(item, path)
        _syncfs(root)

    stream = iter(ready)
    _threads(spec.workers, work, list(iter(lambda: list(islice(stream, batch_files)), [])))


def _syncfs(root: Path) -> None:
    descriptor = os.open(root, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(descriptor)
