"""The states of runs and of their moves, as the work tables have them."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """How far a run is."""

    STAGING = "staging"  # the catalog is untouched
    SWITCHED = "switched"  # the catalog points at the copies; sources are still to be deleted
    DONE = "done"
    UNDOING = "undoing"  # an undo of it has begun: its own apply and clean refuse
    UNDONE = "undone"


class MoveState(StrEnum):
    """How far a move is. The state of its run says whether the catalog points at the copy."""

    PLANNED = "planned"
    STAGED = "staged"  # the copy is confirmed
    FAILED = "failed"
    CHANGED = "changed"  # the catalog row is another since the plan; a refresh includes that
    BLOCKED = "blocked"  # the plan left the document where it is


class Origin(StrEnum):
    """Who wrote the content at a move's destination."""

    INTENDED = "intended"  # this run is about to write there: what appears is its own
    WRITTEN = "written"  # this run wrote it
    ADOPTED = "adopted"  # it was there before
    CEDED = "ceded"  # this run wrote it, and another move has it now


class Removal(StrEnum):
    """Outcome of deleting a move's source; of its copy, where a run that never switched is undone."""

    MARKED = "marked"  # a request to delete it may have been sent
    DELETED = "deleted"
    KEPT = "kept"


class Deleting(StrEnum):
    """What a run deletes at the moment."""

    CLEANING = "cleaning"  # sources, after the switch
    DROPPING = "dropping"  # copies, before one


class Asked(StrEnum):
    """What a run was asked for beside its plan; the command that resumes it repeats it."""

    STAGE_ONLY = "stage-only"
    CLEAN_LATER = "clean-later"
    CLEAN = "clean"
