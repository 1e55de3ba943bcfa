"""What each guard of the deletion protocol is for: without it a search finds what breaks."""

from __future__ import annotations

import pytest

from tests.model.faults import FAULTS
from tests.model.guards import DRAFT, NEW, Guard
from tests.model.scenarios import (
    BESIDE,
    BESIDE_FILES,
    FILE,
    IN_FLIGHT,
    PAUSED,
    PAUSED_DROP,
    PAUSED_FILE,
    PAUSED_TABLE,
    RESTORED,
    RESTORED_FILES,
    RESTORED_LATE,
    RESUMED,
    SERVER,
    VANISHED,
    VERBS,
    Scenario,
    assert_in_order,
    faults,
    lost,
)

NEEDED = {
    Guard.ROW: RESUMED,
    Guard.ONE_TRANSACTION: PAUSED,
    Guard.ROW_IN_TABLE: PAUSED_TABLE,
    Guard.ROW_BEFORE_SEND: PAUSED,
    Guard.SIGN_FIRST: PAUSED,
    Guard.EXPIRY: PAUSED,
    Guard.RENAME: PAUSED_FILE,
    Guard.FOLDER_FIRST: PAUSED_FILE,
    Guard.RMDIR: PAUSED_FILE,
    Guard.LATE_AT_TAKEOVER: IN_FLIGHT,
    Guard.LATE_NOTED: IN_FLIGHT,
    Guard.WAIT: IN_FLIGHT,
    Guard.RECHECK: IN_FLIGHT,
    Guard.LOOK_AT_COPIES: VANISHED,
    Guard.LOOK_AT_SOURCES: RESTORED,
    Guard.OWNER_MARK: RESTORED_FILES,
    Guard.IDENTITY: BESIDE,
    Guard.ADDRESS: BESIDE_FILES,
    Guard.SAME_INSTANCE: RESTORED,
    Guard.REBIND_IS_LATE: RESTORED,
    Guard.WAIT_TO_DELETE: RESTORED,
    Guard.PHASE_IS_LATE: RESTORED_FILES,
    Guard.OWNER_AT_BOTH: RESTORED_FILES,
    Guard.OWNER_STAYS: RESTORED_LATE,
}
COVERED = {
    # The lock's session has ended whenever somebody else may have taken over.
    Guard.LOCK_IN_SWITCH: (Guard.ROW_IN_SWITCH, PAUSED),
    Guard.ROW_IN_SWITCH: (Guard.LOCK_IN_SWITCH, PAUSED),
    # A takeover without the lock supersedes the one who has it: each check of the row stops that one.
    Guard.LOCK_AT_TAKEOVER: (Guard.ROW_IN_SWITCH, PAUSED_DROP),
    # An unmarked move of a run that was deleting is taken for marked.
    Guard.MARK_CLEAN: (Guard.PHASE_IS_LATE, PAUSED),
    Guard.MARK_DROP: (Guard.PHASE_IS_LATE, PAUSED_DROP),
}


@pytest.mark.parametrize("guard", NEEDED, ids=lambda guard: guard.name)
def test_without_this_guard_something_breaks(guard):
    assert NEEDED[guard].search(NEW - {guard}).violation
    assert NEEDED[guard].search(NEW).violation is None


@pytest.mark.parametrize("guard", COVERED, ids=lambda guard: guard.name)
def test_this_guard_is_covered_by_another_one(guard):
    """Without it nothing breaks, nor without the other one; without both something does."""
    other, scenario = COVERED[guard]
    assert scenario.search(NEW - {guard}).violation is None
    assert scenario.search(NEW - {guard, other}).violation


@pytest.mark.parametrize("first", VERBS)
def test_the_check_between_rename_and_unlink_is_covered_by_the_removal_of_the_folder(first):
    """A takeover has renamed the file back, so that the unlink finds nothing: the check only says so earlier.

    It stays in the program for a takeover that cannot reach the place, which the model has not.
    """
    for second in ("apply", "undo", "drop"):
        scenario = Scenario(FILE, (first,), (second,), FAULTS)
        assert scenario.search(NEW - {Guard.ROW_AFTER_RENAME}).violation is None


def test_the_first_draft_did_not_survive_a_restore_while_an_executor_was_paused():
    found = RESTORED.search(DRAFT | {Guard.SAME_INSTANCE}, lost)
    assert_in_order(found.trace, "dump", "A: switch", "A: clean.delete.check 0", "restore", "B: drop.look")
    assert_in_order(found.trace, "B: drop.look", "A: clean.delete.send 0", "B: drop.delete.send 0")


# A copy of the database beside it, with neither its identity nor its address checked

UNCHECKED = NEW - {Guard.IDENTITY, Guard.ADDRESS}
LATER = faults("dump", "copy", "copy later")


@pytest.mark.parametrize(("first", "second"), [("apply", "drop"), ("undo", "clean")])
def test_unchecked_a_copy_older_than_the_last_delete_is_stopped_by_the_owners_mark(first, second):
    scenario = Scenario(SERVER, (first,), (second,), LATER)
    assert scenario.search(UNCHECKED).violation is None


@pytest.mark.parametrize(
    ("first", "second", "look"),
    [("apply", "drop", Guard.LOOK_AT_SOURCES), ("undo", "clean", Guard.LOOK_AT_COPIES)],
)
def test_unchecked_and_without_the_mark_a_look_at_the_other_side_keeps_the_last_copy(first, second, look):
    scenario = Scenario(SERVER, (first,), (second,), LATER)
    assert scenario.search(UNCHECKED - {Guard.OWNER_MARK}, lost).violation is None
    assert scenario.search(UNCHECKED - {Guard.OWNER_MARK, look}, lost).violation


@pytest.mark.parametrize(("first", "second"), [("apply", "undo"), ("clean", "undo"), ("drop", "apply")])
def test_unchecked_a_copy_as_young_as_the_last_delete_is_not_stopped(first, second):
    """Its record has the mark. It moves documents for itself: the services' rows lead to nothing, a copy is left."""
    scenario = Scenario(SERVER, (first,), (second,), LATER)
    assert scenario.search(UNCHECKED).violation == "R1: a row leads to nothing"
    assert scenario.search(UNCHECKED, lost).violation is None


def test_unchecked_a_copy_that_deletes_at_the_same_time_loses_documents():
    """Each looked at the other side before the other one's delete: no guard but identity and address stops that."""
    assert BESIDE.search(UNCHECKED, lost).violation
