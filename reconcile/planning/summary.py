"""What a plan's summary is made of: counts while rows are decided, then sentences for the operator."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field

from reconcile.config.drivers import DRIVERS
from reconcile.formatting import count, human_bytes
from reconcile.planning.decide import DesiredState
from reconcile.planning.forecast import Forecaster
from reconcile.planning.model import ADOPT, OVERWRITE, Blocker, Flow, InPlace, Move, Summary, Tally
from reconcile.planning.places import is_elsewhere
from reconcile.stores.addresses import FileAddress
from reconcile.stores.volatile import existing, volatile

_TABLES = ("db", "db2")


@define
class Group:
    """A running `Tally`."""

    documents: int = 0
    bytes: int = 0
    unsized: int = 0

    def add(self, size: int | None) -> None:
        """Count one document."""
        self.documents += 1
        self.bytes += size or 0
        self.unsized += size is None

    def tally(self) -> Tally:
        """Return the counts so far."""
        return Tally(self.documents, self.bytes, self.unsized)


@define
class Counts:
    """What the summary is made of. ``forecaster`` is None for an undo."""

    desired: DesiredState
    forecaster: Forecaster | None = None
    in_place: Group = field(factory=Group)
    blocked: Group = field(factory=Group)
    other_encoding: int = 0
    beyond_limit: int = 0
    same_url: int = 0
    unverifiable: int = 0
    composite: int = 0
    probed: str | None = None
    actions: Counter[str] = field(factory=Counter)
    unrecorded: int = 0
    made: list[str] = field(factory=list)
    elsewhere_now: int = 0
    source_is_dest: bool = False
    at_dest: int = 0
    flows: dict[tuple[str, str, str], Group] = field(factory=dict)
    reasons: Counter[str] = field(factory=Counter)

    def add_move(self, move: Move) -> None:
        """Count a move."""
        before = move.before
        flow = (move.source, move.dest, move.bucket)
        (self.flows.get(flow) or self.flows.setdefault(flow, Group())).add(before.size)
        self.same_url += before.content_url == move.after.content_url
        self.unverifiable += before.digest is None
        if move.action is not None:
            self.actions[move.action] += 1
        if self.forecaster is not None:
            self.forecaster.add(move)

    @property
    def moves(self) -> Group:
        """All moves."""
        groups = self.flows.values()
        return Group(*(sum(getattr(group, name) for group in groups) for name in ("documents", "bytes", "unsized")))

    @property
    def elsewhere(self) -> int:
        """Documents of the archive that services with the destination config could not read, once all is moved."""
        drivers = ((self._driver(source), self._driver(dest), group) for (source, dest, _), group in self.flows.items())
        moved = sum(g.documents for source, dest, g in drivers if DRIVERS[source].scheme != DRIVERS[dest].scheme)
        return max(0, self.elsewhere_now - moved)

    @property
    def into_database(self) -> int:
        """Return the bytes that go into the catalog's database."""
        return sum(group.bytes for (_, dest, _), group in self.flows.items() if self._driver(dest) in _TABLES)

    @property
    def out_of_database(self) -> int:
        """Return the bytes that leave it."""
        return sum(group.bytes for (source, _, _), group in self.flows.items() if self._driver(source) in _TABLES)

    def _driver(self, name: str) -> str:
        return self.desired.places[name].backend.driver

    @property
    def looks_reversed(self) -> bool:
        """Whether nothing is where the source config says, and everything where the destination's does."""
        everything = self.in_place.documents
        return not self.flows and everything > 0 and self.at_dest == everything

    def forget_moves(self) -> None:
        """Reset the count of moves: those that are left are about to be counted again."""
        self.flows, self.actions = {}, Counter()
        self.forecaster = self.forecaster and Forecaster(self.desired, self.forecaster.basis)
        self.same_url = self.unverifiable = 0

    def add_blocker(self, blocker: Blocker) -> None:
        """Count a blocker."""
        self.blocked.add(blocker.size)
        self.reasons[blocker.reason] += 1

    def add_in_place(self, decision: InPlace, size: int | None) -> None:
        """Count a document that stays."""
        self.in_place.add(size)
        self.other_encoding += decision.other_encoding
        self.at_dest += decision.backend.startswith("dest.") and not self.source_is_dest

    def summary(self, notes: list[str]) -> Summary:
        """Return the summary."""
        return Summary(
            moves=self.moves.tally(),
            in_place=self.in_place.tally(),
            other_encoding=self.other_encoding,
            blocked=self.blocked.tally(),
            beyond_limit=self.beyond_limit,
            flows=[
                Flow(source, dest, bucket, group.documents, group.bytes, group.unsized)
                for (source, dest, bucket), group in sorted(self.flows.items())
            ],
            blocked_by_reason=dict(sorted(self.reasons.items())),
            database_growth=self.into_database,
            unreadable_after=self.elsewhere,
            notes=notes,
            unverifiable=self.unverifiable,
            probed=self.probed,
            adopted=self.actions[ADOPT],
            overwritten=self.actions[OVERWRITE],
            forecast=self.forecaster.forecast() if self.forecaster else None,
        )


