"""The owner mark: which run may delete at a place; written there, and checked before each batch of deletes.

A mark is a small JSON text beside the documents. ``owner`` is the run that may delete there, by a random word that is
new for each executor and each phase of deleting. A word that this database has no record of is another database's: that
of a copy, of another installation, or of this very one before it was restored to an earlier state. ``shared`` names
databases with documents there that none of their runs wrote: no other database deletes there meanwhile.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
import sqlalchemy as sa
from attrs import define, field

from reconcile.errors import (
    BackendError,
    DocumentError,
    ForeignOwnerError,
    PlaceChangedError,
    TransientError,
)
from reconcile.logs import get_logger
from reconcile.planning.places import other_side
from reconcile.running.phases.mark import Mark
from reconcile.running.phases.place_check import PlaceCheck, marked_keys
from reconcile.running.record.executor import executor_name
from reconcile.running.record.identity import database_record, same_database
from reconcile.running.record.next_steps import rebind_command
from reconcile.running.record.place_record import is_same_place, place_text, rename_place
from reconcile.running.record.states import MoveState, Origin, RunState
from reconcile.running.record.tables import executors, marks, moves, places, runs
from reconcile.stores import Store

log = get_logger()


@define
class Owner(PlaceCheck):
    """The places of one run, opened by this executor. ``share``: adopt at a destination that others own."""

    share: bool = False
    _word: str = field(init=False, factory=lambda: secrets.token_hex(16))

    def open(self) -> None:
        """Check every place against the record, put back what earlier executors moved aside, and claim the place.

        Raises `PlaceChangedError` for another place than on record, `ForeignOwnerError` for one that others own.
        """
        recorded, deletes_at = self._recorded(), self._places_of_deletes()
        for name, store in self.stores.items():
            mark = Mark.decode(self._read(name, store))
            is_ours = mark.owner is not None and mark.owner.get("word") in self._words()
            before = recorded.get(name)
            self._check_identity(name, store, before, is_ours=is_ours)
            self._record(name, store, before)
            store.give_back(marked_keys(self.run, store), self._tokens() - {self._token})
            if name in deletes_at and store.keeps_marks:
                self._claim(name, store, mark, before, is_ours=is_ours)

    def share_adopted(self) -> None:
        """Record at the destination that documents of this database are there which no run of it wrote.

        Somebody else may have put them there, and may take them away again.
        """
        me = database_record(self.run.catalog)
        for name in sorted(self._dests_of_unknown()):
            store = self.stores[name]
            if not store.keeps_marks:
                continue
            text = store.mark()
            mark = Mark.decode(text)
            if any(same_database(other["identity"], me["identity"]) for other in mark.shared):
                continue
            new = Mark(mark.owner, [*mark.shared, me])
            if not store.swap_mark(text, new.encode()):
                raise ForeignOwnerError(
                    f"{store.address.identity}: another process has just changed the owner mark; nothing was switched",
                    hint="run the same command again",
                )
            for other in self.marks:
                if self.stores[other].mark() == new.encode():  # this place, perhaps under another name too
                    self.marks[other] = new.encode() or b""

    def _dests_of_unknown(self) -> set[str]:
        """Return where documents are adopted that no other run on record has to do with."""
        run_id = self.run.run_id
        mine = (moves.c.run_id == run_id, moves.c.state == MoveState.STAGED, moves.c.origin == Origin.ADOPTED)
        known = (sa.select(url).where(moves.c.run_id != run_id) for url in (moves.c.after_url, moves.c.before_url))
        unknown = sa.except_(sa.select(moves.c.after_url).where(*mine), *known)  # sets: row by row it takes days
        with self.run.catalog.read(bulk=True) as connection:
            if connection.execute(sa.select(moves.c.seq).where(*mine).limit(1)).first() is None:
                return set()
            self.run.catalog.favour_hash_joins(connection)
            query = sa.select(moves.c.dest).distinct().where(*mine, moves.c.after_url.in_(unknown))
            return set(connection.execute(query).scalars())

    def release(self) -> None:
        """Remove the marks once all deletes are done. They stay where another unfinished run uses the place.

        This comes before the run's end is recorded (`forget`): killed in between, the same command does both.
        """
        me = database_record(self.run.catalog)
        for name in self.marks:
            store = self.stores[name]
            if self._is_in_hand(store):
                continue
            try:
                found = store.mark()  # others may have put on record that they share the place
                mark = Mark.decode(found)
                if mark.owner is None or mark.owner.get("word") != self._word:
                    continue
                shared = [other for other in mark.shared if not same_database(other["identity"], me["identity"])]
                if shared != mark.shared and self._adopted_at(store):
                    shared = mark.shared
                store.swap_mark(found, Mark(None, shared).encode())
            except (BackendError, DocumentError) as error:
                log.warning("owner mark left", at=store.address.identity, reason=str(error))
        self.marks.clear()

    def forget(self, connection: sa.Connection) -> None:
        """Record, with the run's end, that it no longer has marks."""
        values = {"mark_before": places.c.mark, "mark": None}
        connection.execute(sa.update(places).where(places.c.run_id == self.run.run_id).values(**values))
        self.run.update(connection, phase=None)

    def _read(self, name: str, store: Store) -> bytes | None:
        try:
            return store.mark()
        except TransientError:
            raise
        except (BackendError, DocumentError) as error:
            log.info("owner mark not read", at=store.address.identity, backend=name, reason=str(error))
            return None

    @property
    def _token(self) -> str:
        assert self.run.executor is not None  # noqa: S101 - whoever opens places executes
        return self.run.executor.token

    def _places_of_deletes(self) -> set[str]:
        """Return where this run may delete: its sources unless they are kept, and its own copies always."""
        pairs = self.run.backend_pairs()
        deleted = [] if self.run.record.keep_source else self.run.backend_pairs(~moves.c.keep)
        sources = {source for source, _dest in deleted}
        return sources | {dest for _source, dest in pairs}

    def _claim(self, name: str, store: Store, mark: Mark, before: Any, *, is_ours: bool) -> None:  # noqa: ANN401
        identity = store.address.identity
        if mark.owner is not None and not is_ours:
            if self.share and name.startswith("dest."):
                self.unclaimed[name] = f"it is shared with {mark.describe()}"
                self.of_others.add(name)
                if "inode" in store.place():  # whose mark workers are to find: now it is another's
                    with self.run.writing() as connection:
                        mine = (places.c.run_id == self.run.run_id, places.c.name == name)
                        connection.execute(sa.update(places).where(*mine).values(mark=None))
                return
            raise ForeignOwnerError(
                f"{identity} belongs to a run that this database does not know: {mark.describe()}. Nothing was done",
                hint="if two installations share the place: apply --share-destination\nif this database is "
                f"the one that the services use:\n{rebind_command(self.run.record)}",
            )
        was_marked = before is not None and before.run_id == self.run.run_id and before.mark is not None
        if was_marked and mark.owner is None and "inode" not in store.place():
            self.unclaimed[name] = (
                "the mark that this run wrote there is gone: another server may be answering at that name"
            )
            return
        self._write_mark(name, store, mark)

    def put_back(self) -> None:
        """Put back what others have taken aside and left, and remove their directories."""
        tokens = self._tokens() - {self._token}
        for store in self.stores.values():
            store.give_back(marked_keys(self.run, store), tokens)

    def begin_phase(self, phase: str) -> None:
        """Record that the run deletes from now on, and change its marks.

        A database that is restored to a state from before then finds marks that it has no record of.
        """
        self._word = secrets.token_hex(16)
        with self.run.writing() as connection:
            self.run.update(connection, phase=phase)
        for name, text in list(self.marks.items()):
            self._write_mark(name, self.stores[name], Mark.decode(text))

    def _write_mark(self, name: str, store: Store, mark: Mark) -> None:
        """Write this run's mark in the place of another; it is on record first, beside the one that is there."""
        owner = {
            "word": self._word,
            "run": self.run.run_id,
            "database": database_record(self.run.catalog),
            "executor": executor_name(),
        }
        new = Mark(owner, mark.shared).encode() or b""
        mine = (places.c.run_id == self.run.run_id, places.c.name == name)
        there = mark.owner.get("word") if mark.owner else None
        with self.run.writing() as connection:  # both words are known from here on, whichever is there
            known = {"mark_before": self._word} | ({"mark": there} if there else {})
            connection.execute(sa.update(places).where(*mine).values(**known))
            connection.execute(marks.insert(), {"word": self._word, "name": name, "store": store.address.identity})
        try:
            is_there = store.mark() == new  # one place under two names
            if not is_there and not store.swap_mark(mark.encode(), new):
                raise ForeignOwnerError(
                    f"{store.address.identity}: another process has just written its mark there; nothing was done",
                    hint="run the same command again",
                )
        except TransientError:
            raise
        except (BackendError, DocumentError) as error:  # known by what `Store.place` says, then
            log.warning("owner mark not written", at=store.address.identity, backend=name, reason=str(error))
            with self.run.writing() as connection:
                connection.execute(sa.update(places).where(*mine).values(mark=None, mark_before=there))
            return
        self.marks[name] = new
        with self.run.writing() as connection:
            connection.execute(sa.update(places).where(*mine).values(mark=self._word, mark_before=there))

    def _tokens(self) -> set[str]:
        """Return the tokens of all executors that this database knows."""
        with self.run.catalog.read() as connection:
            return set(connection.execute(sa.select(executors.c.token)).scalars())

    def _words(self) -> set[str]:
        """Return the words of all marks that runs of this database have written, or were about to."""
        with self.run.catalog.read() as connection:
            found = connection.execute(sa.select(places.c.mark, places.c.mark_before)).all()
            sent = set(connection.execute(sa.select(marks.c.word)).scalars())
        return sent | {word for row in found for word in row if word is not None}

    def _recorded(self) -> dict[str, Any]:
        """Return the places on record; for those that an undo has not recorded yet, as the undone run has them."""
        with self.run.catalog.read() as connection:
            own = self._rows(connection, self.run.run_id)
            undone = self.run.record.undo_of
            if undone is None:
                return own
            return {other_side(name): row for name, row in self._rows(connection, undone).items()} | own

    @staticmethod
    def _rows(connection: sa.Connection, run_id: str) -> dict[str, Any]:
        return {row.name: row for row in connection.execute(sa.select(places).where(places.c.run_id == run_id))}

    def _check_identity(self, name: str, store: Store, before: Any, *, is_ours: bool) -> None:  # noqa: ANN401
        if before is None or is_ours or is_same_place(msgspec.json.decode(before.details), store.place()):
            return
        raise PlaceChangedError(
            f"{name} is not the place that run {self.run.run_id} began with: it was "
            f"{place_text(before.details)}, now it is {place_text(msgspec.json.encode(store.place()))}. "
            "Nothing was done",
            hint="if the data dir is not mounted, mount it and run the same command again; if this is the "
            f"right place from now on: reconcile rebind {self.run.run_id}",
        )

    def _record(self, name: str, store: Store, before: Any) -> None:  # noqa: ANN401 - a row, or None
        """Put the place on record, or what it is called by now: a device number changes with a mount."""
        identity = store.address.identity
        values = {"store": identity, "details": msgspec.json.encode(store.place()).decode()}
        mine = (places.c.run_id == self.run.run_id, places.c.name == name)
        with self.run.writing(bulk=True) as connection:
            if connection.execute(sa.update(places).where(*mine).values(**values)).rowcount == 0:
                key = {"run_id": self.run.run_id, "name": name}
                connection.execute(places.insert(), key | values | {"life": store.late_seconds, "mark": None})
            if before is not None and before.store != identity:
                rename_place(connection, before.store, identity)

    def _is_in_hand(self, store: Store) -> bool:
        others = (
            sa.select(places.c.details)
            .join(runs, runs.c.run_id == places.c.run_id)
            .where(
                places.c.store == store.address.identity,
                places.c.run_id != self.run.run_id,
                runs.c.state.not_in((RunState.DONE, RunState.UNDONE)),
                runs.c.run_id != (self.run.record.undo_of or ""),
            )
        )
        here = store.place()
        with self.run.catalog.read() as connection:
            found = [msgspec.json.decode(text) for text in connection.execute(others).scalars()]
        return any(there.get("mark") == here.get("mark") for there in found)

    def _adopted_at(self, store: Store) -> bool:
        """Tell whether a run that stands leads rows to documents there which it did not write."""
        ends = self.run.run_id if self.run.record.undo_of is None and not self._has_switched() else ""
        query = (
            sa.select(moves.c.seq)
            .join(runs, runs.c.run_id == moves.c.run_id)
            .where(
                moves.c.dest_store == store.address.identity,
                moves.c.state == MoveState.STAGED,
                moves.c.origin == Origin.ADOPTED,
                runs.c.undo_of.is_(None),
                runs.c.state != RunState.UNDONE,
                runs.c.run_id.not_in([ends, self.run.record.undo_of or ""]),
            )
            .limit(1)
        )
        with self.run.catalog.read(bulk=True) as connection:
            return connection.execute(query).first() is not None

    def _has_switched(self) -> bool:
        query = sa.select(runs.c.switched_at).where(runs.c.run_id == self.run.run_id)
        with self.run.catalog.read() as connection:
            return connection.execute(query).scalar_one() is not None
