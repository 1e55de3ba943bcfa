"""R1: a file that is taken aside to be deleted is removed, or has its name again; none is lost on the way."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from reconcile.errors import LockedError, SupersededError
from reconcile.stores import owner_folder
from reconcile.stores.data_dir import DataDir
from reconcile.stores.owner_folder import FOLDER, MARK, OwnerFolder

KEY = "21232f297a57a5a743894a0e4a801fc3/policy_bundles/ab/abcd.json"
OURS, THEIRS = "ours", "theirs"


@pytest.fixture
def folder(tmp_path: Path) -> OwnerFolder:
    """The folder of a data dir with one document, ready for us to delete."""
    path = tmp_path / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(b"document")
    data_dir = DataDir(str(tmp_path))
    data_dir.look()
    made = OwnerFolder(data_dir)
    made.prepare(OURS)
    return made


def taken(folder: OwnerFolder) -> str:
    aside = folder.take_aside(KEY, OURS)
    assert aside is not None
    return aside


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_file_that_was_taken_aside_gets_its_name_back(folder: OwnerFolder, tmp_path: Path) -> None:
    """Also where its directories were pruned meanwhile; twice is as good as once."""
    aside = taken(folder)
    assert not (tmp_path / KEY).exists()
    (tmp_path / KEY).parent.rmdir()
    folder.put_back(aside, KEY)
    folder.put_back(aside, KEY)
    assert files(tmp_path) == {KEY: b"document"}


def test_what_is_gone_is_not_taken_aside(folder: OwnerFolder, tmp_path: Path) -> None:
    (tmp_path / KEY).unlink()
    assert folder.take_aside(KEY, OURS) is None


def test_who_was_replaced_takes_nothing_aside(folder: OwnerFolder, tmp_path: Path) -> None:
    OwnerFolder(DataDir(str(tmp_path))).give_back([KEY], {OURS})
    with pytest.raises(SupersededError, match="has taken over this data dir"):
        folder.take_aside(KEY, OURS)
    assert files(tmp_path) == {KEY: b"document"}


def test_where_something_else_has_the_name_both_stay(folder: OwnerFolder, tmp_path: Path) -> None:
    """A service has written the document anew."""
    aside = taken(folder)
    (tmp_path / KEY).write_bytes(b"newer")
    folder.put_back(aside, KEY)
    assert files(tmp_path) == {KEY: b"newer", f"{FOLDER}/{Path(aside).name}": b"document"}


def no_links(*_arguments: Any, **_more: Any) -> NoReturn:
    raise OSError(errno.EPERM, "no hard links here")


@pytest.mark.parametrize("newer", [None, b"newer"])
def test_a_file_system_without_links(
    folder: OwnerFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newer: bytes | None
) -> None:
    monkeypatch.setattr(owner_folder.os, "link", no_links)
    aside = taken(folder)
    if newer:
        (tmp_path / KEY).write_bytes(newer)
    folder.put_back(aside, KEY)
    left = {KEY: b"document"} if newer is None else {KEY: newer, f"{FOLDER}/{Path(aside).name}": b"document"}
    assert files(tmp_path) == left


def test_who_was_killed_between_the_link_and_the_removal(folder: OwnerFolder, tmp_path: Path) -> None:
    aside = taken(folder)
    os.link(aside, tmp_path / KEY)
    folder.put_back(aside, KEY)
    assert files(tmp_path) == {KEY: b"document"}


@pytest.mark.parametrize("who", ["link", "put back by another"])
def test_a_file_that_goes_while_it_is_put_back(
    folder: OwnerFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    aside, link = taken(folder), os.link

    def gone(source: str, dest: str, **more: Any) -> None:
        if who == "put back by another":
            link(source, dest, **more)
        Path(source).unlink(missing_ok=True)
        raise FileNotFoundError(source)

    monkeypatch.setattr(owner_folder.os, "link", gone)
    folder.put_back(aside, KEY)
    assert files(tmp_path) == ({KEY: b"document"} if who == "put back by another" else {})


def test_trouble_while_it_is_put_back_leaves_it_aside(
    folder: OwnerFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = taken(folder)

    def full(*_arguments: Any, **_more: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(owner_folder.os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        folder.put_back(aside, KEY)
    assert files(tmp_path) == {str(Path(aside).relative_to(tmp_path)): b"document"}


def test_what_an_executor_had_aside_is_given_back(folder: OwnerFolder, tmp_path: Path) -> None:
    """What nobody on record is about to delete stays in the folder; other executors' directories stay as they are."""
    taken(folder)
    stray, others = tmp_path / FOLDER / OURS / "stray.json", tmp_path / FOLDER / THEIRS
    stray.write_bytes(b"stray")
    others.mkdir()
    asked: list[str] = []

    def keys() -> list[str]:
        asked.append(KEY)
        return [KEY]

    class Keys:
        """Keys that are read when somebody iterates."""

        def __iter__(self) -> Any:
            return iter(keys())

    folder.give_back(Keys(), {"nobody"})
    assert not asked
    folder.give_back(Keys(), {OURS})
    assert asked == [KEY]
    assert files(tmp_path) == {KEY: b"document", f"{FOLDER}/stray.json": b"stray"}
    assert [path.name for path in (tmp_path / FOLDER).iterdir() if path.is_dir()] == [THEIRS]


