"""How an executor begins: the lock, the token, what may still vanish, the folders of earlier ones."""

from __future__ import annotations

from tests.model import world as w
from tests.model.guards import Guard
from tests.model.protocol import Protocol, Step, Steps, before_deletes
from tests.model.world import BOTH, DEST, NOBODY, PLACES, SOURCE, Database, Executor, Run, World


def begin(protocol: Protocol, world: World, i: int) -> Steps:
    """Take the lock; A goes first, as the other order is another search."""
    me, other = world.executors[i], world.executors[1 - i]
    if (other.locked and other.database == me.database) or (i and other.step == "begin" and other.token == NOBODY):
        return
    verb = verb_now(me.verbs[0], world.databases[me.database])
    refused = me.database and protocol.holds(Guard.IDENTITY if protocol.copy == "logical" else Guard.ADDRESS)
    if refused or verb is None:
        yield f"{me.verbs[0]} refused", w.stopped(world, i)
    else:
        verbs = (verb, *me.verbs[1:])
        yield (
            f"begin {verb}",
            w.with_executor(world, i, verbs=verbs, locked=True, before_restore=False, step="takeover"),
        )


def takeover(protocol: Protocol, world: World, i: int) -> Steps:
    """Write the token, and what may still vanish; begin or resume the run."""
    me = world.executors[i]
    verb, token = me.verbs[0], 1 + 2 * i + (len(me.verbs) > 1)
    me = me._replace(run=int(verb == "undo"))
    lost = protocol.holds(Guard.LOCK_AT_TAKEOVER) and not me.locked
    world, late = _rebound(protocol, world, me)
    owned = not (protocol.holds(Guard.OWNER_AT_BOTH) and protocol.not_owner(world, me))
    database = world.databases[me.database]
    if lost or not owned or verb_now(verb, database) != verb:
        yield "takeover refused", w.stopped(world, i)
        return
    if protocol.holds(Guard.LATE_AT_TAKEOVER):
        for number, run in enumerate(database.runs):
            place = DEST if number or run.phase == "dropping" else SOURCE
            deleting = protocol.holds(Guard.PHASE_IS_LATE) and run.phase in ("switched", "dropping")
            late |= w.at(place, (BOTH if deleting else run.marked) & ~run.deleted)
    forward, reverse = (run._replace(marked=0) for run in database.runs)
    if verb == "apply":
        forward = Run("staging") if forward.phase in ("none", "undone") else forward
    else:
        forward = forward._replace(phase={"drop": "dropping", "clean": "switched", "undo": "undoing"}[verb])
    if verb == "undo":
        reverse = reverse if reverse.phase in ("staging", "switched") else Run("staging")
    world = w.with_database(world, me.database, token=token, runs=(forward, reverse))
    world = w.with_executor(w.with_late(world, me.database, late), i, token=token, run=me.run, doc=0)
    files = "file" in protocol.kinds and protocol.holds(Guard.RENAME)
    yield "takeover", w.with_executor(world, i, step="takeover.rename_back") if files else _first(protocol, world, i)


def _rebound(protocol: Protocol, world: World, me: Executor) -> tuple[World, int]:
    """Return what an operator's rebind leaves: the marks on record, and the late deletes that follow from it.

    A dump restored as another database has another identity; one restored byte for byte shows by the marks alone.
    """
    another = protocol.copy == "logical" and protocol.holds(Guard.IDENTITY)
    places = PLACES if protocol.holds(Guard.OWNER_AT_BOTH) else (me.place,)
    if not world.restored or not (another or protocol.not_owner(world, me, places)):
        return world, 0
    late = w.EVERYWHERE if protocol.holds(Guard.REBIND_IS_LATE) else 0
    return w.with_database(world, 0, owner=world.marks)._replace(restored=False), late


def rename_back(protocol: Protocol, world: World, i: int) -> Steps:
    """Empty the folders of earlier executors."""
    if protocol.holds(Guard.RMDIR):
        world = w.renamed_back(w.renamed_back(world, 0), 1)
    yield "takeover.rename_back", w.with_executor(world, i, step="takeover.rmdir")


def rmdir(protocol: Protocol, world: World, i: int) -> Steps:
    """Remove them, which fails while there is a file in one; then make one's own."""
    if protocol.holds(Guard.RMDIR):
        if any(world.hidden):
            yield "takeover.rmdir fails", w.with_executor(world, i, step="takeover.rename_back")
            return
        world = world._replace(folders=(False, False))
    if protocol.holds(Guard.FOLDER_FIRST):
        world = world._replace(folders=w.with_one(world.folders, i, value=True))
    yield "takeover.rmdir", _first(protocol, world, i)


def _first(protocol: Protocol, world: World, i: int) -> World:
    me = world.executors[i]
    if world.databases[me.database].runs[me.run].phase in ("dropping", "switched"):
        return before_deletes(protocol, world, i)
    return w.with_executor(world, i, step="stage.write")


def verb_now(verb: str, database: Database) -> str | None:
    """Return the verb as the run's state has it (the undo of a run that never switched is a drop), None: refused."""
    phase = database.runs[0].phase
    if verb in ("undo", "drop") and phase in ("staging", "dropping"):
        return "drop"
    allowed = {
        "apply": ("none", "staging", "switched", "undone"),
        "undo": ("switched", "done", "undoing"),
        "clean": ("switched", "done"),
        "drop": (),
    }
    return verb if phase in allowed[verb] else None


STEPS: dict[str, Step] = {
    "begin": begin,
    "takeover": takeover,
    "takeover.rename_back": rename_back,
    "takeover.rmdir": rmdir,
}
