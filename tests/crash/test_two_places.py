"""Two data dirs under any order of plans, applies, undos, kills, pauses with takeovers, restores, and lost mounts.

After every step each document is readable, or, where the database was restored and is older than the data dirs, still
there in one of them (R1). At the end everything goes to the destination and back.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from examples.service_reader import read_all
from reconcile import verbs
from reconcile.control import Control
from reconcile.errors import ReconcileError
from reconcile.running.clean_kept import clean as clean_kept
from reconcile.running.phases import clean_part, order, rollback, stage_part, switch
from reconcile.running.phases.options import RunOptions
from reconcile.running.record.configs import configs_of
from reconcile.running.record.records import find_runs
from reconcile.secret import Secret
from reconcile.stores.localfs import FileStore
from reconcile.stores.owner_folder import OwnerFolder
from tests.archives import md5, new_sqlite
from tests.crash.test_broken_builds import Killed
from tests.world import DB, World, localfs

NAMES = ("a", "b", "c/d", "e:f")
MOMENTS: list[tuple[Any, str]] = [
    (stage_part.PartStager, "_record"),
    (FileStore, "write"),
    (switch.Switcher, "recheck"),
    (switch.Switcher, "switch"),
    (clean_part.PartCleaner, "_mark"),
    (FileStore, "delete"),
    (FileStore, "_remove"),
    (OwnerFolder, "take_aside"),
    (OwnerFolder, "give_back"),
    (rollback.Dropper, "_mark"),
    (rollback.Dropper, "_drop_batch"),
    (order.Phases, "_finish"),
]
MOMENT = st.tuples(st.sampled_from(MOMENTS), st.integers(1, 3), st.booleans())
VERBS = st.sampled_from(["apply", "apply", "undo", "clean"])
_PATIENCE_SECONDS = 60


class Paused:
    """A verb in a thread that stands still at a moment, until it is let go on."""

    def __init__(self, moment: Any, action: Callable[[], None]) -> None:
        self.patch, self.go, self.stands = pytest.MonkeyPatch(), threading.Event(), threading.Event()
        (owner, name), nth, after = moment
        original, calls = getattr(owner, name), [0]

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            mine = calls[0] == nth
            if mine and not after:
                self._stand()
            result = original(*args, **kwargs)
            if mine and after:
                self._stand()
            return result

        self.patch.setattr(owner, name, wrapper)
        self.thread = threading.Thread(target=self._run, args=(action,), daemon=True)
        self.thread.start()
        while self.thread.is_alive() and not self.stands.wait(0.01):
            pass

    def _stand(self) -> None:
        self.stands.set()
        self.go.wait(_PATIENCE_SECONDS)

    def _run(self, action: Callable[[], None]) -> None:
        with contextlib.suppress(ReconcileError):
            action()

    def end(self) -> None:
        """Let it go on to its end."""
        self.go.set()
        self.thread.join(_PATIENCE_SECONDS)
        assert not self.thread.is_alive()
        self.patch.undo()


class TwoPlaces(RuleBasedStateMachine):
    """An archive between the data dirs ``one`` and ``two``."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory(prefix="reconcile-places-")
        self.folder = Path(self.temporary.name)
        self.world = World(self.folder, new_sqlite(self.folder))
        self.truth = {name: name.encode() * 3 for name in NAMES}
        self.plans = 0
        self.paused: Paused | None = None
        self.dump: sqlite3.Connection | None = None
        self.is_older = False
        self.unmounted: str | None = None

    def teardown(self) -> None:
        try:
            self.end_pause()
            self.mount()
            self.there_and_back()
        finally:
            self.temporary.cleanup()

    @initialize()
    def begin(self) -> None:
        for name, data in self.truth.items():
            self.world.add(name, data)
        start = self.world.config("start", DB)
        self.one = self.world.config("one", localfs(self.folder / "one"))
        self.two = self.world.config("two", localfs(self.folder / "two"))
        self.world.apply(self.world.plan(start, self.one, "setup.json"))

    @precondition(lambda self: self.plans < 5 and not self.unmounted)
    @rule(keep_source=st.booleans())
    def plan(self, *, keep_source: bool) -> None:
        self.plans += 1
        self.world.plan(self.one, self.two, f"{self.plans}.json", keep_source=keep_source)

    @precondition(lambda self: self.plans)
    @rule(verb=VERBS, back=st.integers(0, 2), kill=st.none() | MOMENT, stage_only=st.booleans())
    def act(self, verb: str, back: int, kill: Any, *, stage_only: bool) -> None:
        """Do something, perhaps killed on the way; it may be refused, with a reason."""
        self.lose_lock()
        with pytest.MonkeyPatch.context() as patched:
            if kill is not None:
                self.arm(patched, *kill)
            with contextlib.suppress(Killed, ReconcileError):
                self.verb(verb, back, stage_only=stage_only)()

    @precondition(lambda self: self.plans and self.paused is None)
    @rule(verb=VERBS, back=st.integers(0, 2), moment=MOMENT)
    def pause(self, verb: str, back: int, moment: Any) -> None:
        self.lose_lock()
        self.paused = Paused(moment, self.verb(verb, back, stage_only=False))

    @precondition(lambda self: self.paused is not None)
    @rule()
    def end_pause(self) -> None:
        if self.paused is not None:
            self.paused.end()
            self.paused = None

    @precondition(lambda self: self.paused is None)
    @rule()
    def save_database(self) -> None:
        self.dump = sqlite3.connect(":memory:", check_same_thread=False)
        with contextlib.closing(sqlite3.connect(self.folder / "anchore.db")) as live:
            live.backup(self.dump)
        self.dump_is_older = self.is_older

    @precondition(lambda self: self.dump is not None and self.paused is None)
    @rule()
    def restore_database(self) -> None:
        assert self.dump is not None
        with contextlib.closing(sqlite3.connect(self.folder / "anchore.db")) as live:
            self.dump.backup(live)
        self.is_older = True

    @precondition(lambda self: self.unmounted is None and self.paused is None and self.plans)
    @rule(name=st.sampled_from(["one", "two"]))
    def unmount(self, name: str) -> None:
        if (self.folder / name).exists():
            (self.folder / name).rename(self.folder / f"{name}.away")
            (self.folder / name).mkdir()
            self.unmounted = name

    @precondition(lambda self: self.unmounted and self.paused is None)
    @rule()
    def mount(self) -> None:
        if self.unmounted is not None:
            stray = list((self.folder / self.unmounted).rglob("*.json"))
            assert not stray, "documents were written to a data dir that is not mounted"
            (self.folder / self.unmounted).rename(self.folder / f"stray-{os.urandom(4).hex()}")
            (self.folder / f"{self.unmounted}.away").rename(self.folder / self.unmounted)
            self.unmounted = None

    @precondition(lambda self: not self.unmounted and not self.is_older and self.paused is None)
    @rule(name=st.sampled_from(NAMES))
    def a_copy_disappears(self, name: str) -> None:
        """One that no row leads to: a kept source, or a staged copy."""
        paths = self.paths(name)
        pointed = {url.removeprefix("file://") for url in self.world.urls()}
        for path in paths:
            if path.exists() and str(path) not in pointed:
                path.unlink()

    @invariant()
    def everything_is_readable(self) -> None:
        if not hasattr(self, "two") or self.unmounted:
            return
        if self.is_older:
            for name, data in self.truth.items():
                contents = [path.read_bytes() for path in self.everywhere(name)]
                assert data in contents, f"the last copy of {name} is gone"
            return
        assert {name[2]: data for name, data in read_all(self.one).items()} == self.truth

    def everywhere(self, name: str) -> list[Path]:
        """Return the files of a document, also those that an executor has taken aside."""
        found = [path for path in self.paths(name) if path.exists()]
        key = self.paths(name)[0].relative_to(self.folder / "one")
        return found + list(self.folder.glob(f"*/{md5(b'reconcile')}/*/{md5(str(key).encode())}.json"))

    def paths(self, name: str) -> list[Path]:
        digest = md5(name.encode())
        return [
            self.folder / place / md5(b"admin") / "policy_bundles" / digest[:2] / f"{digest}.json"
            for place in ("one", "two")
        ]

    def verb(self, verb: str, back: int, *, stage_only: bool) -> Callable[[], None]:
        path, options = self.folder / f"{max(1, self.plans - back)}.json", RunOptions(workers=1, stage_only=stage_only)
        if verb == "apply":
            return lambda: verbs.apply(verbs.prepare(path), options=options)

        def on_run() -> None:
            with verbs.opened(verbs.DatabaseOptions(url=Secret(self.world.url))) as catalog:
                runs = [r for r in find_runs(catalog) if r.undo_of is None and "setup" not in r.plan_path]
                for run in runs[back : back + 1]:
                    if verb == "undo":
                        prepared = verbs.undo_plan_of(catalog, run.run_id, None, None)
                        verbs.carry_out(catalog, prepared, RunOptions(workers=1))
                    else:
                        desired = configs_of(run.header, None, None)
                        clean_kept(catalog, run.run_id, desired, RunOptions(workers=1), Control())

        return on_run

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

    def lose_lock(self) -> None:
        """Have a paused verb lose its lock, as a database session that ended does."""
        (self.folder / "anchore.db.reconcile-lock").unlink(missing_ok=True)

    def there_and_back(self) -> None:
        """Whatever came before: what is staged is applied or undone, then a new plan goes through."""
        self.lose_lock()
        with verbs.opened(verbs.DatabaseOptions(url=Secret(self.world.url))) as catalog:
            for run in find_runs(catalog):
                if run.undo_of is None and run.state not in ("done", "undone"):
                    self.finish(catalog, run)
        self.is_older = False
        self.everything_is_readable()
        plan = self.world.plan(self.one, self.two, "last.json")
        self.world.apply(plan, workers=1)
        self.everything_is_readable()
        assert all("/two/" in url for url in self.world.urls())

    def finish(self, catalog: Any, run: Any) -> None:
        """Finish a run in the way that its own messages say: go on with it, or else take it back."""
        try:
            if run.state == "undoing":
                verbs.carry_out(catalog, verbs.undo_plan_of(catalog, run.run_id, None, None), RunOptions(workers=1))
            else:
                self.world.apply(Path(run.plan_path).name, workers=1)
        except ReconcileError as error:
            if "applying the plan again" in f"{error.message} {error.hint}".lower() or "reconcile apply" in str(
                error.hint
            ):
                self.world.apply(Path(run.plan_path).name, workers=1)
                return
            with contextlib.suppress(ReconcileError):
                verbs.carry_out(catalog, verbs.undo_plan_of(catalog, run.run_id, None, None), RunOptions(workers=1))


TestTwoPlaces = TwoPlaces.TestCase
TestTwoPlaces.settings = settings(
    max_examples=int(os.environ.get("SOAK_EXAMPLES", "4")),
    stateful_step_count=25,
    deadline=None,
    derandomize="SOAK_EXAMPLES" not in os.environ,  # the same histories every time, but for make soak
    print_blob=True,
)
TestTwoPlaces = pytest.mark.timeout(7200)(TestTwoPlaces)
