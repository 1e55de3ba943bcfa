"""One sync for a batch of files only where that is as good as one for each; the same promises either way (R3)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconcile.errors import BackendError
from reconcile.payload import md5
from reconcile.stores import Content, Stat, Write, data_dir, localfs, syncing
from reconcile.stores.addresses import FileAddress
from reconcile.stores.localfs import FileStore


def writes(store: FileStore, count: int = 5) -> list[Write]:
    documents = [("admin", "bucket", str(number)) for number in range(count)]
    return [Write(store.address.key(name), name[2].encode(), md5(name[2].encode())) for name in documents]


@pytest.mark.parametrize(
    ("kind", "release", "good"),
    [
        ("ext4", "6.1.0-13", True),
        ("xfs", "5.8", True),
        ("ext4", "5.4.0-generic", False),
        ("nfs4", "6.1", False),
        ("fuse.s3fs", "6.1", False),
        ("btrfs", "6.1", False),
    ],
)
def test_where_a_batch_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, release: str, good: bool
) -> None:
    device = tmp_path.stat().st_dev
    line = f"22 1 {os.major(device)}:{os.minor(device)} / / rw - {kind} /dev/vda rw"
    monkeypatch.setattr(syncing.platform, "release", lambda: release)
    monkeypatch.setattr(syncing.platform, "system", lambda: "Linux")
    monkeypatch.setattr(Path, "read_text", lambda _self: line)
    assert syncing.syncs_batches(tmp_path) is good


@pytest.mark.parametrize("in_batches", [True, False])
def test_files_are_synced_before_they_have_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_batches: bool
) -> None:
    seen: list[int] = []

    def sync(*_arguments: object) -> None:
        seen.append(sum(not path.name.startswith(".") for path in tmp_path.rglob("*.json")))

    monkeypatch.setattr(localfs, "syncs_batches", lambda _root: in_batches)
    monkeypatch.setattr(localfs, "sync_batch", sync)
    for module in (localfs, data_dir):
        monkeypatch.setattr(module, "sync_directory", lambda _directory: None)
    monkeypatch.setattr(localfs.os, "fsync", sync)
    store = FileStore(FileAddress(str(tmp_path)), "t")
    store.set_concurrency(1)
    store.prepare(create=True)
    todo = writes(store)
    answers = store.write(todo)
    assert all(isinstance(answer, Stat) for answer in answers.values()), answers
    assert seen == ([0, 5] if in_batches else [0, 1, 2, 3, 4])
    read = store.read([write.key for write in todo])
    assert [content.data for content in read.values() if isinstance(content, Content)] == [w.data for w in todo]
    assert not list(tmp_path.rglob(".*.tmp"))


def test_a_batch_that_cannot_be_synced_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_root: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(localfs, "syncs_batches", lambda _root: True)
    monkeypatch.setattr(localfs, "sync_batch", full)
    store = FileStore(FileAddress(str(tmp_path)), "t")
    store.prepare(create=True)
    with pytest.raises(BackendError, match="No space left"):
        store.write(writes(store))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
