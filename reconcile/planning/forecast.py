"""What applying a plan will cost: requests by kind, bytes, space, and, where rates were measured, time.

It follows from how a run works (docs/performance.md): in which batches the phases take moves, and what a batch asks of
each driver. It is counted while moves are decided, and is a forecast: retries, and keys that a listing does not show,
come on top.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict

from attrs import define, field, frozen

from reconcile.payload import SPOOL_BYTES
from reconcile.planning.desired import DesiredState
from reconcile.planning.model import ADOPT, OVERWRITE, Forecast, Move, Policy, Requests
from reconcile.planning.rates import Rates, Work, duration
from reconcile.stores.request_costs import COSTS, Costs, copied_sizes

# Moves, and bytes, that the phases take at once. A test holds them to the phases' own numbers.
STAGE_DOCUMENTS, LOOK_DOCUMENTS, CLEAN_DOCUMENTS = 250, 1000, 500
STAGE_BYTES = (256 << 20) // 20

_WORK_BYTES = 3300  # of a move in the work tables once it is done, index and dead versions included, as measured


@frozen
class Basis:
    """What a forecast is made from beside the moves. ``rates`` are those of `reconcile check`, by store."""

    is_postgresql: bool
    policy: Policy = field(factory=Policy)
    rates: tuple[Rates, ...] | None = None

    def keeps(self, source: str) -> bool:
        """Tell whether the sources at a place are kept."""
        return self.policy.keep_source or self.policy.keeps(source)


@define
class _Group:
    """Documents of one batch that go from one backend to another."""

    documents: int = 0
    adopted: int = 0
    replaced: int = 0
    by_server: int = 0


@define
class Forecaster:
    """Counts moves as they are planned."""

    desired: DesiredState
    basis: Basis
    _requests: defaultdict[str, Counter[str]] = field(init=False, factory=lambda: defaultdict(Counter))
    _work: defaultdict[str, Work] = field(init=False, factory=lambda: defaultdict(Work))
    _space: Counter[str] = field(init=False, factory=Counter)
    _totals: Counter[str] = field(init=False, factory=Counter)
    _staging: defaultdict[tuple[str, str], _Group] = field(init=False, factory=lambda: defaultdict(_Group))
    _staging_count: int = field(init=False, default=0)
    _staging_bytes: int = field(init=False, default=0)
    _looking: Counter[str] = field(init=False, factory=Counter)
    _cleaning: Counter[str] = field(init=False, factory=Counter)
    _last: tuple[str, str, str] | None = field(init=False, default=None)
    _pairs: dict[tuple[str, str], range] = field(init=False, factory=dict)

    def add(self, move: Move) -> None:
        """Count a move. Several rows of one document are one copy."""
        self._totals["moves"] += 1
        if move.document == self._last:
            return
        self._last = move.document
        size = move.before.size or 0
        in_hand = min(size, SPOOL_BYTES)
        if self._staging_count == STAGE_DOCUMENTS or (
            self._staging_count and self._staging_bytes + in_hand > STAGE_BYTES
        ):
            self._end_stage_batch()
        self._staging_count += 1
        self._staging_bytes += in_hand
        self._add_to_stage(move, size)
        self._looking[move.dest] += 1
        if self._looking.total() == LOOK_DOCUMENTS:
            self._end_look_batch()
        if not self.basis.keeps(move.source) and move.before.content_url != move.after.content_url:
            self._cleaning[move.source] += 1
            self._work[move.source].deletes += 1
            if self._cleaning.total() == CLEAN_DOCUMENTS:
                self._end_clean_batch()

    def forecast(self) -> Forecast:
        """Return the forecast of all moves counted."""
        self._end_stage_batch()
        self._end_look_batch()
        self._end_clean_batch()
        rates = self.basis.rates
        return Forecast(
            requests=[
                Requests(name, self.desired.places[name].backend.driver, **kinds)
                for name, kinds in sorted(self._requests.items())
            ],
            bytes_to_read=self._totals["read"],
            bytes_to_write=self._totals["written"],
            bytes_by_server=self._totals["by_server"],
            recoded=self._totals["recoded"],
            space=dict(sorted(self._space.items())),
            work_tables=self._totals["moves"] * _WORK_BYTES,
            duration=None if rates is None else duration(self._stores(), rates),
        )

    def without_rates(self) -> list[str]:
        """Return the backends in use that the given rates, if any, do not cover."""
        if self.basis.rates is None:
            return []
        known = {rate.store for rate in self.basis.rates}
        return [name for name, (store, _work) in sorted(self._stores().items()) if store not in known]

    def _stores(self) -> dict[str, tuple[str, Work]]:
        return {name: (self.desired.places[name].address.identity, work) for name, work in self._work.items()}

    def _add_to_stage(self, move: Move, size: int) -> None:
        group = self._staging[move.source, move.dest]
        group.documents += 1
        same_bytes = move.after.compressed == bool(move.before.is_compressed)
        if move.action == ADOPT:
            group.adopted += 1
            self._read(move.source, size)
            return
        group.replaced += move.action == OVERWRITE
        self._totals["recoded"] += move.after.compressed is not None and not same_bytes
        block = self._costs(move.dest).block
        self._space[move.dest] += -(-size // block) * block
        at_dest = self._work[move.dest]
        at_dest.writes += 1
        at_dest.bytes_written += size
        is_known = move.before.digest is not None and move.before.size is not None and move.action is None
        if same_bytes and is_known and size in self._by_server(move.source, move.dest):
            group.by_server += 1
            self._totals["by_server"] += size
            return
        self._totals["written"] += size
        self._read(move.source, size)

    def _by_server(self, source: str, dest: str) -> range:
        """Return the sizes of which the two copy by themselves."""
        pair = (source, dest)
        if pair not in self._pairs:
            addresses = (self.desired.places[name].address for name in pair)
            basis = self.basis
            self._pairs[pair] = copied_sizes(
                *addresses, is_postgresql=basis.is_postgresql, keep_source=basis.keeps(source)
            )
        return self._pairs[pair]

    def _read(self, name: str, size: int) -> None:
        self._totals["read"] += size
        work = self._work[name]
        work.reads += 1
        work.bytes_read += size

    def _end_stage_batch(self) -> None:
        for (source, dest), group in self._staging.items():
            self._glance(dest, group)
            self._count(dest, "copy", group.by_server)
            if self._costs(dest).asks_before_copy:
                self._count(source, "look", group.by_server)
                self._count(dest, "look", group.by_server)
            through_us = group.documents - group.by_server
            self._count(source, "read", through_us)
            self._count(dest, "write", through_us - group.adopted)
            self._count(dest, "delete", group.replaced)
            if self._costs(dest).by_batch and through_us > group.adopted:
                self._count(dest, "look", 1)  # the statement that confirms
        self._staging.clear()
        self._staging_count = self._staging_bytes = 0

    def _glance(self, dest: str, group: _Group) -> None:
        """Count how a batch learns what is at its destination already."""
        if self._look(dest, group.documents) and self._costs(dest).listing_may_lag:
            self._count(dest, "look", group.documents - group.adopted - group.replaced)

    def _end_look_batch(self) -> None:
        for dest, documents in self._looking.items():
            self._look(dest, documents)
        self._looking.clear()

    def _end_clean_batch(self) -> None:
        for source, documents in self._cleaning.items():
            self._look(source, documents)
            at_once = self._costs(source).deleted_at_once or documents
            self._count(source, "delete", math.ceil(documents / at_once))
        self._cleaning.clear()

    def _look(self, name: str, documents: int) -> bool:
        """Count the requests that tell what is at so many keys; say whether it was a listing."""
        least = self._costs(name).worth_listing
        listed = least is not None and documents >= least
        self._count(name, "list" if listed else "look", 1 if listed else documents)
        return listed

    def _count(self, name: str, kind: str, number: int) -> None:
        if not number:
            return
        self._requests[name][kind] += 1 if self._costs(name).by_batch else number

    def _costs(self, name: str) -> Costs:
        return COSTS[self.desired.places[name].address.scheme]
