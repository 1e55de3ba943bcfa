"""What happens to executors, requests and databases, each at most once; and where a search begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.model import deletes, protocol, takeover
from tests.model import world as w
from tests.model.protocol import Protocol, Step, Steps
from tests.model.search import Found, search
from tests.model.world import BOTH, DEST, ENDED, EVERYWHERE, PLACES, SOURCE, Database, Executor, Run, World, violation

# pause: sessions end and the process goes on; late: a request whose answer never comes; vanish: a store loses a copy.
# dump, then restore (in place) or copy (a second database, beside; "copy later": not before A has ended).
FAULTS = frozenset({"pause", "kill", "late"})

STEPS: dict[str, Step] = {
    **takeover.STEPS,
    **protocol.STEPS,
    "finish": deletes.finish,
    **{f"{phase}.{name}": step for phase in ("clean", "drop") for name, step in deletes.STEPS.items()},
}


def check(
    protocol: Protocol,
    first: tuple[str, ...],
    second: tuple[str, ...],
    faults: frozenset[str] = FAULTS,
    wanted: Callable[[World, tuple[str, str]], str | None] = violation,
) -> Found:
    """Search all interleavings of two executors, each with its verbs, for a state that is ``wanted``."""
    begin = [
        (name, World((database,), stores, (Executor(first), Executor(second) if second else ENDED), faults))
        for name, database, stores in starts(protocol, first[0])
    ]
    return search(begin, lambda world: steps(protocol, world), lambda world: wanted(world, protocol.kinds))


def starts(protocol: Protocol, verb: str) -> Iterator[tuple[str, Database, int]]:
    """Yield what a first verb may find: a name, the database, what is in stores."""
    staging, done, sources = Run("staging"), Run("done"), w.at(SOURCE, BOTH)
    found = {
        "apply": [("nothing is moved", Database(), sources)],
        "drop": [
            ("both are staged", Database(runs=(staging, Run())), EVERYWHERE),
            ("one is staged", Database(runs=(staging, Run())), sources | w.at(DEST, 1)),
        ],
        "clean": [("sources are kept", Database(BOTH, (done, Run())), EVERYWHERE)],
        "undo": [
            ("sources are kept", Database(BOTH, (done, Run())), EVERYWHERE),
            ("sources are deleted", Database(BOTH, (done._replace(deleted=BOTH), Run())), w.at(DEST, BOTH)),
            ("one is deleted", Database(BOTH, (done._replace(deleted=1), Run())), EVERYWHERE & ~w.at(SOURCE, 1)),
        ],
    }
    tables = sum(w.at(place, BOTH) for place in PLACES if protocol.kinds[place] == "table")
    for name, database, there in found[verb]:
        yield name, database._replace(tables=there & tables), there & ~tables


def steps(protocol: Protocol, world: World) -> Steps:
    """Yield everything that can happen next, by name."""
    for i, executor in enumerate(world.executors):
        if executor.step:
            for name, after in STEPS[executor.step](protocol, world, i):
                yield f"{'AB'[i]}: {name}", after
    if world.request is not None:
        yield _arrives(protocol, world)
    if world.faults:
        yield from _executor_faults(world)
        yield from _database_faults(protocol, world)
        if "vanish" in world.faults and world.executors[0].step == "begin":
            stores = world.stores & ~w.at(DEST, 1)
            yield "copy 0 vanishes", world._replace(faults=world.faults - {"vanish"}, excused=1, stores=stores)


def _arrives(protocol: Protocol, world: World) -> tuple[str, World]:
    request = world.request
    world = world._replace(request=None)
    if protocol.is_refused(request.life, request.place):
        return "late is refused", world
    beyond = " beyond the bound" if request.life == "over" else ""
    bit, before = 1 << request.doc, request.before_restore
    return f"late.arrives{beyond}", protocol.deleted(world, 0, request.place, bit, before_restore=before)


def _executor_faults(world: World) -> Steps:
    for i, executor in enumerate(world.executors):
        if not executor.locked:
            continue
        if "pause" in world.faults:
            yield (
                f"{'AB'[i]}: sessions end",
                w.with_executor(world, i, locked=False)._replace(faults=world.faults - {"pause"}),
            )
        if "kill" in world.faults:
            yield f"{'AB'[i]}: killed", w.stopped(world, i)._replace(faults=world.faults - {"kill"})


def _database_faults(protocol: Protocol, world: World) -> Steps:
    a, b = world.executors
    if "dump" in world.faults:
        yield "dump", world._replace(dump=world.databases[0], faults=world.faults - {"dump"})
    if world.dump is None:
        return
    if "restore" in world.faults:
        yield "restore", _restored(protocol, world, world.dump)
    if "copy" in world.faults and b.step == "begin" and not ("copy later" in world.faults and a.step):
        databases, faults = (*world.databases, world.dump), world.faults - {"copy"}
        pair = (a, b._replace(database=1))
        yield "copy beside", world._replace(databases=databases, executors=pair, faults=faults, dump=None)


def _restored(protocol: Protocol, before: World, dump: Database) -> World:
    """Excuse what the dump is too old for; forgive what it has no copy of, or what is being deleted meanwhile."""
    a, b = (e._replace(locked=False, before_restore=e.step not in ("", "begin")) for e in before.executors)
    request = before.request and before.request._replace(before_restore=True)
    after = before._replace(
        databases=(dump,),
        executors=(a, b),
        request=request,
        faults=before.faults - {"restore"},
        restored=True,
        dump=None,
    )
    had, have = ([w.content(world, protocol.kinds, 0, place) for place in (SOURCE, DEST)] for world in (before, after))
    deleting = request is not None or any(".delete." in e.step for e in (a, b))
    taken = (had[0] & ~have[0]) | (had[1] & ~have[1]) if deleting else 0
    forgiven = taken | (had[0] | had[1]) & ~(have[0] | have[1])
    return after._replace(excused=BOTH & ~(have[1] & dump.rows | have[0] & ~dump.rows), forgiven=forgiven)
