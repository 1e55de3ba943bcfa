"""docs/library.md: its program runs as it stands, and every function of the package does its part of a migration."""

from __future__ import annotations

import doctest
import io
import re
from pathlib import Path

import pytest

import reconcile
from reconcile.errors import PlanFileError, ReconcileError
from reconcile.running.phases.options import RunOptions
from tests.archives import new_sqlite
from tests.world import DB, DB2, World

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


@pytest.fixture
def archive(folder: Path) -> World:
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    world.config("config", DB)
    world.config("dest-config", DB2)
    return world


def test_the_program_of_the_page(archive: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = archive.tables()
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(program, {})  # as a reader would run it
    assert re.match(r"6 documents to move\n6 moved in run \S+\n$", capsys.readouterr().out)
    assert archive.tables() == before


def test_every_verb(archive: World) -> None:
    here, there = archive.folder / "config.yaml", archive.folder / "dest-config.yaml"
    assert reconcile.status(source=here) is None
    plan = reconcile.plan(here, there, out=archive.folder / "p.json")
    assert reconcile.show(plan.path).digest == plan.digest
    assert reconcile.diff(plan.path) == []
    archive.add("sha256:new", b"written since", bucket="analysis_data")
    assert [change.row.archiveId for change in reconcile.diff(plan.path)] == ["sha256:new"]
    again = reconcile.plan(here, there, out=archive.folder / "again.json")
    assert len(reconcile.diff(plan.path, again.path)) == 1

    outcome = reconcile.apply(reconcile.prepare(again.path), options=RunOptions(keep_source=True))
    status = reconcile.status(outcome.run_id, source=there)
    assert status is not None
    assert status.is_finished
    assert reconcile.report(run_id=outcome.run_id, source=there).state == "done"
    assert reconcile.verify(there).ok
    assert reconcile.clean(outcome.run_id, source=here, dest=there).deleted == 7
    assert reconcile.undo(outcome.run_id, source=there, dest=here).documents == 7
    assert reconcile.forget(outcome.run_id, source=here).last
    with pytest.raises(ReconcileError, match="this database has no run"):
        reconcile.undo(outcome.run_id, source=there, dest=here)


ORDER = ["plan", "show", "diff", "prepare", "apply", "status", "report", "check", "verify", "clean", "undo", "forget"]


def test_the_examples_in_the_docstrings(archive: World) -> None:
    """One migration, verb by verb, as its examples tell it."""
    assert set(ORDER) == set(reconcile.__all__) - {"__version__"}
    here, there = archive.folder / "config.yaml", archive.folder / "dest-config.yaml"
    names = {"reconcile": reconcile, "folder": archive.folder, "here": here, "there": there}
    runner = doctest.DocTestRunner()
    for verb in ORDER:
        (example,) = doctest.DocTestFinder().find(getattr(reconcile, verb), verb, module=False, globs=names)
        assert example.examples, verb
        said = io.StringIO()
        assert runner.run(example, out=said.write, clear_globs=False).failed == 0, said.getvalue()
        names |= example.globs


def test_errors_are_the_command_lines(archive: World) -> None:
    with pytest.raises(PlanFileError, match="no such plan file") as raised:
        reconcile.show(archive.folder / "nope.json")
    assert (raised.value.exit_code, (raised.value.hint or "").startswith("reconcile plan")) == (1, True)


def test_the_package_has_what_the_page_lists() -> None:
    table = PAGE.read_text().partition("| function |")[2]
    listed = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)\(", row)
    }
    assert listed == set(reconcile.__all__) - {"__version__"}
