"""Is a document what its catalog row says: the row leads to content that services can read, of its digest and size.

The cheapest sufficient way: what a store tells without reading (a listing's ETags, ``md5()`` in SQL) is proof enough
where it agrees with the row. Where it does not, the content is read, since an ETag need not be an MD5. A row that still
looks wrong is read again from the catalog, and judged anew: services may be writing meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field, frozen

from reconcile.catalog import Catalog, CatalogRow
from reconcile.catalog.rows import rows_of
from reconcile.catalog.services import GRACE_SECONDS
from reconcile.errors import DocumentError
from reconcile.planning.content_checks import check_content, refuse_archived
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import Before, Blocker, InPlace
from reconcile.planning.places import Place, is_elsewhere
from reconcile.planning.reach import Reach
from reconcile.stores import Content, Stat, Store, open_store
from reconcile.stores.addresses import Key

NOWHERE = "nowhere"  # the backend of rows that no store is known to hold
_ROUNDS = 5


@frozen
class Problem:
    """A document that is missing or wrong, and why: ``reason`` is a code of `reconcile.planning.model.REASONS`."""

    userId: str  # noqa: N815 - the vendor's column names, as in a plan
    bucket: str
    archiveId: str  # noqa: N815
    documentName: str  # noqa: N815
    content_url: str | None
    reason: str
    detail: str


@frozen
class Verdict:
    """What was found out about one row. ``backend`` is the config's section that holds it, a driver, or `NOWHERE`."""

    row: CatalogRow
    backend: str
    size: int
    problem: Problem | None


@define
class OpenStores:
    """The stores of a config's places, each opened and looked at when it is first asked for."""

    catalog: Catalog
    _stores: dict[str, Store] = field(factory=dict)
    _opening: threading.Lock = field(factory=threading.Lock)

    def of(self, place: Place) -> Store:
        """Return a place's store. Raises `BackendError` if it is not usable."""
        with self._opening:
            if place.name not in self._stores:
                store = open_store(place.backend, self.catalog, "verify")
                store.prepare(create=False)
                self._stores[place.name] = store
            return self._stores[place.name]


@define
class Judge:
    """Judges catalog rows against the stores of one config."""

    catalog: Catalog
    desired: DesiredState
    stores: OpenStores
    reach: Reach

    def judge(self, rows: Sequence[CatalogRow]) -> list[Verdict]:
        """Return a verdict for every row that is still there."""
        verdicts = self._verdicts(rows)
        suspects = [verdict.row for verdict in verdicts.values() if verdict.problem]
        for _round in range(_ROUNDS):
            if not suspects:
                break
            time.sleep(GRACE_SECONDS)
            now = rows_of(self.catalog, [row.key for row in suspects])
            again = self._verdicts(now.values())
            for row in suspects:
                del verdicts[row.key]
            verdicts |= again
            if all(now.get(row.key) == row for row in suspects):
                break
            suspects = [verdict.row for verdict in again.values() if verdict.problem]
        return list(verdicts.values())

    def _verdicts(self, rows: Iterable[CatalogRow]) -> dict[tuple[str, ...], Verdict]:
        held = [(row, self._holder(row)) for row in rows]
        wanted: dict[str, tuple[Place, set[Key]]] = {}
        for _row, holder in held:
            if holder is not None and holder[0].address.reading_problem(holder[1]) is None:
                place, key = holder
                wanted.setdefault(place.name, (place, set()))[1].add(key)
        found = {name: self.stores.of(place).look(list(keys), digest=True) for name, (place, keys) in wanted.items()}
        return {row.key: self._verdict(row, holder, found) for row, holder in held}

    def _holder(self, row: CatalogRow) -> tuple[Place, Key] | None:
        """Return where the row's content is and under which key, as far as services with this config get there."""
        holder = self.desired.holder(row)
        is_reached = holder is None or self.reach.problem(holder[0].name) is None
        return holder if is_reached else None

    def _verdict(
        self, row: CatalogRow, holder: tuple[Place, Key] | None, found: Mapping[str, Mapping[Key, Stat]]
    ) -> Verdict:
        why = self._misplaced(row, holder)
        if holder is None:
            return Verdict(row, NOWHERE, row.size or 0, _problem(row, why))
        place, key = holder
        wrong = place.address.reading_problem(key)
        stat = found[place.name].get(key) if wrong is None else None
        if wrong is None:
            before = Before(row.content_url or "", row.is_compressed, row.digest, row.size, row.last_updated)
            wrong = content_problem(self.stores.of(place), key, stat, before)
        size = row.size if row.size is not None else stat.size if stat else None
        return Verdict(row, place.name.partition(".")[2], size or 0, _problem(row, wrong or why))

    def _misplaced(self, row: CatalogRow, holder: tuple[Place, Key] | None) -> tuple[str, str] | None:
        """Tell why services with this config cannot read the row's content, wherever it is."""
        decision = self.reach.check(self.desired.decide(row))
        if holder is None:
            return (decision.reason, decision.detail) if isinstance(decision, Blocker) else None
        place = holder[0]
        if is_elsewhere(place.name) and self.desired.dest.in_charge(row.bucket).driver == place.backend.driver:
            return None  # they take the place from the URL
        if not isinstance(decision, InPlace):
            asked, here = self.desired.dest.in_charge(row.bucket), place.name.partition(".")[2]
            detail = f"it is in {here}; services with this config ask {asked.role} (driver {asked.driver}) for it"
            return ("unreadable_by_services", detail)
        url = place.address.url(row.document)
        if row.content_url == url and not place.address.services_can_read(row.document):
            return ("unreadable_by_services", f"they would not read it back from {url}")
        return None


def content_problem(store: Store, key: Key, stat: Stat | None, before: Before) -> tuple[str, str] | None:
    """Tell what is wrong with the content at a key, of which the store told ``stat``; ``before`` is what it must be."""
    if stat is None:
        return ("source_missing", f"nothing is at {before.content_url}")
    digest_agrees = before.digest is None or stat.md5 == before.digest
    try:
        refuse_archived(store, key, stat)
        if not stat.unverified and digest_agrees and before.size in (None, stat.size):
            return None
        content = store.read([key])[key]
        if not isinstance(content, Content):
            raise content
        check_content(before, content)
    except DocumentError as error:
        return (error.reason, error.detail)
    if before.size not in (None, len(content.data)):
        return (
            "wrong_digest",
            f"the digest is right, but the content has {len(content.data):,} bytes, the catalog has {before.size:,}",
        )
    return None


def _problem(row: CatalogRow, why: tuple[str, str] | None) -> Problem | None:
    return Problem(*row.document, row.document_name, row.content_url, *why) if why else None
