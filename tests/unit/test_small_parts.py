"""Payload, secrets, logs, and how quickly and lightly the package is imported."""

from __future__ import annotations

import subprocess
import sys
import zlib

import pytest

from reconcile.errors import DocumentError
from reconcile.logs import printable
from reconcile.payload import Spool, compress, decompress, recode
from reconcile.secret import Secret, scrub, without_userinfo
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


def test_secrets_do_not_print() -> None:
    secret = Secret("can/ary 1")
    assert f"{secret} {secret!r} {secret:>10} {[secret]}".count("can") == 0
    assert secret == Secret("can/ary 1")
    for spelling in ("can/ary 1", "can/ary%201", "can%2Fary%201", "can%2Fary+1"):
        assert scrub(f"a {spelling} b") == "a *** b"


def test_userinfo_is_masked() -> None:
    assert without_userinfo("http://user-x:pass-x@host:1/p") == "http://***@host:1/p"
    assert without_userinfo("http://host/p") == "http://host/p"
    assert without_userinfo("http://[bad") == "***"
    assert without_userinfo("pre@fix/") == "pre@fix/"
    for url in ("http://u:pass@x@host/p", "http://x@y/pass@z", "http://u:pa/ss@host", "http://host/pass@y"):
        assert without_userinfo(url) == "http://***"
        assert scrub(f"no answer from {url}") == "no answer from http://***"


def test_control_characters_are_shown() -> None:
    assert printable("a\x1b[2J\nü\x9b") == "a\\x1b[2J\\nü\\x9b"


def test_importing_the_package_is_light() -> None:
    heavy = {"boto3", "obstore", "sqlalchemy", "rich", "jsonschema", "swiftclient"}
    code = "import reconcile, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)


def test_a_move_within_the_database_loads_no_cloud_library() -> None:
    code = "import reconcile.verbs, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"boto3", "obstore", "swiftclient"} & set(loaded)


def test_planning_loads_nothing_that_runs_need() -> None:
    code = "import reconcile.cli.plan, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"reconcile.running.record.tables", "reconcile.verbs", "sqlalchemy.dialects.postgresql"} & set(loaded)


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


def test_no_signature_of_a_url_is_in_a_message() -> None:
    """R8: a deleting request has its signature, and the token of a session, in its query."""
    from reconcile.errors import TransientError
    from reconcile.stores.s3_errors import translated

    url = "http://127.0.0.1:9/bucket?delete=&X-Amz-Security-Token=canary&X-Amz-Signature=canary"
    with pytest.raises(TransientError) as error, translated("bucket b"):
        raise OSError(f'Connection was closed before we received a valid response from endpoint URL: "{url}".')
    assert "canary" not in f"{error.value.message} {error.value.hint}"
    assert "http://127.0.0.1:9/bucket" in error.value.message
