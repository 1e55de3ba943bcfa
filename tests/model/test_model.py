"""The deletion protocol, searched: what broke the one before, and that nothing breaks this one.

A search goes through every interleaving of two executors and the faults that it is given, each fault at most once.
"""

from __future__ import annotations

from itertools import product

import pytest

from tests.model.faults import FAULTS, check
from tests.model.guards import NEW, OLD
from tests.model.protocol import Protocol
from tests.model.scenarios import (
    FILE,
    IN_FLIGHT,
    KINDS,
    PAUSED,
    PAUSED_DROP,
    RESTORED,
    ROUTES,
    SERVER,
    TABLE,
    VANISHED,
    VERBS,
    Scenario,
    after_the_end,
    assert_in_order,
    faults,
)
from tests.model.world import BOTH

DELETE = {"server": "send", "file": "unlink", "table": "table"}
AFTER_ANOTHER = (("drop", "apply"), ("undo", "apply"), ("apply", "undo"), ("clean", "undo"))


# What broke the protocol before


@pytest.mark.parametrize("kind", DELETE)
def test_before_a_paused_apply_deletes_what_an_undo_has_made_the_last_copy(kind):
    found = PAUSED._replace(kinds=(kind, kind)).search(OLD, after_the_end)
    assert found.violation == "lost: no copy is left"
    delete = f"A: clean.delete.{DELETE[kind]} 0"
    assert_in_order(found.trace, "A: clean.mark", "A: sessions end", "B: begin undo", "B: switch", "B: finish", delete)
    assert found.trace[-1] == delete


@pytest.mark.parametrize("kind", DELETE)
def test_before_a_paused_drop_deletes_what_an_apply_has_made_the_last_copy(kind):
    found = PAUSED_DROP._replace(kinds=(kind, kind)).search(OLD, after_the_end)
    assert found.violation == "lost: no copy is left"
    delete = f"A: drop.delete.{DELETE[kind]} 0"
    second = ("B: begin drop", "B: finish", "B: begin apply", "B: switch", "B: finish")
    assert_in_order(found.trace, "A: drop.look", "A: sessions end", *second, delete)
    assert found.trace[-1] == delete


def test_before_a_delete_in_flight_arrives_after_the_undo_that_kept_its_source():
    found = IN_FLIGHT.search(OLD, after_the_end)
    assert found.violation == "lost: no copy is left"
    sent = "A: clean.delete.send 0: no answer"
    assert_in_order(found.trace, sent, "A: killed", "B: begin undo", "B: stage.write 0 (adopted)", "B: finish")
    assert found.trace[-1] == "late.arrives"


def test_before_a_drop_in_a_restored_database_deletes_the_copies_of_deleted_sources():
    found = RESTORED.search(OLD)
    assert found.violation == "lost: no copy is left"
    assert_in_order(found.trace, "dump", "A: switch", "A: clean.delete.send 0", "restore", "B: begin drop")
    assert found.trace[-1] == "B: drop.delete.send 0"


def test_before_a_later_clean_deletes_the_source_of_a_copy_that_vanished():
    found = VANISHED.search(OLD)
    assert found.violation == "lost: no copy is left"
    assert_in_order(found.trace, "copy 0 vanishes", "A: clean.mark", "A: clean.delete.send 0")


# Nothing breaks it now


def assert_holds(kinds: tuple[str, str], seconds, wanted_faults=FAULTS, copy: str = "logical") -> None:
    for first, second in product(VERBS, seconds):
        found = Scenario(kinds, (first,), second, wanted_faults, copy).search(NEW)
        assert found.violation is None, f"{kinds} {first} beside {second}: {found}"


@pytest.mark.parametrize("kinds", ROUTES, ids="-to-".join)
def test_nothing_breaks_it_for_any_two_verbs(kinds):
    assert_holds(kinds, [(verb,) for verb in VERBS])


@pytest.mark.matrix
@pytest.mark.parametrize("kinds", list(product(KINDS, KINDS)), ids="-to-".join)
def test_nothing_breaks_it_for_any_three_verbs_on_any_route(kinds):
    assert_holds(kinds, [*[(verb,) for verb in VERBS], *AFTER_ANOTHER])


@pytest.mark.matrix
@pytest.mark.parametrize("fault", ["pause", "kill", "late"])
@pytest.mark.parametrize("copy", ["logical", "physical"])
@pytest.mark.parametrize("kinds", [*ROUTES, SERVER, FILE], ids="-to-".join)
def test_a_restore_does_not_break_it(kinds, copy, fault):
    assert_holds(kinds, [(verb,) for verb in VERBS], faults("dump", "restore", fault), copy)


@pytest.mark.parametrize("copy", ["logical", "physical"])
@pytest.mark.parametrize("kinds", [SERVER, ("file", "server"), ("server", "table")], ids="-to-".join)
def test_after_a_restore_in_place_every_verb_keeps_a_copy(kinds, copy):
    for first, second in [("apply", "apply"), ("apply", "drop"), ("clean", "undo")]:
        found = Scenario(kinds, (first,), (second,), faults("dump", "restore"), copy).search(NEW)
        assert found.violation is None, f"{kinds} {first} beside {second}: {found}"


@pytest.mark.parametrize("copy", ["logical", "physical"])
def test_the_executor_of_a_copy_beside_does_nothing(copy):
    for first, second in product(VERBS, VERBS):
        assert Scenario(SERVER, (first,), (second,), faults("dump", "copy"), copy).search(NEW).violation is None


@pytest.mark.parametrize(
    ("first", "second", "rows", "phase"),
    [
        (("apply",), ("undo",), 0, "undone"),
        (("drop",), ("apply",), BOTH, "done"),
        (("clean",), ("undo",), 0, "undone"),
        (("undo",), ("apply",), BOTH, "done"),
    ],
)
@pytest.mark.parametrize("kinds", [SERVER, FILE, TABLE], ids="-to-".join)
def test_the_guards_let_the_work_be_done(kinds, first, second, rows, phase):
    def done(world, _kinds):
        database = world.databases[0]
        ended = not any(executor.step for executor in world.executors)
        return "done" if ended and database.rows == rows and database.runs[0].phase == phase else None

    for some in (faults(), faults("pause"), faults("kill", "late"), faults("dump", "restore")):
        assert Scenario(kinds, first, second, some).search(NEW, done).violation == "done"


@pytest.mark.parametrize(("first", "second"), [("apply", ("undo",)), ("drop", ("drop", "apply")), ("clean", ("undo",))])
def test_a_store_without_a_bound_is_broken_by_requests_beyond_it_and_by_nothing_else(first, second):
    kinds = ("unbounded", "unbounded")
    found = check(Protocol(kinds, NEW, beyond_bound=True), (first,), second)
    assert any("beyond the bound" in step for step in found.trace), found
    found = check(Protocol(kinds, NEW), (first,), second)
    assert found.violation is None, found
