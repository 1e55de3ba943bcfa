"""May anything be deleted at a place: it is the one on record, and its owner mark is still this run's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from attrs import define, field

from reconcile.catalog.rows import streamed
from reconcile.errors import PlaceChangedError
from reconcile.running.phases.mark import Mark
from reconcile.running.record.identity import database_text, same_database
from reconcile.running.record.next_steps import rebind_command
from reconcile.running.record.run import Run
from reconcile.running.record.states import Removal
from reconcile.running.record.tables import moves, places, runs
from reconcile.running.record.work_moves import work_move
from reconcile.stores import Store
from reconcile.stores.addresses import Key

SEEN_SECONDS = 60.0  # after which another machine sees a new file: NFS remembers for so long that there was none
_POLL_SECONDS = 1.0
_READ_AHEAD = 1000


@define
class PlaceCheck:
    """The places of one run, each with the mark that it is to have there.

    ``unclaimed`` says of some, by the names of their backends, why it is not certain which place they are;
    ``of_others`` are destinations that another installation owns.
    """

    run: Run
    stores: Mapping[str, Store]
    marks: dict[str, bytes] = field(factory=dict, kw_only=True)
    unclaimed: dict[str, str] = field(factory=dict, kw_only=True)
    of_others: set[str] = field(factory=set, kw_only=True)

    @classmethod
    def on_record(cls, run: Run, stores: Mapping[str, Store]) -> PlaceCheck:
        """Return the check for a worker: the marks that are there now are to have the words on record.

        Raises `PlaceChangedError` for one that has another.
        """
        query = sa.select(places.c.name, places.c.mark).where(places.c.run_id == run.run_id)
        with run.catalog.read() as connection:
            words: dict[str, str | None] = {row.name: row.mark for row in connection.execute(query)}
        found = cls(run, stores)
        for name, store in stores.items():
            word = words.get(name)
            if word is None:
                continue
            text = store.mark()
            deadline = time.monotonic() + SEEN_SECONDS
            while (text is None or (Mark.decode(text).owner or {}).get("word") != word) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                text = store.mark()
            if text is None or (Mark.decode(text).owner or {}).get("word") != word:
                assert run.executor is not None  # noqa: S101 - whoever is a worker is led
                run.executor.check()  # whoever took over has changed the mark, and rightly
                raise PlaceChangedError(
                    f"{store.address.identity}: this worker does not find the owner mark that the run wrote there;"
                    " nothing was done by it",
                    hint="is the same data dir mounted there, does the worker reach the same server?",
                )
            found.marks[name] = text
        return found

    def check(self, name: str, *, deletes: bool = True) -> None:
        """Raise before a batch of deletes unless the place is the one on record and still this executor's.

        ``deletes`` False: it is the other side of what is deleted, which with ``share`` may be another installation's.
        """
        store = self.stores[name]
        store.check_place()
        if name in self.of_others and not deletes:
            return
        if name in self.unclaimed:
            raise PlaceChangedError(
                f"{store.address.identity}: {self.unclaimed[name]}; nothing is deleted there",
                hint="if it is the right place, run this, then the same command"
                f" again:\n{rebind_command(self.run.record)}",
            )
        if name in self.marks and store.mark() != self.marks[name]:
            assert self.run.executor is not None  # noqa: S101 - whoever deletes executes
            self.run.executor.check()  # whoever took over has changed the mark, and rightly
            other = Mark.decode(store.mark())
            who = other.describe() if other.owner else "no owner: the mark of this run is gone"
            raise PlaceChangedError(
                f"{store.address.identity}: the owner mark is no longer this run's; it names: {who}. Nothing more is"
                " deleted there",
                hint=f"if this database is the one that the services use:\n{rebind_command(self.run.record)}",
            )

    def may_overwrite(self, name: str) -> bool:
        """Tell whether content at a destination may be replaced; raises as `check` does."""
        if name in self.of_others or self.why_not_delete(name) is not None:
            return False
        self.check(name)
        return True

    def why_not_delete(self, name: str) -> str | None:
        """Return why nothing may ever be deleted at a place, None where it may."""
        mark = Mark.decode(self.marks.get(name))
        others = self._others(mark)
        return f"the place is shared with {', '.join(map(database_text, others))}" if others else None

    def is_confirmed(self, name: str) -> bool:
        """Tell whether it is certain that the place is the one on record, so that what is gone there was deleted."""
        return name not in self.unclaimed

    def _others(self, mark: Mark) -> list[dict[str, Any]]:
        me = self.run.catalog.identity
        return [other for other in mark.shared if not same_database(other.get("identity", {}), me)]


def marked_keys(run: Run, store: Store) -> Iterator[Key]:
    """Yield the keys at a place that runs which are not finished have marked, to delete them."""
    is_clean = runs.c.switched_at.is_not(None)
    name = sa.case((is_clean, moves.c.source), else_=moves.c.dest)
    query = (
        sa.select(moves, is_clean.label("is_clean"))
        .join_from(moves, runs, runs.c.run_id == moves.c.run_id)
        .join(places, sa.and_(places.c.run_id == moves.c.run_id, places.c.name == name))
        .where(places.c.store == store.address.identity, moves.c.cleaned == Removal.MARKED)
    )
    with run.catalog.read(bulk=True) as connection:
        for *row, of_source in connection.execute(query, execution_options=streamed(_READ_AHEAD)):
            move = work_move(row).move
            url = move.before.content_url if of_source else move.after.content_url
            yield store.address.keys(url, move.document)[0]
