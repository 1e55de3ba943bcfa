"""The world that the protocol works in: databases, stores, two executors, a request in flight.

Sets of documents are bit masks (document 0 is 1, document 1 is 2); ``SOURCE`` and ``DEST`` are the two places, and a
mask of both places has two bits a place. Content is present or not: a delete's condition on a version does not help, as
a copy that is written again has the same ETag and the same MD5.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

SOURCE, DEST = PLACES = 0, 1
DOCUMENTS = (0, 1)
BOTH = 3
EVERYWHERE = 15
NOBODY = 0  # as a token: none yet

T = TypeVar("T")


class Run(NamedTuple):
    """A run's record: the forward run moves from source to dest, the reverse one (its undo) back.

    ``phase`` is none, staging, dropping, switched, undoing, done or undone.
    """

    phase: str = "none"
    marked: int = 0
    deleted: int = 0


class Database(NamedTuple):
    """What a dump holds. ``rows`` are the documents whose row leads to dest; ``late`` and ``tables`` name places too.

    ``token`` is the executor's row, ``late`` the late deletes, ``owner`` the marks that it left at the places.
    """

    rows: int = 0
    runs: tuple[Run, Run] = (Run(), Run())
    token: int = NOBODY
    late: int = 0
    tables: int = 0
    owner: tuple[int, int] = (NOBODY, NOBODY)


class Executor(NamedTuple):
    """A process: the verbs it still runs, and its next step.

    ``run`` is 0 forward or 1 reverse, ``todo`` the documents of the batch, ``life`` that of the request it has signed.
    """

    verbs: tuple[str, ...]
    step: str = "begin"
    database: int = 0
    token: int = NOBODY
    locked: bool = False
    run: int = 0
    doc: int = 0
    todo: int = 0
    life: str = ""
    before_restore: bool = False

    @property
    def phase(self) -> str:
        """Which delete it is about: clean or drop."""
        return "drop" if self.verbs[0] == "drop" else "clean"

    @property
    def place(self) -> int:
        """Where it deletes."""
        return DEST if self.verbs[0] == "drop" else sides(self.run)[0]


ENDED = Executor((), step="")


class Request(NamedTuple):
    """A delete whose answer nobody sees. ``life``: fresh, old (its late delete is on record), or over."""

    place: int
    doc: int
    life: str
    before_restore: bool


class World(NamedTuple):
    """Everything at one instant. ``faults`` may still happen; ``hidden`` files are in the executors' folders."""

    databases: tuple[Database, ...]
    stores: int
    executors: tuple[Executor, Executor]
    faults: frozenset[str]
    hidden: tuple[int, int] = (0, 0)
    folders: tuple[bool, bool] = (False, False)
    request: Request | None = None
    marks: tuple[int, int] = (NOBODY, NOBODY)
    dump: Database | None = None
    restored: bool = False
    excused: int = 0
    forgiven: int = 0


def violation(world: World, kinds: tuple[str, str]) -> str | None:
    """Return which rule is broken for the services' database, the first one.

    After a restore in place rows may lead to what was deleted since the dump, or is by a batch that was in hand: those
    documents are excused from R1 until the next switch, not from having a copy left. Forgiven is what the restore
    itself took away: content that lies in a table is as old as the dump.
    """
    rows = world.databases[0].rows
    if rows not in (0, BOTH):
        return "R2: rows did not switch together"
    sources, copies = (content(world, kinds, 0, place) for place in PLACES)
    hidden = world.hidden[0] | world.hidden[1]
    if sources | copies | of(SOURCE, hidden) | of(DEST, hidden) | world.forgiven != BOTH:
        return "lost: no copy is left"
    if (copies & rows) | (sources & ~rows) | world.excused | world.forgiven != BOTH:
        return "R1: a row leads to nothing"
    return None


def at(place: int, documents: int) -> int:
    """Return the mask of documents at a place."""
    return documents << 2 * place


def of(place: int, mask: int) -> int:
    """Return the documents of a mask that are at a place."""
    return mask >> 2 * place & BOTH


def sides(run: int) -> tuple[int, int]:
    """Return from where to where a run moves."""
    return (DEST, SOURCE) if run else (SOURCE, DEST)


def content(world: World, kinds: tuple[str, str], database: int, place: int) -> int:
    """Return the documents present at a place, as this database sees it."""
    return of(place, world.databases[database].tables if kinds[place] == "table" else world.stores)


def with_content(
    world: World, kinds: tuple[str, str], database: int, place: int, *, add: int = 0, drop: int = 0
) -> World:
    """Return the world after documents came to a place, or were deleted there."""
    add, keep = at(place, add), ~at(place, drop)
    if kinds[place] == "table":
        return with_database(world, database, tables=(world.databases[database].tables | add) & keep)
    return world._replace(stores=(world.stores | add) & keep)


def with_one(pair: tuple[T, T], number: int, value: T) -> tuple[T, T]:
    """Return the pair with one of its values replaced."""
    return (pair[0], value) if number else (value, pair[1])


def with_executor(world: World, i: int, **changes: Any) -> World:
    """Return the world with an executor changed."""
    return world._replace(executors=with_one(world.executors, i, world.executors[i]._replace(**changes)))


def stopped(world: World, i: int) -> World:
    """Return the world without this executor: it ended, or was killed."""
    return world._replace(executors=with_one(world.executors, i, ENDED))


def with_database(world: World, number: int, **changes: Any) -> World:
    """Return the world with a database changed."""
    changed, databases = world.databases[number]._replace(**changes), world.databases
    return world._replace(databases=(*databases[:number], changed, *databases[number + 1 :]))


def with_run(world: World, me: Executor, **changes: Any) -> World:
    """Return the world with the record of an executor's run changed."""
    runs = world.databases[me.database].runs
    return with_database(world, me.database, runs=with_one(runs, me.run, runs[me.run]._replace(**changes)))


def with_late(world: World, database: int, late: int) -> World:
    """Record late deletes: what is signed for them by now is older than the record, and over when a wait for it is."""
    world = with_database(world, database, late=world.databases[database].late | late)
    return _aged(world, late, "fresh", "old")


def without_late(world: World, database: int, place: int) -> World:
    """Return the world after a wait for the late deletes at a place."""
    mask = at(place, BOTH) & world.databases[database].late
    world = with_database(world, database, late=world.databases[database].late & ~mask)
    return _aged(world, mask, "old", "over")


def _aged(world: World, mask: int, then: str, now: str) -> World:
    request = world.request
    if request and request.life == then and mask & at(request.place, 1 << request.doc):
        world = world._replace(request=request._replace(life=now))
    for i, executor in enumerate(world.executors):
        if executor.life == then and mask & at(executor.place, 1 << executor.doc):
            world = with_executor(world, i, life=now)
    return world


def excuse(world: World, bit: int, *, before_restore: bool) -> World:
    """Excuse a document that a batch takes away which was in hand when a dump was restored."""
    return world._replace(excused=world.excused | bit) if before_restore else world


def renamed_back(world: World, i: int) -> World:
    """Return the world with the files of an executor's folder where they were."""
    return world._replace(stores=world.stores | world.hidden[i], hidden=with_one(world.hidden, i, 0))
