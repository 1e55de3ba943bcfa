"""A small archive under any order of plans, applies, kills, undos and services: R1 and R2 after every step.

At the end everything goes to the destination and back: R5, R6.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from examples.service_reader import read_all
from reconcile import verbs
from reconcile.errors import ReconcileError
from reconcile.running.phases import clean_part, order, rollback, stage_part, switch
from reconcile.running.phases.options import RunOptions
from reconcile.running.record.records import find_runs
from reconcile.secret import Secret
from reconcile.stores.localfs import FileStore
from reconcile.stores.tables import TableStore
from tests.archives import md5, new_sqlite
from tests.crash.test_broken_builds import Killed
from tests.world import DB, World, localfs

NAMES = st.sampled_from(["a", "b", "c/d", "e:f", "g", "h"])
MOMENTS: list[tuple[Any, str]] = [
    (stage_part.PartStager, "_record_intent"),
    (stage_part.PartStager, "_record"),
    (FileStore, "write"),
    (TableStore, "write"),
    (switch.Switcher, "recheck"),
    (order.Phases, "_write_undo_plan"),
    (switch.Switcher, "_repoint"),
    (switch.Switcher, "switch"),
    (clean_part.PartCleaner, "_mark"),
    (FileStore, "delete"),
    (TableStore, "delete"),
    (rollback.Dropper, "_drop_batch"),
    (order.Phases, "_finish"),
]
KILLS = st.none() | st.tuples(st.sampled_from(MOMENTS), st.integers(1, 3), st.booleans())


class Archive(RuleBasedStateMachine):
    """Documents by archiveId as they should be read, whatever happened."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory(prefix="reconcile-machine-")
        self.world = World(Path(self.temporary.name), new_sqlite(Path(self.temporary.name)))
        self.source = self.world.config("config", DB)
        self.dest = self.world.config("dest", localfs(self.world.folder / "archive"))
        self.truth: dict[str, bytes] = {}
        self.plans = 0
        self.clock = int(time.time()) - 1800  # services' clocks may be behind

    def teardown(self) -> None:
        try:
            self.there_and_back()
        finally:
            self.temporary.cleanup()

    @property
    def moved(self) -> bool:
        return any(url.startswith("file:") for url in self.world.urls())

    @initialize()
    def begin(self) -> None:
        for name in ("a", "b", "c/d"):
            self.service_writes(name, name.encode())

    @rule(name=NAMES, data=st.binary(max_size=20))
    def service_writes(self, name: str, data: bytes) -> None:
        """Add or overwrite a document, as a service with the config of the moment does."""
        self.clock += 1
        row = {"last_updated": self.clock, "created_at": self.clock}
        old = self.world.sql('SELECT 1 FROM archive_metadata WHERE "archiveId" = %s', name)
        if old:
            self.service_deletes(name)
        if self.moved:
            path = self.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self.world.row(name, data, content_url=f"file://{path}", **row)
        else:
            self.world.sql('DELETE FROM archive_document WHERE "archiveId" = %s', name)
            self.world.add(name, data, **row)
        self.truth[name] = data

    @rule(name=NAMES)
    def service_deletes(self, name: str) -> None:
        if self.moved:
            self.path(name).unlink(missing_ok=True)
        else:
            self.world.sql('DELETE FROM archive_document WHERE "archiveId" = %s', name)
        self.world.sql('DELETE FROM archive_metadata WHERE "archiveId" = %s', name)
        self.truth.pop(name, None)

    @rule(name=NAMES)
    def somebody_edits_a_row(self, name: str) -> None:
        self.world.sql(
            'UPDATE archive_metadata SET document_metadata = \'{"by": "hand"}\' WHERE "archiveId" = %s', name
        )

    def path(self, name: str) -> Path:
        digest = md5(name.encode())
        return self.world.folder / "archive" / md5(b"admin") / "policy_bundles" / digest[:2] / f"{digest}.json"

    @precondition(lambda self: self.plans < 6)
    @rule()
    def plan(self) -> None:
        self.plans += 1
        self.world.plan(self.source, self.dest, f"{self.plans}.json")

    @precondition(lambda self: self.plans)
    @rule(kill=KILLS, back=st.integers(0, 1))
    def apply(self, kill: Any, back: int) -> None:
        path = self.world.folder / f"{max(1, self.plans - back)}.json"
        self.attempt(kill, lambda: verbs.apply(verbs.prepare(path), options=RunOptions(workers=1)))

    @rule(kill=KILLS, with_changes=st.booleans(), which=st.integers(0, 2))
    def undo(self, kill: Any, which: int, *, with_changes: bool) -> None:
        with verbs.opened(verbs.DatabaseOptions(url=Secret(self.world.url))) as catalog:
            runs = [run for run in find_runs(catalog) if run.undo_of is None][which : which + 1]
            for run in runs:
                self.attempt(kill, lambda run=run: self.take_back(catalog, run.run_id, with_changes=with_changes))

    def take_back(self, catalog: Any, run_id: str, *, with_changes: bool) -> None:
        prepared = verbs.undo_plan_of(catalog, run_id, None, None, with_changes=with_changes)
        verbs.carry_out(catalog, prepared, RunOptions(workers=1))

    def attempt(self, kill: Any, action: Any) -> None:
        """Do something, perhaps killed on the way; it may be refused, with a reason."""
        with pytest.MonkeyPatch.context() as patched:
            if kill is not None:
                self.arm(patched, *kill)
            with contextlib.suppress(Killed, ReconcileError):
                action()

    def arm(self, patched: pytest.MonkeyPatch, moment: tuple[Any, str], nth: int, after: bool) -> None:
        owner, name = moment
        original, calls = getattr(owner, name), [0]

        def killed(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == nth and not after:
                raise Killed
            result = original(*args, **kwargs)
            if calls[0] == nth:
                raise Killed
            return result

        patched.setattr(owner, name, killed)

    @invariant()
    def everything_is_readable(self) -> None:
        """R1, R2: a service with the one config, or with the other, reads everything as it should be."""
        read = [{name[2]: data for name, data in read_all(config).items()} for config in (self.source, self.dest)]
        assert self.truth in read

    def there_and_back(self) -> None:
        """Whatever came before: a new plan goes through, leaves nothing behind, and comes back."""
        world = self.world
        if not self.moved and self.truth:
            self.settle()
            before = world.tables()
            plan = world.plan(self.source, self.dest, "last.json")
            assert world.apply(plan, workers=1).documents == len(self.truth)
            self.everything_is_readable()
            assert world.sql("SELECT count(*) FROM archive_document") == [(0,)]
            world.undo("last.undo.json", workers=1)
            assert world.tables() == before
        self.everything_is_readable()

    def settle(self) -> None:
        """Take back what never switched, so that no staged copy is left of it."""
        with verbs.opened(verbs.DatabaseOptions(url=Secret(self.world.url))) as catalog:
            for run in find_runs(catalog):
                if run.undo_of is None and run.state in ("staging", "undoing") and run.switched_at is None:
                    self.take_back(catalog, run.run_id, with_changes=False)


TestArchive = Archive.TestCase
TestArchive.settings = settings(
    max_examples=int(os.environ.get("SOAK_EXAMPLES", "12")),
    stateful_step_count=25,
    deadline=None,
    derandomize="SOAK_EXAMPLES" not in os.environ,  # the same histories every time, but for make soak
    print_blob=True,
)
TestArchive = pytest.mark.timeout(3600)(TestArchive)
