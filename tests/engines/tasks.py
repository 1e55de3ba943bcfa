"""Tasks of workers that go wrong in ways that a test asks for, by ``Setup.task``."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from reconcile.engines import Message, Setup
from reconcile.errors import CatalogError, MissingStoreError
from reconcile.running.phases import place_check
from reconcile.running.phases.clean_part import CleanedPart, PartCleaner
from reconcile.running.phases.stage_part import PartStager
from reconcile.running.record import claims
from reconcile.running.record.parts import Part
from reconcile.running.record.run import Run
from reconcile.running.record.states import MoveState
from reconcile.running.record.work_moves import WorkMove
from reconcile.stores import localfs
from reconcile.stores.addresses import Key
from reconcile.stores.localfs import FileStore
from reconcile.stores.owner_folder import OwnerFolder
from reconcile.workers.worker import Worker

STALE_SECONDS = 8  # more than a worker lets pass between two signs of life
MARKER = "died"  # in the working directory, by whom it is to be done once


def dies_between_write_and_record(setup: Setup) -> Callable[[Message], Message]:
    """The first worker process that has written a part is killed before it is on record."""
    record = PartStager._record

    def dying(self: PartStager, outcomes: list[object]) -> None:
        try:
            Path(MARKER).touch(exist_ok=False)
        except FileExistsError:
            record(self, outcomes)  # type: ignore[arg-type]
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    PartStager._record = dying  # type: ignore[method-assign, assignment]
    return Worker(setup)


def dies_after_the_mark(setup: Setup) -> Callable[[Message], Message]:
    """The first worker process that has marked sources, to delete them, is killed."""
    mark = PartCleaner._mark

    def dying(self: PartCleaner, works: list[WorkMove]) -> None:
        mark(self, works)
        with suppress(FileExistsError):
            Path(MARKER).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)

    PartCleaner._mark = dying  # type: ignore[method-assign]
    return Worker(setup)


def stops_after_the_mark(setup: Setup) -> Callable[[Message], Message]:
    """The first worker process that has marked sources, to delete them, is stopped, as for good."""
    mark = PartCleaner._mark

    def stopping(self: PartCleaner, works: list[WorkMove]) -> None:
        mark(self, works)
        with suppress(FileExistsError):
            with Path(MARKER).open("x") as file:
                file.write(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)

    PartCleaner._mark = stopping  # type: ignore[method-assign]
    return Worker(setup)


def continues_when_its_part_is_anothers(setup: Setup) -> Callable[[Message], Message]:
    """The first worker stops after its mark; the next finds a copy damaged, and keeps its source; the first goes on."""
    claims.STALE_SECONDS = STALE_SECONDS
    take_over, clean = PartCleaner._take_over, PartCleaner.clean

    def damage(self: PartCleaner, part: Part) -> None:
        if self.run.claim is not None and self.run.claim.taken_from and not Path("damaged").exists():
            work = self.run.between(MoveState.STAGED, part.first, part.last)[0]
            store, move = self.stores[work.move.dest], work.move
            assert isinstance(store, FileStore)
            key = store.address.keys(move.after.content_url, move.document)[0]
            Path(store.data_dir.path(key)).write_bytes(b"x")
            Path("damaged").write_text(move.archiveId)
        take_over(self, part)

    def cleaned(self: PartCleaner, part: Part) -> CleanedPart:
        result = clean(self, part)
        if self.run.claim is not None and self.run.claim.taken_from and not Path("continued").exists():
            Path("continued").touch()
            os.kill(int(Path(MARKER).read_text()), signal.SIGCONT)
            time.sleep(5)
        return result

    PartCleaner._take_over, PartCleaner.clean = damage, cleaned  # type: ignore[method-assign]
    return stops_after_the_mark(setup)


def loses_its_connection_once(setup: Setup) -> Callable[[Message], Message]:
    """A part of one worker ends by a broken connection after its mark; its next removal takes until others move."""
    claims.STALE_SECONDS = STALE_SECONDS
    mark, remove = PartCleaner._mark, FileStore._remove

    def broken(self: PartCleaner, works: list[WorkMove]) -> None:
        mark(self, works)
        with suppress(FileExistsError):
            with Path(MARKER).open("x") as file:
                file.write(str(os.getpid()))
            raise CatalogError("a connection broke")

    def slow(self: FileStore, path: str) -> None:
        is_it = Path(MARKER).exists() and Path(MARKER).read_text() == str(os.getpid())
        with suppress(FileExistsError):
            if is_it:
                Path("slow").touch(exist_ok=False)
                deadline = time.monotonic() + 60
                while Path(path).exists() and time.monotonic() < deadline:  # until another puts it back
                    time.sleep(0.1)
        remove(self, path)

    PartCleaner._mark, FileStore._remove = broken, slow  # type: ignore[method-assign]
    return Worker(setup)


def is_killed_and_the_next_loses_its_connection(setup: Setup) -> Callable[[Message], Message]:
    """One is killed with a file aside; whoever has its part next breaks off before the file is put back."""
    claims.STALE_SECONDS = STALE_SECONDS
    take_over = PartCleaner._take_over

    def failing(self: PartCleaner, part: Part) -> None:
        if self.run.claim is not None and self.run.claim.taken_from:
            with suppress(FileExistsError):
                Path(f"lost{part.first}").touch(exist_ok=False)
                raise CatalogError("the database restarts")
        take_over(self, part)

    PartCleaner._take_over = failing  # type: ignore[method-assign]
    return dies_with_a_file_aside(setup)


def reads_back_something_else_once(setup: Setup) -> Callable[[Message], Message]:
    """The first file that a worker writes does not read back as it was written: it is deleted again."""
    read_back = localfs.md5_of

    def wrong(descriptor: int, size: int) -> str:
        with suppress(FileExistsError):
            Path(MARKER).touch(exist_ok=False)
            return "0" * 32
        return read_back(descriptor, size)

    localfs.md5_of = wrong
    return Worker(setup)


def dies_with_a_file_aside(setup: Setup) -> Callable[[Message], Message]:
    """The first worker process that has taken a source aside, to delete it, is killed."""
    return _ends_with_a_file_aside(setup, signal.SIGKILL)


def stops_between_write_and_record(setup: Setup) -> Callable[[Message], Message]:
    """The first worker process that has written a part is stopped, as for good, before it is on record."""
    record = PartStager._record

    def stopping(self: PartStager, outcomes: list[object]) -> None:
        try:
            Path(MARKER).touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGSTOP)
        record(self, outcomes)  # type: ignore[arg-type]

    PartStager._record = stopping  # type: ignore[method-assign, assignment]
    return Worker(setup)


def stops_inside_a_transaction(setup: Setup) -> Callable[[Message], Message]:
    """The first worker process that has a part's rows locked is stopped, as for good."""
    return _stops_inside_a_transaction(setup, lambda: None)


