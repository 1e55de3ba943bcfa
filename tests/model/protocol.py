"""The deletion protocol: what an executor does, step by step. ``takeover.py`` has its begin,
``deletes.py`` its deletes.

Whoever takes the lock writes a fresh token into the executor's row, and each later transaction checks that it is still
there (takeover). What is about to be deleted is marked first. Then the delete is fenced, by the kind of the store:

* table: the DELETE and the check of the row are one transaction.
* server: the request is signed, which limits its life, then the row is checked, then it is sent.
* unbounded: the same, but no server enforces the life; it is assumed, and counts from the check.
* file: renamed into the executor's folder, the row is checked, unlinked there; or renamed back. A takeover renames
  everything back and removes the folder, which ends what an earlier executor could still do.

What a takeover finds about to be deleted, and what its own executor had no answer for, may still vanish until the life
of a request is over: a late delete. A run whose destinations have late deletes stages, waits, looks at its destinations
again, and only then switches. So rows lead to the other side as long as a late request can arrive.

Deletes are done by clean (sources, after the switch) and by drop (copies, of a run that never switched). In the same
batch each looks at the other side, and keeps a document that is not intact there. Each place where something was
deleted holds an owner's mark. A database that is older than a place (a dump, restored) does not know that mark; taking
it over then means: everything may still vanish.

Simplified: intents, the undo plan and services are left out; a takeover and the change of the run's state are one
transaction, as are the owner's mark and its record; both documents are one batch; who restores a database in place
confirms what he is asked (rebind).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.model import world as w
from tests.model.guards import Guard
from tests.model.world import BOTH, PLACES, Executor, World

Steps = Iterator[tuple[str, World]]
Step = Callable[["Protocol", World, int], Steps]


@dataclass(frozen=True)
class Protocol:
    """Which kinds of store are moved between, and which guards hold. ``copy``: how a database is copied or restored.

    A logical copy is a dump, loaded; a physical one is the files themselves, and has the same identity.
    """

    kinds: tuple[str, str]
    guards: frozenset[Guard]
    beyond_bound: bool = False
    copy: str = "logical"

    def holds(self, guard: Guard) -> bool:
        """Tell whether a guard is in place."""
        return guard in self.guards

    def still_mine(self, world: World, me: Executor) -> bool:
        """Check the executor's row."""
        replaced = self.holds(Guard.SAME_INSTANCE) and me.before_restore
        return world.databases[me.database].token == me.token and not replaced

    def superseded(self, world: World, i: int) -> bool:
        """Tell whether a transaction on the work tables is refused."""
        return self.holds(Guard.ROW) and not self.still_mine(world, world.executors[i])

    def content(self, world: World, me: Executor, place: int) -> int:
        """Return what an executor sees at a place."""
        return w.content(world, self.kinds, me.database, place)

    def changed(self, world: World, me: Executor, place: int, *, add: int = 0, drop: int = 0) -> World:
        """Return the world after an executor's write or delete."""
        return w.with_content(world, self.kinds, me.database, place, add=add, drop=drop)

    def deleted(self, world: World, database: int, place: int, bit: int, *, before_restore: bool) -> World:
        """Return the world after a delete has had its effect."""
        if w.content(world, self.kinds, database, place) & bit:
            world = w.excuse(world, bit, before_restore=before_restore)
        return w.with_content(world, self.kinds, database, place, drop=bit)

    def not_owner(self, world: World, me: Executor, places: tuple[int, ...] = PLACES) -> bool:
        """Tell whether the mark at a place is not the one on record."""
        owner = world.databases[me.database].owner
        return self.holds(Guard.OWNER_MARK) and any(owner[place] != world.marks[place] for place in places)

    def is_refused(self, life: str, place: int) -> bool:
        """Tell whether a request of this life comes too late for the store at a place."""
        if self.kinds[place] == "unbounded":
            return life == "over" and not self.beyond_bound
        return life == "over" and self.holds(Guard.EXPIRY)


