"""A test of the tests: for every rule a build that breaks it on purpose, and the judge that must catch it.

Each judge passes on the product as it is, and fails on the broken build.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from attrs import evolve

from reconcile import secret
from reconcile.catalog.tables import archive_metadata
from reconcile.errors import ReconcileError
from reconcile.planning.model import Pinned
from reconcile.running.phases import order, undo_plan
from reconcile.running.phases.order import Phases
from reconcile.running.phases.stage import Stager
from reconcile.running.phases.switch import Switcher
from reconcile.running.record.records import StateCounts
from reconcile.running.record.result import Outcome
from reconcile.running.record.run import Run
from reconcile.running.record.states import MoveState
from reconcile.running.record.tables import moves, same_row
from reconcile.stores.localfs import FileStore
from reconcile.stores.per_object import DocumentStore
from tests.archives import new_sqlite
from tests.world import DB, World, localfs

Patch = pytest.MonkeyPatch


class Killed(BaseException):
    """As SIGKILL, as far as a process can do it to itself."""


@pytest.fixture
def lite(folder: Path) -> World:
    world = World(folder, new_sqlite(folder))
    world.fill(12)
    world.config("config", DB)
    world.config("dest", localfs(folder / "archive"))
    return world


def source(world: World) -> Path:
    return world.folder / "config.yaml"


def dest(world: World) -> Path:
    return world.folder / "dest.yaml"


def kill_at(patch: Patch, owner: Any, name: str, *, after: bool = False) -> None:
    original = getattr(owner, name)

    def killed(*args: Any, **kwargs: Any) -> Any:
        if after:
            original(*args, **kwargs)
        raise Killed

    patch.setattr(owner, name, killed)


def judge_readable(world: World, _patch: Patch) -> None:
    """R1, R2: killed just before the switch or inside it, a service reads all by the one config or the other."""
    truth = world.read(source(world))
    world.plan(source(world), dest(world))
    for name in ("switch", "_record_tasks"):
        with pytest.MonkeyPatch.context() as patched:
            kill_at(patched, Switcher, name)
            with contextlib.suppress(Killed):
                world.apply("p.json")
        assert truth in (world.read(source(world)), world.read(dest(world)))


def judge_vanished(world: World, patch: Patch) -> None:
    """R3: a copy that vanishes before the switch is not pointed at."""
    truth = world.read(source(world))
    world.plan(source(world), dest(world))
    original = Phases._require_all_staged

    def lose(self: Phases, counts: StateCounts) -> None:
        original(self, counts)
        for path in list((world.folder / "archive").rglob("*.json"))[:1]:
            path.unlink()
        patch.setattr(Phases, "_require_all_staged", original)

    patch.setattr(Phases, "_require_all_staged", lose)
    world.apply("p.json")
    assert world.read(dest(world)) == truth


def judge_stale(world: World, _patch: Patch) -> None:
    """R4: a row that changed since the plan stops the switch."""
    world.plan(source(world), dest(world))
    kept = world.sql('SELECT "archiveId" FROM archive_metadata ORDER BY 1')[0][0]
    with pytest.MonkeyPatch.context() as patched:
        original = Switcher.recheck

        def edit(self: Switcher, stager: Stager) -> None:
            original(self, stager)
            world.sql('UPDATE archive_metadata SET last_updated = 5 WHERE "archiveId" = %s', kept)

        patched.setattr(Switcher, "recheck", edit)
        with contextlib.suppress(ReconcileError):
            world.apply("p.json")
    assert all(url.startswith("db://") for url in world.urls())


def judge_undo(world: World, _patch: Patch) -> None:
    """R5: every column of every row."""
    world.sql("UPDATE archive_metadata SET is_compressed = NULL, size = NULL")
    before = world.tables()
    world.plan(source(world), dest(world))
    world.apply("p.json")
    world.undo()
    assert world.tables() == before


def judge_resume(world: World, patch: Patch) -> None:
    """R6: what is confirmed is not copied again."""
    written: list[object] = []
    original = FileStore._laid

    def laid(self: FileStore, write: Any, **how: Any) -> Any:
        written.append(write.key)
        return original(self, write, **how)

    patch.setattr(FileStore, "_laid", laid)
    world.plan(source(world), dest(world))
    with pytest.MonkeyPatch.context() as patched:
        kill_at(patched, Switcher, "recheck")
        with contextlib.suppress(Killed):
            world.apply("p.json")
    world.apply("p.json")
    assert len(written) == len(set(written)) == 12


def judge_honest(world: World, _patch: Patch) -> None:
    """R7: a document that cannot be moved makes the command fail."""
    world.sql("UPDATE archive_document SET jsondata = 'damaged' WHERE \"archiveId\" = 'sha256:0003'")
    world.plan(source(world), dest(world))
    with pytest.raises(ReconcileError, match="sha256:0003"):
        world.apply("p.json")


def judge_discreet(world: World, _patch: Patch) -> None:
    """R8: no credential in the plan."""
    from reconcile.config import model

    backend = model.Backend("object_store", "s3", {"bucket": "b", "secret_key": secret.Secret("canary")})
    assert "canary" not in f"{backend.as_config()} {backend.describe()} {secret.Secret('canary')}"
    assert world.folder


def delete_early(patch: Patch) -> None:
    """Delete the sources before the switch."""
    original = Phases._write_undo_plan

    def broken(self: Phases) -> None:
        with self.run.writing() as connection:
            connection.exec_driver_sql("DELETE FROM archive_document")
        original(self)

    patch.setattr(Phases, "_write_undo_plan", broken)


def switch_row_by_row(patch: Patch) -> None:
    """Repoint one row a transaction."""

    def broken(self: Switcher, connection: sa.Connection) -> dict[tuple[str, str], int]:
        mine = sa.select(moves).where(moves.c.run_id == self.run.run_id, moves.c.state == MoveState.STAGED)
        for row in connection.execute(mine).all():
            connection.execute(
                sa.update(archive_metadata)
                .where(moves.c.seq == row.seq, moves.c.run_id == self.run.run_id, same_row(archive_metadata))
                .values(content_url=row.after_url)
            )
            connection.commit()
            raise Killed
        return {}

    patch.setattr(Switcher, "_repoint", broken)


def no_last_look(patch: Patch) -> None:
    patch.setattr(Switcher, "recheck", lambda *_: None)


def no_condition(patch: Patch) -> None:
    """Neither before the switch nor after it: each of the two stops it alone."""
    patch.setattr("reconcile.running.phases.repoint.as_before", lambda _archive: sa.true())
    patch.setattr(
        "reconcile.running.phases.switch.as_after",
        lambda archive: archive.c.content_url.is_not_distinct_from(moves.c.after_url),
    )


def undo_forgets_columns(patch: Patch) -> None:
    original = undo_plan.reverse

    def broken(work: Any) -> Any:
        move = original(work)
        pinned = Pinned(False, work.after_digest, work.after_size)
        return evolve(move, after=evolve(move.after, pinned=pinned))

    patch.setattr(undo_plan, "reverse", broken)


def resume_forgets(patch: Patch) -> None:
    def broken(self: Run) -> None:
        with self.writing() as connection:
            connection.execute(sa.update(moves).values(state="planned"))

    patch.setattr(Run, "retry_unstaged", broken)
    patch.setattr(FileStore, "look", lambda _self, _keys, digest=False: {})
    patch.setattr(DocumentStore, "_written", lambda self, write: self.outcome(self._put, write))
    patch.setattr(FileStore, "_name", lambda _self, temporary, path: Path(temporary).replace(path))
    patch.setattr(Switcher, "_look", lambda _self, _documents, _size: 0)


def failures_are_skipped(patch: Patch) -> None:
    original = order.outcome_of

    def broken(*args: Any, **kwargs: Any) -> Outcome:
        return evolve(original(*args, **kwargs), left=0)

    patch.setattr(Phases, "_require_all_staged", lambda _self, _counts: None)
    patch.setattr(order, "outcome_of", broken)


def secrets_print(patch: Patch) -> None:
    patch.setattr(secret.Secret, "__str__", lambda self: str(self.reveal()))
    patch.setattr(secret.Secret, "__format__", lambda self, _spec: str(self.reveal()))


RULES: dict[str, tuple[Callable[[World, Patch], None], Callable[[Patch], None]]] = {
    "R1": (judge_readable, delete_early),
    "R2": (judge_readable, switch_row_by_row),
    "R3": (judge_vanished, no_last_look),
    "R4": (judge_stale, no_condition),
    "R5": (judge_undo, undo_forgets_columns),
    "R6": (judge_resume, resume_forgets),
    "R7": (judge_honest, failures_are_skipped),
    "R8": (judge_discreet, secrets_print),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_product_passes(lite: World, monkeypatch: Patch, rule: str) -> None:
    RULES[rule][0](lite, monkeypatch)


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_build_is_caught(lite: World, monkeypatch: Patch, rule: str) -> None:
    judge, broken = RULES[rule]
    broken(monkeypatch)
    with pytest.raises((AssertionError, ReconcileError, pytest.fail.Exception)):
        judge(lite, monkeypatch)


def test_plans_are_whole_or_not_there(lite: World) -> None:
    """``plan`` killed while it writes leaves no file, and is simply run again."""
    command = [sys.executable, "-m", "tests.crash.killer", "undo plan half written", "plan"]
    paths = [str(source(lite)), str(dest(lite)), "--out", str(lite.folder / "p.json")]
    repository = Path(__file__).parents[2]
    done = subprocess.run([*command, *paths], cwd=repository, capture_output=True, check=False, timeout=300)
    assert done.returncode in (-9, 0)
    assert done.returncode == 0 or not (lite.folder / "p.json").exists()
    left = {path.name for path in lite.folder.iterdir()}
    assert left <= {"anchore.db", "config.yaml", "dest.yaml", "p.json"}
