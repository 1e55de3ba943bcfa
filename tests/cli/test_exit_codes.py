"""Each exit code of docs/exit-codes.md comes out of the command line in a test: here, or where its cause is tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.archives import new_sqlite
from tests.cli.desk import filled, planned
from tests.cli.runner import Result, here
from tests.world import World

TESTS = Path(__file__).parents[1]
WHERE = {  # code: what makes it, and which of the tests shows it
    0: ("cli/test_exit_codes.py", "test_done_and_nothing_to_do", "code == 0"),
    1: ("cli/test_bad_input.py", "test_documents_that_cannot_be_staged", "        1,\n"),
    2: ("cli/test_exit_codes.py", "test_the_plan_has_changes", "code == 2"),
    3: ("cli/test_bad_input.py", "test_blocked_documents_need_a_flag", "code == 3"),
    4: ("cli/test_exit_codes.py", "test_a_stale_plan", "code == 4"),
    5: ("faults/test_network.py", None, "code == 5"),
    10: ("faults/test_database.py", None, "code == 10"),
    11: ("faults/test_database.py", None, "code == 11"),
    12: ("cli/test_staging.py", "test_a_limit_ends_the_staging", "code == 12"),
    13: ("cli/test_screens.py", "test_what_cannot_be_taken_back_is_said_and_yes_is_to_be_typed", "code == 13"),
    14: ("cli/test_screens.py", "test_a_watch_ends_once_nobody_is_at_work", "code == 14"),
    15: ("cli/test_show.py", "test_a_gate_in_a_pipeline", "code == 15"),
    64: ("cli/test_bad_input.py", "test_usage", ", 64, "),
    78: ("cli/test_bad_input.py", "test_bad_config", ", 78, "),
    130: ("integration/test_refusals.py", "test_a_signal_ends_the_batch_in_hand", "returncode == code"),
    143: ("integration/test_refusals.py", "test_a_signal_ends_the_batch_in_hand", "returncode == code"),
}


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


def run(world: World, *arguments: str) -> Result:
    return here(*arguments, cwd=world.folder)


def test_every_code_in_the_docs_is_produced() -> None:
    table = (TESTS.parent / "docs" / "exit-codes.md").read_text()
    codes = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in row.split(",")}
    assert codes <= set(WHERE), "a new code needs a test, and a line here"
    for code in codes:
        file, test, said = WHERE[code]
        text = (TESTS / file).read_text()
        if test is not None:
            text = text[text.index(f"def {test}(") :].partition("\ndef ")[0]
        assert said in text, f"{code}: {file} shows it no longer"


def test_done_and_nothing_to_do(lite: World) -> None:
    planned(lite)
    for _time in range(2):
        assert run(lite, "apply", "p.json", "--yes").code == 0
    for _time in range(2):
        assert run(lite, "undo", "p.undo.json", "--yes").code == 0


def test_the_plan_has_changes(lite: World) -> None:
    plan = ("plan", "config.yaml", "dest.yaml", "--detailed-exitcode")
    assert run(lite, *plan, "--out", "p.json").code == 2
    assert run(lite, "diff", "p.json", "--detailed-exitcode").code == 0
    lite.add("new", b"new")
    assert run(lite, "diff", "p.json", "--detailed-exitcode").code == 2
    assert run(lite, "diff", "p.json").code == 0


def test_a_stale_plan(lite: World) -> None:
    planned(lite)
    lite.sql("UPDATE archive_metadata SET last_updated = 5")
    result = run(lite, "apply", "p.json", "--yes")
    assert result.code == 4
    assert "each of the plan's 6 rows has changed since the plan; no run was begun" in result.err
    assert "next: reconcile apply p.json --refresh    # includes them as they are now" in result.err.replace(
        f"{lite.folder}/", ""
    )
