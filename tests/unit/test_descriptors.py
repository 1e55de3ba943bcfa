"""What a file holds is read to its end, whatever its status said of its size."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from reconcile.payload import CHUNK_BYTES, Spool, chunks_of
from reconcile.stores.descriptors import md5_of, read_all, write_all

CLAIMS = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
@pytest.mark.parametrize("claimed", CLAIMS)
def test_a_file_that_grew_or_shrank_is_read_as_it_is(tmp_path: Path, size: int, claimed: int) -> None:
    path = tmp_path / "file"
    data = os.urandom(size)
    path.write_bytes(data)
    for read in (read_all, md5_of):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            found = read(descriptor, claimed)
        finally:
            os.close(descriptor)
        assert found == (data if read is read_all else hashlib.md5(data).hexdigest())


def test_all_of_a_spool_is_written(tmp_path: Path) -> None:
    spool = Spool()
    for _piece in range(3):
        spool.append(os.urandom(CHUNK_BYTES))
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        write_all(descriptor, spool)
    finally:
        os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"".join(chunks_of(spool))
