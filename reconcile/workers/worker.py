"""A worker: does the parts that it is given, with configs, credentials and connections of its own.

What it needs for a run is opened with the run's first part and kept. It works only while the process that leads the run
holds the lock: the database says so at each record.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import Any

import msgspec
import sqlalchemy as sa
from attrs import define, evolve, field

from reconcile.catalog import Catalog, connect
from reconcile.control import PIPELINES, Control
from reconcile.engines import Message, Setup
from reconcile.errors import (
    BusyError,
    CatalogError,
    ConfigError,
    MissingPrivilegeError,
    PlaceChangedError,
    ReconcileError,
    SupersededError,
)
from reconcile.logs import get_logger
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import PlanHeader
from reconcile.running.phases.clean_part import CleanedPart, PartCleaner
from reconcile.running.phases.context import RunContext, StorePool, open_stores
from reconcile.running.phases.look_part import Looked, PartLooker
from reconcile.running.phases.options import RunOptions
from reconcile.running.phases.place_check import PlaceCheck
from reconcile.running.phases.stage_part import PartStager
from reconcile.running.record.claims import claim
from reconcile.running.record.configs import configs_of
from reconcile.running.record.crew import note_work
from reconcile.running.record.executor import executor_name, led_by, note_folder
from reconcile.running.record.identity import database_text
from reconcile.running.record.parts import Part, PartResult
from reconcile.running.record.place_record import is_same_place, place_text
from reconcile.running.record.records import RunRecord, find_run
from reconcile.running.record.run import Run
from reconcile.running.record.tables import places
from reconcile.secret import scrub
from reconcile.stores import Store
from reconcile.workers.at_work import AtWork
from reconcile.workers.reading import READINGS, Reading, database_config, refuse_other_version

_IDLE_SECONDS = 10  # that a transaction stands still before the server ends it: who has this part next waits for that

log = get_logger()


@define
class Worker:
    """Answers messages, on as many threads at once as call it."""

    setup: Setup
    _lock: threading.Lock = field(factory=threading.Lock)
    _task: Task | None = None
    _reading: Reading | None = None

    def __call__(self, message: Message) -> Message:
        """Do the part of a message; return what came of it, or the error that it ended with."""
        try:
            return {"worker": executor_name(), **self._done(message)}
        except BusyError as error:
            return {"worker": executor_name(), "busy": scrub(error.message)}
        except SupersededError as error:
            return {"worker": executor_name(), "lost": scrub(error.message)}
        except ReconcileError as error:
            kind, hint = type(error).__name__, scrub(error.hint) if error.hint else None
            said = {"kind": kind, "message": scrub(error.message), "hint": hint}
        except Exception as error:
            log.exception("a part failed", phase="stage")
            text = scrub(f"a worker failed: {type(error).__name__}: {error}")
            said = {"kind": "EngineError", "message": text, "hint": None}
        return {"worker": executor_name(), "error": said}

    def _done(self, message: Message) -> Message:
        if message["task"] in READINGS:
            return self._read(message)
        task = self._task_of(message)
        try:
            result = task.do(message["task"], message["parts"], msgspec.convert(message["part"], Part))
        except MissingPrivilegeError:
            raise
        except SupersededError:
            self._let_go(task)
            raise
        except CatalogError as error:  # a connection that broke, a server that restarts: another attempt may do
            self._let_go(task)
            return {"lost": scrub(error.message)}
        return {"result": msgspec.to_builtins(result)}

    def _read(self, message: Message) -> Message:
        """Do a part of an audit or a probe; what is open for it is kept until another one comes."""
        refuse_other_version(message)
        with self._lock:
            if self._reading is None or self._reading.key != message["audit"]:
                before, self._reading = self._reading, READINGS[message["task"]](self.setup, message)
                if before is not None:
                    before.close()
            reading = self._reading
        try:
            return {"result": msgspec.to_builtins(reading.do(msgspec.convert(message["part"], Part)))}
        except MissingPrivilegeError:
            raise
        except CatalogError as error:
            return {"lost": scrub(error.message)}

    def check(self) -> None:
        """Raise unless the database is named and answers: a worker that cannot work is to end, not to take parts."""
        connect(self.setup.database, database_config(self.setup)).close()

    def _let_go(self, task: Task) -> None:
        """Open all anew with the next part: the directory to take files aside to may have been taken away."""
        with self._lock:
            if self._task is task:
                self._task = None
        task.at_work.close()

    def _task_of(self, message: Message) -> Task:
        """Return what is open for the message's run; opened now, if that is another than the last one."""
        key = (message["run"], message["token"], message["epoch"])
        with self._lock:
            if self._task is None or self._task.key != key:
                refuse_other_version(message)
                before, self._task = self._task, Task.open(self.setup, message)
                if before is not None:
                    before.at_work.close()
            return self._task


