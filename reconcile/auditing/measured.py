"""The rate that a store reaches: a short trial, bounded in documents and bytes, with the store's own workers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable

from attrs import frozen

from reconcile.errors import DocumentError
from reconcile.payload import md5
from reconcile.stores import Content, Known, Stat, Store, Write
from reconcile.stores.addresses import Key

_SMALL, _SMALL_BYTES = 48, 4096
_LARGE_BYTES = 1 << 20
_SHORTEST = 1e-6  # seconds


@frozen
class Rates:
    """Documents a second of 4 KiB each; bytes a second of one document of 1 MiB."""

    write_documents_per_second: float
    read_documents_per_second: float
    write_bytes_per_second: float
    read_bytes_per_second: float
    delete_documents_per_second: float


def measure(store: Store, token: str, laid: list[Key]) -> Rates:
    """Write, read and delete some small documents and a large one. Raises `DocumentError`.

    ``laid`` is told every key before it is written to, for whoever has to clean up.
    """
    small = [_document(store, token, f"small-{number}", _SMALL_BYTES) for number in range(_SMALL)]
    large = _document(store, token, "large", _LARGE_BYTES)
    laid += [write.key for write in (*small, large)]
    write_small, stats = _write(store, small)
    write_large, more = _write(store, [large])
    read_small, read_large = _read(store, small), _read(store, [large])
    begun = time.monotonic()
    known = [Known(key, stat.version or "") for key, stat in (stats | more).items()]
    _refuse_errors(store.delete(known).values())
    deleted = _since(begun)
    return Rates(
        write_documents_per_second=round(_SMALL / write_small, 1),
        read_documents_per_second=round(_SMALL / read_small, 1),
        write_bytes_per_second=round(_LARGE_BYTES / write_large, 1),
        read_bytes_per_second=round(_LARGE_BYTES / read_large, 1),
        delete_documents_per_second=round(len(known) / deleted, 1),
    )


def _document(store: Store, token: str, name: str, size: int) -> Write:
    """Return text that does not compress away."""
    data = secrets.token_hex(size // 2).encode()
    return Write(store.address.key((f"reconcile-check-{token}", "reconcile_check", name)), data, md5(data))


def _write(store: Store, writes: list[Write]) -> tuple[float, dict[Key, Stat]]:
    begun = time.monotonic()
    answer = store.write(writes)
    seconds = _since(begun)
    _refuse_errors(answer.values())
    return seconds, {key: stat for key, stat in answer.items() if isinstance(stat, Stat)}


def _read(store: Store, writes: list[Write]) -> float:
    begun = time.monotonic()
    answer = store.read([write.key for write in writes])
    seconds = _since(begun)
    _refuse_errors(answer.values())
    for write in writes:
        content = answer[write.key]
        if isinstance(content, Content) and content.md5 != write.md5:
            raise DocumentError("not_confirmed", "it does not read back as it was written")
    return seconds


def _refuse_errors(answers: Iterable[object]) -> None:
    for answer in answers:
        if isinstance(answer, DocumentError):
            raise answer


def _since(begun: float) -> float:
    return max(time.monotonic() - begun, _SHORTEST)
