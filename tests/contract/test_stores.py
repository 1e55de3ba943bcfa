"""What every store promises (see the text of `reconcile.stores.base`), on every driver and server."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve

from reconcile.catalog import Catalog
from reconcile.errors import BackendError, DocumentError
from reconcile.payload import SPOOL_BYTES, Spool, gathered, md5
from reconcile.secret import Secret
from reconcile.stores import Content, Known, Stat, Write, open_store
from reconcile.stores.addresses import Document, Key
from tests.contract.conftest import Subject, make_backend

PLAIN: Document = ("admin", "policy_bundles", "2c53a13c-1765")
AWKWARD: list[Document] = [
    ("admin", "vulnerability_scan", "sha256:0873/docker.io/library/nginx:1.0"),
    ("admin", "policy_bundles", "My policy %20 (v2); ü+~*'\"<>|\\^`{}[]#?&="),
    ("Ops.Team@example.com", "policy_bundles", "x"),
    ("a,b:c;d<e>=!$", "manifest_data", "日本語 🗿"),
    ("admin", "policy_bundles", "a//b"),
    ("admin", "policy_bundles", "../up"),
    ("admin", "policy_bundles", "./here"),
    ("admin", "policy_bundles", "tab\there"),
    ("admin", "policy_bundles", "line\nbreak"),
    ("admin", "policy_bundles", "trailing/"),
    ("admin", "policy_bundles", " spaces "),
]


def put(subject: Subject, document: Document, data: bytes, **attributes: object) -> tuple[Key, Stat]:
    key = subject.store.address.key(document)
    answer = subject.store.write([Write(key, data, md5(data), attributes)])[key]
    assert isinstance(answer, Stat), answer
    return key, answer


def get(subject: Subject, key: Key) -> Content:
    content = subject.store.read([key])[key]
    assert isinstance(content, Content), content
    return content


def reason(answer: object) -> str:
    assert isinstance(answer, DocumentError), answer
    return answer.reason


@pytest.mark.parametrize(
    "data", [b"", b"x", b"{}", bytes(range(256)) * 50, "grüße".encode() * 1000, b"YWJj\n"], ids=len
)
def test_what_is_written_is_confirmed_and_read_back(subject: Subject, data: bytes) -> None:
    key, stat = put(subject, PLAIN, data)
    assert stat.md5 == md5(data)
    assert stat.size == len(data)
    content = get(subject, key)
    assert content.data == data
    assert content.version == stat.version
    assert content.reproducible


@pytest.mark.parametrize("kind", ["bytes", "text"])
def test_a_large_document(subject: Subject, kind: str) -> None:
    """24 MiB of bytes (base64 in ``db``), and text that is cut inside a character wherever one cuts it."""
    data = os.urandom(1 << 20) * 24 if kind == "bytes" else "ü日x".encode() * (3 << 20)
    assert len(data) > SPOOL_BYTES
    spool = gathered(data[start : start + 1_000_003] for start in range(0, len(data), 1_000_003))
    key = subject.store.address.key(PLAIN)
    for content in (spool, data):  # the second time it is there already
        answer = subject.store.write([Write(key, content, md5(data))])[key]
        assert isinstance(answer, Stat), answer
        assert (answer.size, answer.md5) == (len(data), md5(data))
    content = get(subject, key)
    assert isinstance(content.data, Spool)
    assert md5(content.data) == md5(data)
    assert content.reproducible
    assert subject.store.look([key], digest=True)[key].md5 == md5(data)
    assert subject.store.delete([Known(key, content.version or "")]) == {key: None}


@pytest.mark.parametrize("document", AWKWARD, ids=str)
def test_awkward_names_are_told_apart(subject: Subject, document: Document, request: pytest.FixtureRequest) -> None:
    if "\n" in document[2] and request.node.callspec.params["subject"] in ("s3-moto", "s3-gcs"):
        pytest.skip("moto's routes do not match a newline; Swift's s3api stands for S3 here")
    problem = subject.store.address.problem(subject.store.address.key(document))
    if problem:  # then no plan leads there
        assert (subject.backend.driver, problem[0]) == ("swift", "name_altered")
        return
    key, _stat = put(subject, document, b"awkward")
    other, _stat = put(subject, (document[0], document[1], document[2] + "#2"), b"other")
    assert get(subject, key).data == b"awkward"
    assert set(subject.store.look([key, other])) == {key, other}
    assert {name for name, _stat in subject.store.listing()} == {key, other}


def test_a_key_that_is_taken_is_not_overwritten(subject: Subject) -> None:
    key, _stat = put(subject, PLAIN, b"first")
    assert reason(subject.store.write([Write(key, b"second", md5(b"second"))])[key]) == "destination_occupied"
    assert get(subject, key).data == b"first"


def test_writing_the_same_again_is_confirmed(subject: Subject) -> None:
    key, first = put(subject, PLAIN, b"same")
    again, second = put(subject, PLAIN, b"same")
    assert (again, evolve(second, found=False)) == (key, first)
    assert second.found


def test_one_bad_document_does_not_hide_the_others(subject: Subject) -> None:
    key, _stat = put(subject, PLAIN, b"there")
    missing = subject.store.address.key(("admin", "b", "missing"))
    answers = subject.store.read([missing, key])
    assert reason(answers[missing]) == "source_missing"
    assert isinstance(answers[key], Content)


def test_look_tells_what_is_there_and_its_digest_when_asked(subject: Subject) -> None:
    documents: list[Document] = [("admin", "bucket", f"{number:03}") for number in range(40)]
    keys = [put(subject, document, document[2].encode())[0] for document in documents]
    absent = [subject.store.address.key(("admin", "bucket", f"{number:03}x")) for number in range(40)]
    assert set(subject.store.look([*keys, *absent])) == set(keys)
    digests = {key: stat.md5 for key, stat in subject.store.look([*keys, *absent], digest=True).items()}
    assert digests == {key: md5(document[2].encode()) for key, document in zip(keys, documents, strict=True)}


def test_a_store_says_what_it_can_and_what_it_needs(subject: Subject, request: pytest.FixtureRequest) -> None:
    key, _stat = put(subject, PLAIN, b"here")
    can = subject.store.capabilities()
    assert (can.conditional_put is False) == (request.node.callspec.params["subject"] == "s3-gcs")
    assert can.confirmation
    assert set(subject.store.rights()) == {"prepare", "look", "read", "write", "delete", "listing"}
    assert subject.store.is_listed(key)
    assert not subject.store.is_listed(subject.store.address.key(("admin", "policy_bundles", "not here")))
    assert subject.store.foreign_kind(key) is None
    assert subject.store.address.keys(subject.store.address.url_at(key), PLAIN) == [key]


def test_a_listing_of_many_pages(subject: Subject) -> None:
    """Pages of 7 names here; of 1,000 (S3) and 10,000 (Swift) elsewhere."""
    if hasattr(subject.store, "page"):
        subject.store.page = 7
    keys = [put(subject, ("admin", "bucket", f"ü{number:03}"), b"x")[0] for number in range(30)]
    assert sorted(key for key, _stat in subject.store.listing()) == sorted(keys)
    assert set(subject.store.look(keys)) == set(keys)


def test_delete_deletes_the_known_content_only(subject: Subject) -> None:
    key, stat = put(subject, PLAIN, b"known")
    assert stat.version
    wrong = Known(key, stat.version[:-1] + ("0" if stat.version[-1] != "0" else "1"))
    assert reason(subject.store.delete([wrong])[key]) == "content_changed"
    assert get(subject, key).data == b"known"
    assert subject.store.delete([Known(key, stat.version)]) == {key: None}
    assert not subject.store.look([key])


def test_nothing_to_delete(subject: Subject) -> None:
    """A batch of documents none of which is ours to delete."""
    assert subject.store.delete([]) == {}


def test_delete_is_idempotent(subject: Subject) -> None:
    key, stat = put(subject, PLAIN, b"known")
    for _time in range(2):
        assert subject.store.delete([Known(key, stat.version or "")]) == {key: None}


def test_delete_many(subject: Subject) -> None:
    known = []
    for number in range(30):
        key, stat = put(subject, ("admin", "bucket", str(number)), b"x")
        known.append(Known(key, stat.version or ""))
    stays, _stat = put(subject, PLAIN, b"stays")
    assert set(subject.store.delete(known).values()) == {None}
    assert [key for key, _stat in subject.store.listing()] == [stays]


def test_threads_may_share_a_store(subject: Subject) -> None:
    def work(number: int) -> bytes:
        key, _stat = put(subject, ("admin", "bucket", str(number)), str(number).encode())
        return get(subject, key).data

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(40))) == [str(number).encode() for number in range(40)]


def test_attributes_are_restored(subject: Subject) -> None:
    """R5: the driver's other columns, as a read gives them, come back by a write."""
    key, _stat = put(subject, PLAIN, b"text")
    content = get(subject, key)
    subject.store.delete([Known(key, content.version or "")])
    wanted = {
        name: 42 if name in ("created_at", "last_updated") else value for name, value in content.attributes.items()
    }
    wanted |= {"documentName": "odd"} if "documentName" in wanted else {}
    wanted |= {"object_metadata": '{"a": 1}'} if "object_metadata" in wanted else {}
    put(subject, PLAIN, b"text", **wanted)
    assert get(subject, key).attributes == wanted