@define
class Task:
    """One attempt at one run, as a worker has it open."""

    key: tuple[str, str, int]
    catalog: Catalog
    context: RunContext
    at_work: AtWork
    largest: int
    _stager: PartStager | None = None
    _places: PlaceCheck | None = None
    _lock: threading.Lock = field(factory=threading.Lock)

    @classmethod
    def open(cls, setup: Setup, message: Message) -> Task:
        """Open database and stores. Raises `ConfigError` or `PlaceChangedError` where they are not those of the run."""
        run_id, token, epoch = message["run"], message["token"], message["epoch"]
        options = evolve(setup.database, pool_size=3 * setup.threads, idle_timeout=_IDLE_SECONDS)
        catalog = connect(options, database_config(setup))
        try:
            record = find_run(catalog, run_id)
            if record is None:
                here = database_text({"identity": catalog.identity})
                raise ConfigError(f"the worker's database, {here}, has no run {run_id}: it is another")
            executor = led_by(catalog, token)
            run = Run(catalog, record, epoch, executor)
            desired = _desired(setup, record.header)
            pool = StorePool.of(run, desired, RunOptions(workers=message["workers"]))
            stores = open_stores(run, pool, create=False)
            _refuse_other_places(catalog, record, stores)
            # Disks of two machines may agree in inode and file system. Servers are told apart by their addresses.
            PlaceCheck.on_record(run, {name: store for name, store in stores.items() if "inode" in store.place()})
            context = RunContext(run, desired, stores, Control(), PIPELINES)
            note_folder(executor)
            at_work = AtWork(catalog, _end)
            executor.held = at_work.held
            at_work.start()
        except BaseException:
            catalog.close()
            raise
        return cls((run_id, token, epoch), catalog, context, at_work, message["largest"])

    def do(self, task: str, parts: str, part: Part) -> PartResult | Looked | CleanedPart:
        """Claim a part of a phase, do with it what the task says, give it back.

        Raises `BusyError` while another worker has it, `SupersededError` if the phase is over, or another claimed it.
        """
        run, who = self.context.run, executor_name()
        assert run.executor is not None  # noqa: S101 - opened so
        with self.at_work.part() as session:
            with run.writing() as connection:
                folder = run.executor.folder
                mine = claim(connection, run.run_id, parts, part.first, worker=who, session=session, folder=folder)
                note_work(connection, run.run_id, who, 0, 0)
            with self.at_work.showing(mine):
                result = self._tasks[task](evolve(self.context, run=evolve(run, claim=mine)), part)
            with self.catalog.write() as connection:
                mine.give_back(connection)
                if isinstance(result, PartResult):
                    note_work(connection, run.run_id, who, result.documents, result.size)
        return result

    @property
    def _tasks(self) -> dict[str, Callable[[RunContext, Part], PartResult | Looked | CleanedPart]]:
        return {"stage": self._stage, "look": _look, "clean": self._clean}

    def _clean(self, context: RunContext, part: Part) -> CleanedPart:
        """Clean a part with a claim on it; the places are checked once."""
        with self._lock:
            if self._places is None:
                self._places = PlaceCheck.on_record(self.context.run, self.context.stores)
        return PartCleaner(context, self._places).clean(part)

    def _stage(self, context: RunContext, part: Part) -> PartResult:
        """Stage a part with a claim on it; what holds for the whole run is learnt once."""
        with self._lock:
            if self._stager is None:
                self._stager = PartStager(self.context, self.largest, lambda _place: False)
        stager = copy(self._stager)
        stager.context = context
        return stager.stage(part)


def _look(context: RunContext, part: Part) -> Looked:
    return PartLooker(context).look(part)


def _end() -> None:
    """End this process: what it still writes would be kept apart from nothing any more."""
    log.error("the session that says that this worker is at work is gone: the worker ends")
    os._exit(1)


def _desired(setup: Setup, header: PlanHeader) -> DesiredState:
    """Return the configs of a run. A worker's stand for an undo, too, which leads from the second to the first."""
    source, dest = setup.source, setup.dest
    if any(path is not None and not path.exists() for path in (source, dest)):  # the leader does without them, too
        return configs_of(header, source, dest, anywhere=True)
    try:
        return configs_of(header, source, dest)
    except ConfigError:
        if source is None or dest is None:
            raise
        with suppress(ConfigError):
            return configs_of(header, dest, source)
        raise


def _refuse_other_places(catalog: Catalog, record: RunRecord, stores: dict[str, Store]) -> None:
    query = sa.select(places.c.name, places.c.details).where(places.c.run_id == record.run_id)
    with catalog.read() as connection:
        recorded: dict[str, Any] = {row.name: row.details for row in connection.execute(query)}
    for name, store in stores.items():
        if name in recorded and not is_same_place(msgspec.json.decode(recorded[name]), store.place()):
            raise PlaceChangedError(
                f"{name} is not the same place for this worker: the run has {place_text(recorded[name])}, the worker"
                f" {place_text(msgspec.json.encode(store.place()))}; nothing was done by it",
                hint="is the same data dir mounted there, at the same path?",
            )
