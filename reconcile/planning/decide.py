"""Desired state: for one catalog row, where its document is, where it should be, and what stands in the way.

Pure rules over row and configs (design: "Desired state"). The planner applies them to every row, `apply`
applies them again to every move of a plan, and the switch to every row that a plan does not hold.
"""

from __future__ import annotations

from attrs import define, evolve, field

from reconcile.catalog import CatalogRow
from reconcile.config import Backend, Config
from reconcile.config.drivers import DRIVERS
from reconcile.planning.by_rule import BucketRule, bucket_rule, will_be_compressed
from reconcile.planning.model import After, Before, Blocker, InPlace, Move
from reconcile.planning.places import Place, Places
from reconcile.stores import Location
from reconcile.stores.addresses import Key

Decision = Move | InPlace | Blocker


@define
class DesiredState:
    """Two configs, ready to decide rows."""

    source: Config
    dest: Config
    allow_unreadable: bool = False
    places: Places = field(init=False, factory=Places)
    _rules: dict[str, BucketRule | None] = field(init=False, factory=dict, repr=False, eq=False)
    _orders: dict[tuple[str, str], list[Place]] = field(init=False, factory=dict, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        for side, config in (("source", self.source), ("dest", self.dest)):
            for backend in config.backends():
                self.places.add(f"{side}.{backend.role}", backend)
        for driver in ("db", "db2"):  # need no settings, and can always be reached
            self.places.add(f"catalog.{driver}", Backend(role="catalog", driver=driver))

    def decide(self, row: CatalogRow) -> Decision:
        """Return what should happen to the row."""
        rule = self._rule(row.bucket)
        if rule is None:
            return self._step_by_step(row)
        after = rule.after(row.user_id, row.archive_id, row.content_url, row.size, row.is_compressed)
        if after is None:
            return self._step_by_step(row)
        before = Before(str(row.content_url), row.is_compressed, row.digest, row.size, row.last_updated)
        return Move(*row.key, rule.source, rule.dest, before, after)

    def leads_to(self, move: Move) -> bool:
        """Tell whether a move is what is decided of its row; what a probe found about its destination is left apart."""
        rule, before = self._rule(move.bucket), move.before
        if rule is not None:
            url, size, is_compressed = before.content_url, before.size, before.is_compressed
            after = rule.after(move.userId, move.archiveId, url, size, is_compressed)
            if after is not None:
                return (move.source, move.dest, move.after) == (rule.source, rule.dest, after)
        return self._step_by_step(move.row()) == (move if move.action is None else evolve(move, action=None))

    def _rule(self, bucket: str) -> BucketRule | None:
        if bucket not in self._rules:
            here = self.places[f"source.{self.source.in_charge(bucket).role}"]
            self._rules[bucket] = bucket_rule(bucket, here, self._wanted(bucket))
        return self._rules[bucket]

    def _step_by_step(self, row: CatalogRow) -> Decision:
        url = row.content_url
        if not url:
            return _blocked(row, "no_content_url", "content_url is NULL or empty")
        here, keys = self._owner(row, url)
        if here is None:
            return self._nobodys(row, url)
        there = self._wanted(row.bucket)
        if here is there:
            return _in_place(row, there)
        if len(keys) > 1:
            return _blocked(row, "ambiguous_url", f"{url} can be read in {len(keys)} ways")
        target = there.address.key(row.document)
        if self._is_in_place(row, here, keys[0], there, target):
            return _in_place(row, there)
        problem = (
            here.address.reading_problem(keys[0])
            or there.address.problem(target)
            or _too_big(row, there)
            or (None if self.allow_unreadable else _unreadable(row, there))
        )
        if problem:
            return _blocked(row, *problem)
        before = Before(url, row.is_compressed, row.digest, row.size, row.last_updated)
        after = After(there.address.url_at(target), will_be_compressed(row.size, row.is_compressed, there.backend))
        return Move(*row.document, row.document_name, here.name, there.name, before, after)

    def locate(self, row: CatalogRow) -> Location | None:
        """Return where the row's content is now, if that is one certain place."""
        held = self.holder(row)
        return held[0].address.location(held[1]) if held else None

    def holder(self, row: CatalogRow) -> tuple[Place, Key] | None:
        """Return the place that holds the row's content and the key there, if that is certain."""
        here, keys = self._owner(row, row.content_url or "")
        return (here, keys[0]) if here and len(keys) == 1 else None

    def target(self, move: Move) -> Location:
        """Return where the move's copy will be."""
        address = self.places[move.dest].address
        return address.location(address.keys(move.after.content_url, move.document)[0])

    def _wanted(self, bucket: str) -> Place:
        return self.places[f"dest.{self.dest.in_charge(bucket).role}"]

    def _owner(self, row: CatalogRow, url: str) -> tuple[Place | None, list[Key]]:
        """Return the place that owns the URL, and the keys that the URL can mean there."""
        charged, wanted = self.source.in_charge(row.bucket).role, self.dest.in_charge(row.bucket).role
        for place in self._asked(charged, wanted):
            keys = place.address.keys(url, row.document)
            if keys:
                return place, keys
        for place in self._asked(charged, wanted):
            beside = self.places.beside(place, url, row.document) if place.name.startswith("source.") else None
            if beside is not None:
                return beside, beside.address.keys(url, row.document)
        return None, []

    def _asked(self, charged: str, wanted: str) -> list[Place]:
        """Return all places in the order in which they are asked whether a URL is theirs, by the roles in charge."""
        order = self._orders.get((charged, wanted))
        if order is None:
            sources = [name for name in self.places if name.startswith("source.")]
            names = dict.fromkeys([f"source.{charged}", *sources, f"dest.{wanted}", *self.places])
            order = self._orders[charged, wanted] = [self.places[name] for name in names]
        return order

    def _is_in_place(self, row: CatalogRow, here: Place, key: Key, there: Place, target: Key) -> bool:
        """Tell whether the content is in the wanted place already, whatever the spelling of its URL."""
        if here.address.identity != there.address.identity:
            return False
        by_rule = key == here.address.key(row.document)
        return key == target or (not by_rule and key in there.address.keys(row.content_url or "", row.document))

    def _nobodys(self, row: CatalogRow, url: str) -> Blocker:
        scheme, colon, _rest = url.partition("://")
        if not colon or scheme not in {driver.scheme for driver in DRIVERS.values()}:
            return _blocked(row, "unknown_scheme", url)
        return _blocked(row, "not_owned", url)


def _in_place(row: CatalogRow, place: Place) -> InPlace:
    compressed = will_be_compressed(row.size, row.is_compressed, place.backend)
    return InPlace(place.name, other_encoding=compressed is not None and compressed != bool(row.is_compressed))


def _blocked(row: CatalogRow, reason: str, detail: str) -> Blocker:
    return Blocker(*row.document, row.document_name, row.content_url, row.size, reason, detail)


def _too_big(row: CatalogRow, place: Place) -> tuple[str, str] | None:
    limit = place.address.max_size
    if row.size is not None and row.size > limit:
        return ("too_big", f"{row.size:,} bytes, but driver {place.backend.driver} holds at most {limit:,}")
    return None


def _unreadable(row: CatalogRow, place: Place) -> tuple[str, str] | None:
    if place.address.services_can_read(row.document):
        return None
    return ("unreadable_by_services", f"the services could not read it from {place.address.url(row.document)}")