def stops_for_a_while(setup: Setup) -> Callable[[Message], Message]:
    """The same, for longer than the server bears; then it goes on."""
    return _stops_inside_a_transaction(
        setup, lambda: subprocess.Popen(["sh", "-c", f"sleep 14; kill -CONT {os.getpid()}"])
    )


def _stops_inside_a_transaction(setup: Setup, before: Callable[[], object]) -> Callable[[Message], Message]:
    update = Run.update_moves

    def stopping(self: Run, *given: Any) -> None:
        update(self, *given)
        with suppress(FileExistsError):
            Path(MARKER).touch(exist_ok=False)
            before()
            os.kill(os.getpid(), signal.SIGSTOP)

    Run.update_moves = stopping  # type: ignore[method-assign]
    return Worker(setup)


def stops_with_a_file_aside(setup: Setup) -> Callable[[Message], Message]:
    """The first worker process that has taken a source aside, to delete it, is stopped, as for good."""
    return _ends_with_a_file_aside(setup, signal.SIGSTOP)


def _ends_with_a_file_aside(setup: Setup, number: signal.Signals) -> Callable[[Message], Message]:
    take_aside = OwnerFolder.take_aside

    def ending(self: OwnerFolder, key: Key, token: str) -> str | None:
        aside = take_aside(self, key, token)
        with suppress(FileExistsError):
            with Path(MARKER).open("x") as file:
                file.write(str(os.getpid()))
            os.kill(os.getpid(), number)
        return aside

    OwnerFolder.take_aside = ending  # type: ignore[method-assign]
    return Worker(setup)


def finds_no_mark(setup: Setup) -> Callable[[Message], Message]:
    """Workers that see another directory at the path of a data dir, as far as its owner mark is concerned."""
    OwnerFolder.mark = lambda _self: None  # type: ignore[method-assign]
    place_check.SEEN_SECONDS = 1.0
    return Worker(setup)


def finds_no_mark_when_it_cleans(setup: Setup) -> Callable[[Message], Message]:
    """Workers at whose data dir another one is mounted, once the copies are made."""
    worker = Worker(setup)

    def answer(message: Message) -> Message:
        if message["task"] == "clean":
            OwnerFolder.mark = lambda _self: None  # type: ignore[method-assign]
            place_check.SEEN_SECONDS = 1.0
        return worker(message)

    return answer


def has_no_data_dir(setup: Setup) -> Callable[[Message], Message]:
    """Workers without the mount: a data dir is not there, so that an apply would make it."""

    def prepare(_self: FileStore, *, create: bool) -> None:
        raise MissingStoreError(f"no such data dir, create={create}", made_by_apply=True)

    FileStore.prepare = prepare  # type: ignore[method-assign]
    return Worker(setup)


def has_another_data_dir(setup: Setup) -> Callable[[Message], Message]:
    """Workers with another, empty directory at the path of a data dir."""
    FileStore.place = lambda _self: {"store": "?", "inode": 1, "device": 1, "filesystem": "1"}  # type: ignore[method-assign]
    FileStore.glance = lambda _self, _keys: {}  # type: ignore[method-assign]
    FileStore.look = lambda _self, _keys, *, digest=False: {}  # type: ignore[method-assign]
    return Worker(setup)


def dies_of_its_first_part(setup: Setup) -> Callable[[Message], Message]:
    """The first worker process that is given anything is killed."""
    worker = Worker(setup)

    def answer(message: Message) -> Message:
        with suppress(FileExistsError):
            Path(MARKER).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return worker(message)

    return answer


def sees_no_file(setup: Setup) -> Callable[[Message], Message]:
    """Workers to which a data dir looks empty."""
    FileStore.look = lambda _self, _keys, *, digest=False: {}  # type: ignore[method-assign]
    return Worker(setup)


def dies_of_the_document(setup: Setup) -> Callable[[Message], Message]:
    """Every worker process is killed by one document, number 7."""
    worker = Worker(setup)

    def answer(message: Message) -> Message:
        if message["part"]["first"] <= 7 <= message["part"]["last"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return worker(message)

    return answer


def of_another_version(setup: Setup) -> Callable[[Message], Message]:
    """A worker of a version that the run's leader is not of."""
    worker = Worker(setup)
    return lambda message: worker(message | {"version": "0.0.1"})
