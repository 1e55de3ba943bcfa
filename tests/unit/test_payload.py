"""Stored bytes: compression as the services do it, and rows as PostgreSQL copies them."""

from __future__ import annotations

import zlib

import pytest

from reconcile.errors import DocumentError
from reconcile.payload import Spool, compress, decompress, recode
from reconcile.stores.binary_copy import BinaryCopy


def test_recode() -> None:
    document = b"x" * 1000
    stored = recode(document, is_compressed=False, compressed=True)
    assert stored == zlib.compress(document, 3)
    assert recode(stored, is_compressed=True, compressed=False) == document
    assert recode(stored, is_compressed=True, compressed=True) is stored


@pytest.mark.parametrize("stored", [b"", b"not zlib", zlib.compress(b"x" * 100)[:-3]])
def test_what_services_could_not_decompress_is_undecodable(stored: bytes) -> None:
    with pytest.raises(DocumentError, match="undecodable"):
        decompress(stored)


def test_bytes_after_the_zlib_data_are_ignored_as_the_services_do() -> None:
    assert decompress(compress(b"a") + b"junk") == b"a"


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_a_binary_copy_is_whole_however_it_is_read(size: int) -> None:
    spool = Spool()
    spool.append(b"spooled")
    rows = [["text", spool], [None, b"bytes"], [spool, True, 5]]
    source, data = BinaryCopy(rows), b""
    while piece := source.read(size):
        data += piece
    assert data == (
        b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\2" + b"\0\0\0\4text" + b"\0\0\0\7spooled"
        b"\0\2" + b"\xff" * 4 + b"\0\0\0\5bytes"
        b"\0\3" + b"\0\0\0\7spooled" + b"\0\0\0\1\1" + b"\0\0\0\4\0\0\0\5" + b"\xff\xff"
    )
