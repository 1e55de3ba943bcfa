"""Orphans: content in the stores of a config that no catalog row refers to.

What the stores list, and what rows and runs lay claim to, is dealt into parts by a hash of its location, in temporary
files; then each part is compared by itself. That asks the database for one scan and no index, and memory holds one part
of many. The stores are listed first: what services write meanwhile has its row when rows are read. What they delete
meanwhile is looked for once more before it is called an orphan.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import IO

from attrs import define, field, frozen

from reconcile.auditing.contents import OpenStores
from reconcile.auditing.ownership import Claim, claims
from reconcile.auditing.spool import Lines, kept_errors
from reconcile.auditing.verify_report import Orphan, Orphans
from reconcile.catalog import Catalog
from reconcile.catalog.services import GRACE_SECONDS
from reconcile.control import Control, in_batches
from reconcile.planning.decide import DesiredState
from reconcile.planning.places import Place
from reconcile.stores import Location
from reconcile.stores.addresses import Key

_PARTS = 64
_DIGEST_BYTES = 16
_LOOK_KEYS = 500


def find_orphans(catalog: Catalog, desired: DesiredState, stores: OpenStores, control: Control) -> Orphans:
    """List the stores of the config's backends, and tell what nobody refers to. Raises `BackendError`."""
    orphans = Orphans()
    parts = _Parts()
    places = [place for name, place in desired.places.items() if name.startswith("source.")]
    for number, place in enumerate(places):
        control.progress.say(f"listing {place.backend.role}")
        for listed in _listing(place, stores, places[:number]):
            control.check()
            if listed.kind == "self_check":
                orphans.self_checks += 1
            elif listed.kind != "owner_mark":  # an unfinished run's, or one that says who shares the place
                parts.add(place.address.location(listed.key), listed)
    time.sleep(GRACE_SECONDS)
    control.progress.say("comparing with the catalog")
    for location, claim in claims(catalog, desired, [place.address for place in places]):
        control.check()
        parts.claim(location, claim)
    for batch in in_batches(_unclaimed(parts, desired, orphans), _LOOK_KEYS):
        control.check()
        _add(orphans, batch, desired, stores)
    return orphans


@frozen
class _Listed:
    """One key that a store lists. ``place`` is its backend's, ``kind`` as `Store.foreign_kind` tells it."""

    place: str
    key: Key
    size: int | None
    kind: str | None


def _listing(place: Place, stores: OpenStores, before: Sequence[Place]) -> Iterator[_Listed]:
    """Yield what a place's store lists, but for what an earlier place in the same store has listed."""
    store = stores.of(place)
    same_store = [other.address for other in before if other.address.identity == place.address.identity]
    for key, stat in store.listing():
        url = place.address.url_at(key)
        if not any(address.split(url, ("", "", "")) for address in same_store):
            yield _Listed(place.name, key, stat.size, store.foreign_kind(key))


def _unclaimed(parts: _Parts, desired: DesiredState, orphans: Orphans) -> Iterator[_Listed]:
    """Yield what nobody lays claim to; count what runs do."""
    for listed, claim in parts.compared(desired):
        if claim is None:
            yield listed
        elif claim == Claim.STAGED:
            orphans.staged += 1
        elif claim == Claim.KEPT:
            orphans.kept += 1


def _add(orphans: Orphans, batch: list[_Listed], desired: DesiredState, stores: OpenStores) -> None:
    """Add what is still there when it is looked at once more."""
    by_place: dict[str, list[_Listed]] = {}
    for listed in batch:
        by_place.setdefault(listed.place, []).append(listed)
    for name, group in by_place.items():
        place = desired.places[name]
        present = stores.of(place).look([listed.key for listed in group])
        for listed in group:
            stat = present.get(listed.key)
            if stat is None:
                continue
            size = listed.size if stat.size is None else stat.size
            kind = listed.kind or "document"
            orphans.listed.append(Orphan(place.backend.role, place.address.url_at(listed.key), size, kind))
            orphans.bytes += size or 0
            orphans.temporary += kind == "temporary"


@define
class _Parts:
    """Listed keys and claims, dealt by the hash of their location."""

    _listed: list[Lines[_Listed]] = field(factory=lambda: [Lines(_Listed) for _part in range(_PARTS)])
    _claims: list[IO[bytes]] = field(factory=lambda: [_new_file() for _part in range(_PARTS)])

    def add(self, location: Location, listed: _Listed) -> None:
        """Add a listed key."""
        self._listed[_digest(location)[0] % _PARTS].append(listed)

    def claim(self, location: Location, claim: Claim) -> None:
        """Add a claim."""
        digest = _digest(location)
        with kept_errors():
            self._claims[digest[0] % _PARTS].write(digest + bytes([claim]))

    def compared(self, desired: DesiredState) -> Iterator[tuple[_Listed, Claim | None]]:
        """Yield every listed key with the claim to it. Nothing is added afterwards."""
        for listed, file in zip(self._listed, self._claims, strict=True):
            claimed = _read(file)
            for item in listed:
                location = desired.places[item.place].address.location(item.key)
                yield item, claimed.get(_digest(location))


def _new_file() -> IO[bytes]:
    with kept_errors():
        return tempfile.TemporaryFile(prefix="reconcile-")


def _read(file: IO[bytes]) -> dict[bytes, Claim]:
    claimed: dict[bytes, Claim] = {}
    with kept_errors():
        file.seek(0)
        while record := file.read(_DIGEST_BYTES + 1):
            digest, claim = record[:-1], Claim(record[-1])
            claimed[digest] = min(claim, claimed.get(digest, claim))
    return claimed


def _digest(location: Location) -> bytes:
    key = location.key if isinstance(location.key, str) else "\0".join(location.key)
    return blake2b(f"{location.store}\0{key}".encode(), digest_size=_DIGEST_BYTES).digest()