def notes(counts: Counts, came: str | None = None) -> list[str]:
    """Return what an operator should know before applying, in sentences. ``came``: what moved all documents."""
    desired = counts.desired
    said = [f"WARNING: {lost}" for lost in volatile_destinations(desired)]
    if counts.forecaster:
        said += [f"WARNING: {full}" for full in too_small(desired, counts.forecaster.forecast().space)]
    said += [*desired.source.doubts, *desired.dest.doubts, *counts.made]
    if counts.into_database:
        said.append(f"The database grows by about {human_bytes(counts.into_database)}.")
    if counts.out_of_database:
        said.append(
            "The database reuses the space that documents leave in it; only VACUUM FULL (on SQLite: VACUUM) "
            "returns it to the system."
        )
    if counts.unverifiable:
        without = count(counts.unverifiable, "document has", "documents have")
        said.append(
            f"{without} no digest in the catalog: only the size of their content can be checked. The switch "
            "adds the digests."
        )
    if counts.unrecorded:
        are = count(counts.unrecorded, "document is", "documents are")
        said.append(
            f"{are} at the destination already, but no run in this database put them there. Check whether "
            "another installation uses the same place. Apply adopts them, and records at the destination "
            "that they are shared."
        )
    if counts.composite:
        large = count(counts.composite, "source is a large object", "sources are large objects")
        said.append(
            f"{large}, static or dynamic, made of segments. Their content is copied, and they are kept: only "
            "you can remove manifests and segments."
        )
    said += _former_places(counts)
    if counts.same_url:
        keep = count(counts.same_url, "document keeps its", "documents keep their")
        said.append(
            f"{keep} URL at another endpoint: afterwards only the recorded runs, not the catalog, show which "
            "endpoint holds what. The sources are kept."
        )
    if counts.elsewhere:
        schemes = ", ".join(sorted({f"{backend.scheme}://" for backend in desired.dest.backends()}))
        said.append(
            f"{count(counts.elsewhere)} of the archive will still be at a driver that the destination config "
            f"does not have. Services with that config read only {schemes}, and could not read those "
            "documents."
        )
    unrated = counts.forecaster.without_rates() if counts.forecaster else []
    if unrated:
        said.append(
            f"The given rates do not cover {', '.join(unrated)}, so the duration is not forecast. reconcile "
            "check CONFIG --format json measures the backends of a config."
        )
    said += _arrivals(counts, came)
    said += _ownership_notes(desired)
    return said


def _arrivals(counts: Counts, came: str | None) -> list[str]:
    if not counts.looks_reversed:
        return []
    if came is not None:
        return [f"Every document is already in place: {came} moved them."]
    return ["No document is where the source config says. Check that the two configs are in the right order."]


def _former_places(counts: Counts) -> list[str]:
    names = sorted({source for source, _dest, _bucket in counts.flows if is_elsewhere(source)})
    if not names:
        return []
    said = (
        f"Documents are read from {', '.join(names)}: the source config does not name that place, but its services read"
    )
    return [f"{said} there by the URL. Those sources are kept, unless --clean-elsewhere is given."]


def too_small(desired: DesiredState, space: Mapping[str, int]) -> list[str]:
    """Return the data dirs, in sentences, whose file system has less free space than the copies need.

    ``space`` is in bytes, by the name of the place.
    """
    said = []
    for name, needed in space.items():
        address = desired.places[name].address
        if isinstance(address, FileAddress) and (path := existing(Path(address.data_dir))) is not None:
            free = shutil.disk_usage(path).free
            if free < needed:
                has = f"{human_bytes(free)} free on this machine, but the copies need about {human_bytes(needed)}"
                said.append(f"{name}: the file system of {address.data_dir} has {has}.")
    return said


def volatile_destinations(desired: DesiredState) -> list[str]:
    """Return the destinations that will soon lose documents, and why, in sentences."""
    places = [place for name, place in desired.places.items() if name.startswith("dest.")]
    said = [volatile(place.address) for place in places]
    return [lost for lost in dict.fromkeys(said) if lost is not None]


def _ownership_notes(desired: DesiredState) -> list[str]:
    said = []
    for backend in desired.dest.backends():
        if backend.driver != "localfs" or os.geteuid() == 0:
            continue
        data_dir = Path(backend.settings["archive_data_dir"])
        if data_dir.exists() and data_dir.stat().st_uid != os.geteuid():
            said.append(
                f"{data_dir} belongs to another user: files made by apply will belong to the user that runs it."
                " Run apply as the data dir's owner or as root."
            )
    return said
