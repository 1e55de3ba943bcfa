"""R3, R7: what a worker does not notice by itself, and answers that are lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconcile.catalog import Catalog, DatabaseOptions, connect
from reconcile.control import Control
from reconcile.engines import Message
from reconcile.errors import BusyError, ConfigError, EngineError, Interrupted, LockedError, ReconcileError
from reconcile.payload import md5
from reconcile.running.phases import dispatch
from reconcile.running.phases.options import Share
from reconcile.running.record.claims import begin_parts, claim
from reconcile.running.record.executor import executing, led_by
from reconcile.running.record.parts import Part, PartResult
from reconcile.secret import Secret
from reconcile.stores import FileAddress, Write
from reconcile.stores.localfs import FileStore
from reconcile.workers import at_work as at_work_module
from reconcile.workers.at_work import AtWork
from tests.cli.desk import opened
from tests.engines.forgetful import Forgetful
from tests.engines.hostile import Hostile
from tests.engines.test_hostile_engine import setup
from tests.engines.test_processes import contents, is_moved, planned, processes
from tests.world import DB, World, localfs

LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND classid = 1919247215"


@pytest.fixture
def archive(folder: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(folder, database)
    world.fill(30)
    world.config("config", DB)
    world.config("dest", localfs(folder / "archive"))
    monkeypatch.setattr("reconcile.running.phases.stage.BATCH_DOCUMENTS", 5)
    return world


@pytest.fixture
def catalog(archive: World) -> Iterator[Catalog]:
    with opened(archive) as catalog:
        yield catalog


def shared(world: World) -> int:
    return int(
        world.sql(LOCKS + " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")[0][0]
    )


def end_sessions(world: World) -> None:
    world.sql(f"SELECT pg_terminate_backend(pid) FROM ({LOCKS.replace('count(*)', 'pid')}) held")


def test_the_lock_of_a_worker_outlives_what_roles_do_to_idle_sessions(archive: World) -> None:
    name = sa.make_url(archive.url).database
    archive.sql(f"ALTER DATABASE {name} SET idle_session_timeout = 500")
    with opened(archive) as catalog:
        at_work = AtWork(catalog, lambda: None)
        with at_work.part():
            time.sleep(1.5)
            assert shared(archive) == 1
        assert shared(archive) == 0
        at_work.close()


def test_a_session_that_went_between_two_parts_is_replaced(archive: World, catalog: Catalog) -> None:
    at_work = AtWork(catalog, lambda: None)
    with at_work.part():
        end_sessions(archive)
    with at_work.part():
        assert shared(archive) == 1


def test_a_worker_whose_lock_is_gone_while_it_has_a_part_ends(
    archive: World, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_work_module, "SEEN_SECONDS", 0.1)
    ended = threading.Event()
    at_work = AtWork(catalog, ended.set)
    at_work.start()
    with at_work.part():
        time.sleep(0.5)
        assert not ended.is_set()
        end_sessions(archive)
        assert ended.wait(20)


def test_a_worker_that_is_given_another_run_keeps_its_lock_until_its_parts_are_done(
    archive: World, catalog: Catalog
) -> None:
    at_work = AtWork(catalog, lambda: None)
    with at_work.part():
        at_work.close()
        assert shared(archive) == 1
    assert shared(archive) == 0


def test_a_part_is_taken_from_nobody_who_is_at_it(archive: World, catalog: Catalog) -> None:
    planned(archive)
    archive.apply("p.json", stage_only=True)
    run = str(archive.sql("SELECT run_id FROM reconcile_runs")[0][0])
    at_work = AtWork(catalog, lambda: None)
    with catalog.write() as connection:
        parts = begin_parts(connection, run, "an engine")
    with at_work.part() as session:
        with catalog.write() as connection:
            first = claim(connection, run, parts, 0, worker="one", session=session, folder="a")
        with pytest.raises(BusyError, match="worker one is working on it"), catalog.write() as connection:
            claim(connection, run, parts, 0, worker="other", session=session, folder="b")
    with catalog.write() as connection:  # it has gone
        assert claim(connection, run, parts, 0, worker="other", session=session, folder="b").taken_from == {"a"}
    with pytest.raises(LockedError, match="another worker has taken this part over"), catalog.write() as connection:
        first.guard(connection)
    with pytest.raises(LockedError, match=r"the phase .* has ended"), catalog.write() as connection:
        claim(connection, run, "another phase", 5, worker="other", session=session, folder="b")


def test_two_workers_on_one_file_do_not_destroy_each_others_temporary_files(tmp_path: Path) -> None:
    """One was stopped after it had laid its file; the other has its part, and goes on."""
    paused, other = (FileStore(FileAddress(str(tmp_path)), "run") for _worker in range(2))
    for store in (paused, other):
        store.prepare(create=False)
    key, data = f"{md5(b'u')}/bucket/aa/document.json", b"the document"
    write = Write(key, data, md5(data))
    paused._laid(write)
    other.remove_temporaries([key])
    assert other.write([write])[key].md5 == md5(data)  # type: ignore[union-attr]
    answer = paused.outcome(paused._named, write)
    assert isinstance(answer, Exception)
    assert (tmp_path / key).read_bytes() == data
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name.endswith(".tmp")] == []


class Nowhere:
    """A carrier that never answers."""

    patience: float | None = 0.0

    def __init__(self, width: Callable[[], int] = lambda: 1) -> None:
        self.width = width

    def submit(self, _part: Part) -> Future[PartResult]:
        return Future()

    def overdue(self, given: Mapping[int, float], quiet: float) -> set[int]:
        return set(given)

    def check(self) -> None:
        """Lead."""

    def name_of(self, part: Part) -> str:
        return f"{part.documents} documents"


def dispatched(carrier: Nowhere, control: Control | None = None) -> None:
    parts = [Part(first, first, 1, 1) for first in range(9)]
    dispatch.Dispatch(control or Control(), carrier, lambda _part, _result: None).run(parts)


def test_a_signal_ends_the_wait_for_workers_that_never_answer() -> None:
    control = Control()
    threading.Timer(0.5, setattr, (control, "signal", 2)).start()
    with pytest.raises(Interrupted):
        dispatched(Nowhere(), control)


def test_workers_that_have_all_gone_with_the_last_parts_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_NOBODY_SECONDS", 0.5)
    widths = iter([8] * 9)
    with pytest.raises(EngineError, match="there has been no worker"):
        dispatched(Nowhere(lambda: next(widths, 0)))


def test_parts_that_nobody_ever_does_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(dispatch, "_REMINDERS", 2)
    with pytest.raises(EngineError, match="2 times nobody did a part that was given out, 1 documents"):
        dispatched(Nowhere())


def test_copies_that_vanished_are_staged_anew_though_the_answer_that_said_so_was_lost(archive: World) -> None:
    truth = planned(archive)
    archive.apply("p.json", stage_only=True)
    next((archive.folder / "archive").rglob("*.json")).unlink()
    archive.apply("p.json", engine=Forgetful(setup(archive)))
    is_moved(archive, truth)


def test_failures_whose_answers_were_lost_count(archive: World) -> None:
    archive.sql("UPDATE archive_metadata SET digest = 'd41d8cd98f00b204e9800998ecf8427e'")
    archive.plan(archive.folder / "config.yaml", archive.folder / "dest.yaml")
    engine = Forgetful(setup(archive))
    with pytest.raises(ReconcileError, match=r"more than --max-failures allows|staging stopped"):
        archive.apply("p.json", engine=engine, max_failures=Share(0))
    assert archive.sql("SELECT count(*) FROM reconcile_moves WHERE state = 'planned'")[0][0] > 0


def test_what_may_have_to_make_room_is_staged_by_the_leading_process(archive: World) -> None:
    planned(archive)
    archive.apply("p.json", stage_only=True)
    archive.plan(archive.folder / "config.yaml", archive.folder / "dest.yaml", "q.json", limit=20)
    engine = Forgetful(setup(archive))
    archive.apply("q.json", engine=engine)
    assert engine.messages > 0  # of the look before the switch
    assert archive.sql("SELECT coalesce(sum(documents), 0) FROM reconcile_workers") == [(0,)]


def test_workers_of_a_run_work_for_its_undo(archive: World) -> None:
    """They have the configs in the order of the run."""
    before = contents(archive)
    planned(archive)
    archive.apply("p.json")
    engine = processes(archive)
    try:
        archive.apply("p.undo.json", engine=engine)
    finally:
        engine.close()
    assert contents(archive) == before


def test_workers_in_another_time_zone_know_who_leads(archive: World, catalog: Catalog) -> None:
    with executing(catalog, 5) as executor, ExitStack() as stack:
        url = f"{archive.url}?options=-c%20timezone%3DAsia/Tokyo"
        elsewhere = connect(DatabaseOptions(url=Secret(url)))
        stack.callback(elsewhere.close)
        led_by(elsewhere, executor.token).check()


def test_a_role_that_does_not_see_who_leads_is_told_of(archive: World, catalog: Catalog) -> None:
    role = f"stranger_{md5(archive.url.encode())[:8]}"
    archive.sql(f"CREATE ROLE {role} LOGIN")
    with executing(catalog, 5) as executor, ExitStack() as stack:
        archive.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        url = sa.make_url(archive.url).set(username=role).render_as_string()
        strange = connect(DatabaseOptions(url=Secret(url)))
        stack.callback(strange.close)
        with pytest.raises(ConfigError, match=f"role {role} of this worker cannot see") as caught:
            led_by(strange, executor.token)
        assert caught.value.hint is not None
        assert f"GRANT pg_read_all_stats TO {role};" in caught.value.hint


def test_who_has_lost_the_lock_does_not_blame_the_workers(archive: World) -> None:
    class Ending(Hostile):
        def submit(self, message: Message) -> Future[Message]:
            archive.sql("SELECT pg_terminate_backend(session) FROM reconcile_executors WHERE ended_at IS NULL")
            return super().submit(message)

    planned(archive)
    with pytest.raises(LockedError, match="the lock was lost"):
        archive.apply("p.json", engine=Ending(setup(archive)))


def test_a_process_loads_nothing_from_the_working_directory(archive: World) -> None:
    truth = planned(archive)
    (archive.folder / "structlog.py").write_text("raise SystemExit('loaded from the working directory')\n")
    engine = processes(archive, 1)
    try:
        archive.apply("p.json", engine=engine)
    finally:
        engine.close()
    is_moved(archive, truth)


@pytest.mark.matrix
def test_a_worker_that_was_stopped_in_a_transaction_and_goes_on_ends_no_run(archive: World) -> None:
    truth = planned(archive)
    engine = processes(archive, 2, "tests.engines.tasks:stops_for_a_while")
    try:
        archive.apply("p.json", engine=engine)
    finally:
        engine.close()
    is_moved(archive, truth)
