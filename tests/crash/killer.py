"""Run the command line, and be killed (SIGKILL) or stopped (SIGSTOP) at a named point of the code's own order.

    [CRASH_SIGNAL=SIGSTOP] [CRASH_LIFE=3] python -m tests.crash.killer POINT reconcile-arguments...

Points patch functions of the product from outside; the product itself knows nothing of them. ``CRASH_LIFE`` is the life
of a deleting request in seconds.
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from attrs import frozen

from reconcile.running import apply as _apply  # noqa: F401 - loads every step
from reconcile.running.phases.steps import Step, carried_out_by


@frozen
class Point:
    """Kill before the nth call, or after the nth return, of one of these functions, or of those of a step."""

    targets: tuple[str, ...] | Step
    when: str
    nth: int = 1

    def functions(self) -> tuple[str, ...]:
        return carried_out_by(self.targets) if isinstance(self.targets, Step) else self.targets


STAGE, STAGE_PART, SWITCH, CLEAN = (
    "reconcile.running.phases.stage",
    "reconcile.running.phases.stage_part",
    "reconcile.running.phases.switch",
    "reconcile.running.phases.clean",
)
PHASES = "reconcile.running.phases.order"
_WRITES = (
    "reconcile.stores.tables:TableStore.write",
    "reconcile.stores.per_object:DocumentStore.write",
    "reconcile.stores.localfs:FileStore.write",
)
_INSIDE_WRITES = (
    "reconcile.stores.tables:copy_in",
    "reconcile.stores.localfs:FileStore._name",
    "reconcile.stores.s3_objects:S3Objects.put",
)
_DELETES = (
    "reconcile.stores.tables:TableStore.delete",
    "reconcile.stores.localfs:FileStore.delete",
    "reconcile.stores.s3:S3Store.delete",
)
POINTS = {
    "moves half loaded": Point(
        ("reconcile.running.phases.load:move_row", "reconcile.running.phases.undo_plan:move_row"), "before", 12
    ),
    "loaded": Point((f"{PHASES}:Phases.execute",), "before"),
    "intent recorded": Point(Step.INTEND, "after", 2),
    "batch read": Point((f"{STAGE_PART}:encoded",), "after", 5),
    "taken by a shortcut": Point(("reconcile.running.phases.shortcuts:Ways.take",), "after", 2),
    "inside a shortcut": Point(
        ("reconcile.stores.hardlinks:Links._linked", "reconcile.stores.server_copy:BetweenBuckets._attempt"), "after", 2
    ),
    "inside a write": Point(_INSIDE_WRITES, "after", 2),
    "written, not recorded": Point(_WRITES, "after", 2),
    "recorded": Point(Step.RECORD, "after", 2),
    "all staged": Point(Step.RECHECK, "before"),
    "undo plan half written": Point(("reconcile.planning.planfile:PlanWriter.add_move",), "before", 12),
    "undo plan written": Point(Step.UNDO_PLAN, "after"),
    "before the switch": Point(Step.SWITCH, "before"),
    "inside the switch": Point((f"{SWITCH}:Switcher._repoint",), "after"),
    "after the switch": Point(Step.SWITCH, "after"),
    "marked": Point(Step.MARK, "after"),
    "delete signed": Point(("reconcile.stores.s3_delete:ExpiringDeletes._sign",), "after"),
    "delete checked": Point(("reconcile.stores.s3_delete:ExpiringDeletes._before_sending",), "after"),
    "mark about to be put": Point(("reconcile.stores.s3:S3Store._put_mark",), "before"),
    "mark without its name": Point(("reconcile.stores.owner_folder:OwnerFolder._place",), "before"),
    "taken aside": Point(("reconcile.stores.owner_folder:OwnerFolder.take_aside",), "after", 3),
    "aside, checked": Point(("reconcile.stores.localfs:FileStore._remove",), "before", 2),
    "deleted, not recorded": Point(_DELETES, "after"),
    "before the end is recorded": Point(Step.END, "before"),
    "owner marks removed": Point(("reconcile.running.phases.owner_mark:Owner.release",), "after"),
    "after the end is recorded": Point((f"{PHASES}:outcome_of",), "before"),
}
ONLY_ON = {
    "inside a shortcut": {"localfs_to_localfs", "s3_to_s3"},
    "delete signed": {"s3_to_db2", "s3_to_s3", "split_to_single"},
    "delete checked": {"s3_to_db2", "s3_to_s3", "split_to_single"},
    "mark about to be put": {"s3_to_db2", "s3_to_s3", "split_to_single"},
    "mark without its name": {"localfs_to_localfs"},
    "taken aside": {"localfs_to_localfs"},
    "aside, checked": {"localfs_to_localfs"},
}
# Points of rollback, where a run that never switched is undone.
DROP_POINTS = {
    "copies marked": Point(Step.MARK, "after"),
    "copies deleted, not recorded": Point(_DELETES, "after"),
}
NOT_IN_UNDO = {"undo plan half written", "undo plan written"}


def arm(point: Point) -> None:
    """Wrap the point's functions."""
    calls, number = itertools.count(1), getattr(signal, os.environ.get("CRASH_SIGNAL", "SIGKILL"))

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if point.when == "before" and next(calls) == point.nth:
                os.kill(os.getpid(), number)
            result = function(*args, **kwargs)
            if point.when == "after" and next(calls) == point.nth:
                os.kill(os.getpid(), number)
            return result

        return wrapper

    for target in point.functions():
        module_name, _colon, path = target.partition(":")
        owner: Any = import_module(module_name)
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        setattr(owner, name, wrap(getattr(owner, name)))


def main() -> None:
    """Arm the point and run the command line with several small batches, by a shortcut wherever there is one."""
    import_module(STAGE).BATCH_DOCUMENTS = int(os.environ.get("CRASH_BATCH", "4"))
    import_module(CLEAN)._PART_DOCUMENTS = int(os.environ.get("CRASH_BATCH", "7"))
    import_module("reconcile.stores.server_copy").AT_LEAST = 0
    import_module("reconcile.running.phases.rollback")._BATCH_DOCUMENTS = 7
    if "CRASH_LIFE" in os.environ:
        import_module("reconcile.stores.s3_delete").LIFE_SECONDS = int(os.environ["CRASH_LIFE"])
    if sys.argv[1] != "nowhere":
        arm((POINTS | DROP_POINTS)[sys.argv[1]])
    sys.argv = ["reconcile", *sys.argv[2:]]
    from reconcile.cli.main import main as reconcile

    reconcile()


if __name__ == "__main__":
    main()