def write(protocol: Protocol, world: World, i: int) -> Steps:
    """Stage one document: what is at the destination is adopted."""
    me = world.executors[i]
    source, dest = w.sides(me.run)
    bit = 1 << me.doc
    there = protocol.content(world, me, dest) & bit
    if not there and not protocol.content(world, me, source) & bit:
        yield f"stage.write {me.doc} fails", w.stopped(world, i)
        return
    following = {"doc": 0, "step": "stage.record"} if me.doc else {"doc": 1}
    world = w.with_executor(protocol.changed(world, me, dest, add=bit), i, **following)
    yield f"stage.write {me.doc}{' (adopted)' if there else ''}", world


def stage_record(protocol: Protocol, world: World, i: int) -> Steps:
    """Record what is staged."""
    me = world.executors[i]
    late = w.of(w.sides(me.run)[1], world.databases[me.database].late)
    following = "wait" if late and protocol.holds(Guard.WAIT) else "recheck"
    yield from guarded(protocol, world, i, "stage.record", w.with_executor(world, i, step=following))


def wait(protocol: Protocol, world: World, i: int) -> Steps:
    """Wait until the life of what is late at the destination is over, by the server's clock."""
    me = world.executors[i]
    over = w.without_late(world, me.database, w.sides(me.run)[1])
    yield from guarded(protocol, world, i, "wait.over", w.with_executor(over, i, step="recheck"))


def recheck(protocol: Protocol, world: World, i: int) -> Steps:
    """Look at the destinations; stage again what is gone."""
    me = world.executors[i]
    gone = protocol.holds(Guard.RECHECK) and protocol.content(world, me, w.sides(me.run)[1]) != BOTH
    name, following = ("recheck: copies are gone", "stage.write") if gone else ("recheck", "switch")
    yield name, w.with_executor(world, i, step=following)


def switch(protocol: Protocol, world: World, i: int) -> Steps:
    """Switch all rows in one transaction, if each is as the run found it."""
    me = world.executors[i]
    rows, wanted = world.databases[me.database].rows, 0 if me.run else BOTH
    superseded = protocol.holds(Guard.ROW_IN_SWITCH) and not protocol.still_mine(world, me)
    expected = rows == BOTH & ~wanted or (rows != wanted and not protocol.holds(Guard.ONE_TRANSACTION))
    if superseded or (protocol.holds(Guard.LOCK_IN_SWITCH) and not me.locked) or not expected:
        yield "switch refused", w.stopped(world, i)
    elif not protocol.holds(Guard.ONE_TRANSACTION) and rows == BOTH & ~wanted:
        yield "switch 0", w.with_database(world, me.database, rows=rows ^ 1)
    else:
        world = w.with_run(w.with_database(world, me.database, rows=wanted), me, phase="switched")
        excused = world.excused if me.database else 0
        yield "switch", before_deletes(protocol, world._replace(excused=excused), i)


def before_deletes(protocol: Protocol, world: World, i: int) -> World:
    """Go on to the deletes, or to a wait for what is late at the other side."""
    me = world.executors[i]
    late = w.of(1 - me.place, world.databases[me.database].late)
    waits = late and protocol.holds(Guard.WAIT_TO_DELETE)
    return w.with_executor(world, i, step=f"{me.phase}.{'wait' if waits else 'claim'}")


def guarded(protocol: Protocol, world: World, i: int, name: str, after: World, *, may: bool = True) -> Steps:
    """Yield a transaction on the work tables: what it does, or that it is refused."""
    refused = protocol.superseded(world, i) or not may
    yield (f"{name} refused", w.stopped(world, i)) if refused else (name, after)


STEPS: dict[str, Step] = {
    "stage.write": write,
    "stage.record": stage_record,
    "wait": wait,
    "recheck": recheck,
    "switch": switch,
}
