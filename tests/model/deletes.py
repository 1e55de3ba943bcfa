"""The deletes of clean and drop: claim the place, mark, look at the other side, delete, record, finish."""

from __future__ import annotations

from tests.model import world as w
from tests.model.guards import Guard
from tests.model.protocol import Protocol, Step, Steps, guarded
from tests.model.world import BOTH, DOCUMENTS, ENDED, NOBODY, PLACES, SOURCE, Executor, Request, World

_MARK = {"clean": Guard.MARK_CLEAN, "drop": Guard.MARK_DROP}
_LOOK = {"clean": Guard.LOOK_AT_COPIES, "drop": Guard.LOOK_AT_SOURCES}


def wait(protocol: Protocol, world: World, i: int) -> Steps:
    """Wait until what is late at the other side has vanished, or will not."""
    me = world.executors[i]
    over = w.without_late(world, me.database, 1 - me.place)
    after = w.with_executor(over, i, step=f"{me.phase}.claim")
    yield from guarded(protocol, world, i, f"{me.phase}.wait.over", after)


def claim(protocol: Protocol, world: World, i: int) -> Steps:
    """Write the owner's mark by compare-and-swap, and put it on record."""
    me = world.executors[i]
    owner, may, after = world.databases[me.database].owner, True, world
    if protocol.holds(Guard.OWNER_MARK) and protocol.kinds[me.place] != "table":
        may = world.marks[me.place] == owner[me.place]
        after = w.with_database(world, me.database, owner=w.with_one(owner, me.place, me.token))
        after = after._replace(marks=w.with_one(world.marks, me.place, me.token))
    after = w.with_executor(after, i, step=f"{me.phase}.mark")
    yield from guarded(protocol, world, i, f"{me.phase}.claim", after, may=may)


def mark(protocol: Protocol, world: World, i: int) -> Steps:
    """Mark what is about to be deleted: not what a row leads to."""
    me = world.executors[i]
    database = world.databases[me.database]
    run = database.runs[me.run]
    unreferred = database.rows if me.place == SOURCE else BOTH & ~database.rows
    todo = unreferred & ~run.deleted & protocol.content(world, me, me.place)
    after = w.with_run(world, me, marked=todo) if protocol.holds(_MARK[me.phase]) else world
    after = w.with_executor(after, i, todo=todo, step=f"{me.phase}.look")
    may = run.phase == ("dropping" if me.phase == "drop" else "switched")
    yield from guarded(protocol, world, i, f"{me.phase}.mark", after, may=may)


def look(protocol: Protocol, world: World, i: int) -> Steps:
    """Look at the owner's marks, and at the other side: what is not intact there is kept."""
    me = world.executors[i]
    places = PLACES if protocol.holds(Guard.OWNER_AT_BOTH) else (me.place,)
    if protocol.not_owner(world, me, places):
        yield f"{me.phase}.look: not the owner", w.stopped(world, i)
        return
    intact = protocol.content(world, me, 1 - me.place) if protocol.holds(_LOOK[me.phase]) else BOTH
    yield f"{me.phase}.look", _next(protocol, w.with_executor(world, i, todo=me.todo & intact, doc=-1), i)


def _next(protocol: Protocol, world: World, i: int) -> World:
    """Go on to the next document of the batch, or to its record."""
    me = world.executors[i]
    for doc in DOCUMENTS:
        if doc > me.doc and me.todo >> doc & 1:
            return _go(w.with_executor(world, i, doc=doc), i, _first(protocol, me))
    return w.with_executor(world, i, doc=0, life="", step=f"{me.phase}.record")


def _first(protocol: Protocol, me: Executor) -> str:
    kind = protocol.kinds[me.place]
    if kind == "file":
        return "rename" if protocol.holds(Guard.RENAME) else "unlink"
    if kind == "table":
        return "table"
    return "sign" if protocol.holds(Guard.SIGN_FIRST) or not protocol.holds(Guard.ROW_BEFORE_SEND) else "check"


def _go(world: World, i: int, following: str, **changes: object) -> World:
    me = world.executors[i]
    return w.with_executor(world, i, **{"life": "", "step": f"{me.phase}.delete.{following}", **changes})


def table(protocol: Protocol, world: World, i: int) -> Steps:
    """Delete in the transaction that checks the executor's row."""
    me = world.executors[i]
    name = f"{me.phase}.delete.table {me.doc}"
    if protocol.holds(Guard.ROW_IN_TABLE):
        if not protocol.still_mine(world, me):
            yield f"{name} refused", w.stopped(world, i)
            return
        world = w.with_executor(world, i, before_restore=False)
    yield name, _deleted(protocol, world, i)


def sign(protocol: Protocol, world: World, i: int) -> Steps:
    """Sign a request: its life begins."""
    me = world.executors[i]
    checks = protocol.holds(Guard.SIGN_FIRST) and protocol.holds(Guard.ROW_BEFORE_SEND)
    yield f"{me.phase}.delete.sign {me.doc}", _go(world, i, "check" if checks else "send", life="fresh")