def test_nul_goes_where_it_can(subject: Subject) -> None:
    key = subject.store.address.key(PLAIN)
    answer = subject.store.write([Write(key, b"a\0b", md5(b"a\0b"))])[key]
    if subject.is_text:
        assert reason(answer) == "nul_in_text"
    else:
        assert get(subject, key).data == b"a\0b"


def test_a_store_that_is_not_there_is_an_error_of_the_whole(subject: Subject, tmp_path: Path) -> None:
    if subject.backend.driver in ("db", "db2"):
        pytest.skip("tables are the services' to make")
    changed = {
        "localfs": {"archive_data_dir": str(tmp_path / "no" / "such")},
        "s3": {"bucket": "no-such-bucket-here", "create_bucket": False},
        "swift": {"container": "no-such-container", "create_container": False},
    }[subject.backend.driver]
    settings = subject.backend.settings | changed
    store = open_store(evolve(subject.backend, settings=settings), subject.catalog, "test")
    with pytest.raises(BackendError) as error:
        store.prepare(create=True)
    assert error.value.hint
    assert not (tmp_path / "no").exists()


def test_wrong_credentials_are_an_error_of_the_whole(subject: Subject) -> None:
    """On a server that checks them: moto accepts any."""
    settings = subject.backend.settings
    name = {"s3": "secret_key", "swift": "key"}.get(subject.backend.driver)
    if name is None or settings[name].reveal() != "testing":
        pytest.skip("no credentials, or none that the server checks")
    wrong = settings | {name: Secret("wrong-wrong-wrong")}
    store = open_store(evolve(subject.backend, settings=wrong), subject.catalog, "test")
    with pytest.raises(BackendError, match="access denied"):
        store.prepare(create=False)
    with pytest.raises(BackendError, match="access denied"):
        store.read([store.address.key(PLAIN)])


def test_no_server_is_an_error_of_the_whole(tmp_path: Path, moto: object, request: pytest.FixtureRequest) -> None:
    backend = make_backend("s3", moto, tmp_path, url="http://127.0.0.1:9", create_bucket=False)
    catalog: Catalog = None  # type: ignore[assignment]
    store = open_store(backend, catalog, "test")
    store.attempts = 1  # type: ignore[attr-defined, misc]
    with pytest.raises(BackendError, match="no answer"):
        store.read([store.address.key(("admin", "bucket", str(number))) for number in range(3)])
