"""R8: secrets do not print, and what is printed hides nothing."""

from __future__ import annotations

import pytest

from reconcile.logs import printable
from reconcile.secret import Secret, scrub, without_userinfo


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


def test_no_signature_of_a_url_is_in_a_message() -> None:
    """R8: a deleting request has its signature, and the token of a session, in its query."""
    from reconcile.errors import TransientError
    from reconcile.stores.s3_errors import translated

    url = "http://127.0.0.1:9/bucket?delete=&X-Amz-Security-Token=canary&X-Amz-Signature=canary"
    with pytest.raises(TransientError) as error, translated("bucket b"):
        raise OSError(f'Connection was closed before we received a valid response from endpoint URL: "{url}".')
    assert "canary" not in f"{error.value.message} {error.value.hint}"
    assert "http://127.0.0.1:9/bucket" in error.value.message