def check(protocol: Protocol, world: World, i: int) -> Steps:
    """Check the executor's row; what is deleted after it was in nobody's hand when a dump was restored before it."""
    me = world.executors[i]
    file = protocol.kinds[me.place] == "file"
    following = "unlink" if file else "send" if me.life else "sign"
    name = f"{me.phase}.delete.check {me.doc}"
    if protocol.still_mine(world, me):
        yield name, _go(world, i, following, life=me.life, before_restore=False)
    else:
        yield f"{name} refused", _go(world, i, "rename_back") if file else w.stopped(world, i)


def send(protocol: Protocol, world: World, i: int) -> Steps:
    """Send the request. Once, no answer comes: it is noted, and tried again."""
    me = world.executors[i]
    name = f"{me.phase}.delete.send {me.doc}"
    if protocol.is_refused(me.life, me.place):
        yield f"{name}: its life is over", w.stopped(world, i)
    else:
        yield f"{name}{' beyond the bound' if me.life == 'over' else ''}", _deleted(protocol, world, i)
    if "late" in world.faults:
        request = Request(me.place, me.doc, me.life, me.before_restore)
        world = world._replace(request=request, faults=world.faults - {"late"})
        following = "note" if protocol.holds(Guard.LATE_NOTED) else _first(protocol, me)
        yield f"{name}: no answer", _go(world, i, following)


def note(protocol: Protocol, world: World, i: int) -> Steps:
    """Record a request without an answer as a late delete."""
    me = world.executors[i]
    late = w.with_late(world, me.database, w.at(me.place, 1 << me.doc))
    yield from guarded(protocol, world, i, f"{me.phase}.delete.note {me.doc}", _go(late, i, _first(protocol, me)))


def rename(protocol: Protocol, world: World, i: int) -> Steps:
    """Rename a file into the executor's folder, which fails when a takeover has removed that."""
    me = world.executors[i]
    bit, name = 1 << me.doc, f"{me.phase}.delete.rename {me.doc}"
    if not protocol.holds(Guard.FOLDER_FIRST):
        world = world._replace(folders=w.with_one(world.folders, i, value=True))
    if not world.folders[i]:
        yield f"{name}: the folder is gone", w.stopped(world, i)
        return
    if protocol.content(world, me, me.place) & bit:
        world = protocol.deleted(world, me.database, me.place, bit, before_restore=me.before_restore)
        world = world._replace(hidden=w.with_one(world.hidden, i, world.hidden[i] | w.at(me.place, bit)))
    yield name, _go(world, i, "check" if protocol.holds(Guard.ROW_AFTER_RENAME) else "unlink")


def rename_back(protocol: Protocol, world: World, i: int) -> Steps:
    """Give back what was renamed by an executor that was superseded meanwhile."""
    yield f"{world.executors[i].phase}.delete.rename_back", w.stopped(w.renamed_back(world, i), i)


def unlink(protocol: Protocol, world: World, i: int) -> Steps:
    """Unlink a file where it was renamed to."""
    me = world.executors[i]
    name = f"{me.phase}.delete.unlink {me.doc}"
    if not protocol.holds(Guard.RENAME):
        yield name, _deleted(protocol, world, i)
        return
    hidden = world.hidden[i] & ~w.at(me.place, 1 << me.doc)
    yield name, _next(protocol, world._replace(hidden=w.with_one(world.hidden, i, hidden)), i)


def _deleted(protocol: Protocol, world: World, i: int) -> World:
    me = world.executors[i]
    bit, before = 1 << me.doc, me.before_restore
    return _next(protocol, protocol.deleted(world, me.database, me.place, bit, before_restore=before), i)


def record(protocol: Protocol, world: World, i: int) -> Steps:
    """Record the batch."""
    me = world.executors[i]
    deleted = world.databases[me.database].runs[me.run].deleted | me.todo
    after = w.with_run(world, me, marked=0, deleted=0 if me.phase == "drop" else deleted)
    after = w.with_executor(after, i, todo=0, step="finish")
    yield from guarded(protocol, world, i, f"{me.phase}.record", after)


def finish(protocol: Protocol, world: World, i: int) -> Steps:
    """End the run, and go on to the next verb."""
    me = world.executors[i]
    database = world.databases[me.database]
    forward, reverse = database.runs
    undone = me.run or me.phase == "drop"
    reverse = reverse._replace(phase="done") if me.run else reverse
    runs = forward._replace(phase="undone" if undone else "done"), reverse
    owner, marks = database.owner, world.marks
    if not protocol.holds(Guard.OWNER_STAYS) and marks[me.place] == me.token:
        owner, marks = (w.with_one(pair, me.place, NOBODY) for pair in (owner, marks))
    after = w.with_database(world, me.database, runs=runs, owner=owner)._replace(marks=marks)
    following = Executor(me.verbs[1:], database=me.database, token=me.token) if me.verbs[1:] else ENDED
    after = after._replace(executors=w.with_one(after.executors, i, following))
    yield from guarded(protocol, world, i, "finish", after)


STEPS: dict[str, Step] = {
    "wait": wait,
    "claim": claim,
    "mark": mark,
    "look": look,
    "delete.table": table,
    "delete.sign": sign,
    "delete.check": check,
    "delete.send": send,
    "delete.note": note,
    "delete.rename": rename,
    "delete.rename_back": rename_back,
    "delete.unlink": unlink,
    "record": record,
}