def test_a_file_that_comes_while_the_directory_is_emptied_is_given_back_too(
    folder: OwnerFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner, which does not know that it was replaced, renames one more file into it."""
    rmdir: Callable[..., None] = os.rmdir
    late = tmp_path / KEY

    def filled(path: str, **more: Any) -> None:
        if late.exists() and path.endswith(OURS):
            folder.take_aside(KEY, OURS)
        rmdir(path, **more)

    monkeypatch.setattr(owner_folder.os, "rmdir", filled)
    monkeypatch.setattr(OwnerFolder, "put_back", put_back_once(OwnerFolder.put_back, late))
    folder.give_back([KEY], {OURS})
    assert late.with_suffix(".done").read_bytes() == b"document"
    assert not (tmp_path / FOLDER / OURS).exists()


def put_back_once(original: Callable[..., None], late: Path) -> Callable[..., None]:
    """Put a file back under another name, so that it cannot be taken aside again and again."""

    def put_back(self: OwnerFolder, aside: str, key: str) -> None:
        original(self, aside, key)
        late.rename(late.with_suffix(".done"))

    return put_back


def test_a_mark_is_replaced_by_who_knows_it(folder: OwnerFolder, tmp_path: Path) -> None:
    assert folder.mark() is None
    assert not folder.swap_mark(b"another's", b"ours")
    left_over = tmp_path / f"{MARK}.4711.tmp"  # by a process that was killed
    left_over.write_bytes(b"half")
    assert folder.swap_mark(None, b"ours")
    assert folder.mark() == b"ours"
    assert not left_over.exists()
    assert not folder.swap_mark(None, b"another's")
    assert folder.swap_mark(b"ours", None)
    assert folder.mark() is None
    assert not (tmp_path / FOLDER).exists()


def test_a_lock_that_is_held_for_ever_is_told(
    folder: OwnerFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_folder, "_LOCK_SECONDS", 0)
    lock = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)"
    line = [sys.executable, "-c", f"{lock}; print(flush=True); input()", str(tmp_path / FOLDER)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LockedError, match="nothing was done") as error:
            folder.swap_mark(None, b"ours")
        holder.kill()
    assert f"fuser -v {tmp_path / FOLDER}" in str(error.value.hint)
    assert folder.mark() is None


def test_a_file_system_without_locks(folder: OwnerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_arguments: Any) -> NoReturn:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(owner_folder.fcntl, "flock", flock)
    assert folder.swap_mark(None, b"ours")
    assert folder.mark() == b"ours"
