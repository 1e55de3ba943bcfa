"""What keeps a delete from doing harm: one guard, one line. The protocol is a set of them."""

from __future__ import annotations

from enum import Enum


class Guard(Enum):
    """A rule of the protocol that the model can leave out."""

    ROW = "every transaction on the work tables checks the executor's row"
    ROW_IN_SWITCH = "the switch's transaction checks the executor's row"
    LOCK_IN_SWITCH = "the switch's transaction runs on the session that took the lock"
    LOCK_AT_TAKEOVER = "the takeover's transaction runs on it, too"
    ONE_TRANSACTION = "all rows are switched in one transaction"
    ROW_IN_TABLE = "a table's DELETE runs in a transaction that checks the executor's row"
    ROW_BEFORE_SEND = "the executor's row is checked before a request is sent"
    SIGN_FIRST = "a request is signed before the executor's row is checked"
    EXPIRY = "the server refuses a request whose life is over"
    RENAME = "a file is renamed into the executor's own folder before it is unlinked"
    ROW_AFTER_RENAME = "the executor's row is checked between rename and unlink"
    FOLDER_FIRST = "that folder is made before the marks, and never again"
    RMDIR = "a takeover empties and removes the folders of earlier executors"
    MARK_CLEAN = "clean marks sources before it deletes them"
    MARK_DROP = "drop marks copies before it deletes them"
    LATE_AT_TAKEOVER = "a takeover records what is marked and not deleted as late deletes"
    LATE_NOTED = "an executor records its own request that had no answer as a late delete"
    WAIT = "a run whose destinations have late deletes waits for their life before its recheck"
    RECHECK = "destinations are looked at after the wait; what is gone is staged again"
    LOOK_AT_COPIES = "clean deletes only sources whose copies are intact"
    LOOK_AT_SOURCES = "drop deletes only copies whose sources are intact"
    OWNER_MARK = "the place where a run deletes holds the token of its executor"
    IDENTITY = "a database with another identity than the run's is refused"
    ADDRESS = "a database at another address, while the old one answers, is refused"
    # Not in the first draft of the protocol: each closes a hole that the search found in it.
    SAME_INSTANCE = "each check sees, too, that the database was not replaced since the takeover"
    REBIND_IS_LATE = "taking over a restored database records every move, at both places, as a late delete"
    WAIT_TO_DELETE = "deletes wait, too, for late deletes at the other side"
    PHASE_IS_LATE = "a takeover from an executor that was deleting takes its unmarked moves for late deletes, too"
    OWNER_AT_BOTH = "when a run begins, and before each batch, the marks at both places are those on record"
    # The mark goes when the run ends. What stands for this guard is a rule for people (docs/backup.md): after a
    # restore, wait for the life of a request before any command.
    OWNER_STAYS = "the owner's mark stays when the run ends, or a restored database rests for a request's life"


REPAIRS = frozenset(
    {
        Guard.SAME_INSTANCE,
        Guard.REBIND_IS_LATE,
        Guard.WAIT_TO_DELETE,
        Guard.PHASE_IS_LATE,
        Guard.OWNER_AT_BOTH,
        Guard.OWNER_STAYS,
    }
)
NEW = frozenset(Guard)
DRAFT = NEW - REPAIRS
# Before: an epoch (here the token), a mark in clean alone, a recheck, and a delete without a fence.
OLD = frozenset(
    {
        Guard.ROW,
        Guard.ROW_IN_SWITCH,
        Guard.LOCK_IN_SWITCH,
        Guard.LOCK_AT_TAKEOVER,
        Guard.ONE_TRANSACTION,
        Guard.MARK_CLEAN,
        Guard.RECHECK,
        Guard.EXPIRY,
    }
)
