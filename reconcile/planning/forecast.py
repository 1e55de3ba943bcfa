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
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import ADOPT, OVERWRITE, Forecast, Move, Policy, Requests
from reconcile.planning.rates import Rates, Work, duration
from reconcile.stores.request_costs import COSTS, Costs, copied_sizes

# Moves, and bytes, that the phases take at once. A test holds them to the phases' own numbers.
STAGE_DOCUMENTS, LOOK_DOCUMENTS, CLEAN_DOCUMENTS = 250, 1000, 500
STAGE_BYTES = (96 << 20) // 20

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
class _Flow:
    """What goes from one backend to another: what holds of all its documents, and how many of a batch it has.

    ``by_server`` are the sizes of which the two copy by themselves; a file takes whole blocks of ``block`` bytes.
    """

    at_source: Work
    at_dest: Work
    keeps: bool
    by_server: range
    block: int
    space: int = 0
    documents: int = 0
    adopted: int = 0
    replaced: int = 0
    copied: int = 0

    def end_batch(self) -> None:
        """Begin to count the next batch."""
        self.documents = self.adopted = self.replaced = self.copied = 0


@define
class Forecaster:
    """Counts moves as they are planned."""

    desired: DesiredState
    basis: Basis
    _requests: defaultdict[str, Counter[str]] = field(init=False, factory=lambda: defaultdict(Counter))
    _work: defaultdict[str, Work] = field(init=False, factory=lambda: defaultdict(Work))
    _flows: dict[tuple[str, str], _Flow] = field(init=False, factory=dict)
    _moves: int = field(init=False, default=0)
    _by_server: int = field(init=False, default=0)  # bytes
    _recoded: int = field(init=False, default=0)
    _staging_count: int = field(init=False, default=0)
    _staging_bytes: int = field(init=False, default=0)
    _looking: Counter[str] = field(init=False, factory=Counter)
    _looking_count: int = field(init=False, default=0)
    _cleaning: Counter[str] = field(init=False, factory=Counter)
    _cleaning_count: int = field(init=False, default=0)
    _last: tuple[str, str, str] | None = field(init=False, default=None)

    def add(self, move: Move) -> None:
        """Count a move. Several rows of one document are one copy."""
        self._moves += 1
        document = move.document
        if document == self._last:
            return
        self._last = document
        before = move.before
        size = before.size or 0
        in_hand = min(size, SPOOL_BYTES)
        if self._staging_count == STAGE_DOCUMENTS or (
            self._staging_count and self._staging_bytes + in_hand > STAGE_BYTES
        ):
            self._end_stage_batch()
        self._staging_count += 1
        self._staging_bytes += in_hand
        flow = self._flows.get((move.source, move.dest)) or self._new_flow(move.source, move.dest)
        self._add_to_stage(flow, move, size)
        self._looking[move.dest] += 1
        self._looking_count += 1
        if self._looking_count == LOOK_DOCUMENTS:
            self._end_look_batch()
        if not flow.keeps and before.content_url != move.after.content_url:
            flow.at_source.deletes += 1
            self._cleaning[move.source] += 1
            self._cleaning_count += 1
            if self._cleaning_count == CLEAN_DOCUMENTS:
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
            bytes_to_read=sum(work.bytes_read for work in self._work.values()),
            bytes_to_write=sum(work.bytes_written for work in self._work.values()) - self._by_server,
            bytes_by_server=self._by_server,
            recoded=self._recoded,
            space=self._space(),
            work_tables=self._moves * _WORK_BYTES,
            duration=None if rates is None else duration(self._stores(), rates),
        )

    def without_rates(self) -> list[str]:
        """Return the backends in use that the given rates, if any, do not cover."""
        if self.basis.rates is None:
            return []
        known = {rate.store for rate in self.basis.rates}
        return [name for name, (store, _work) in sorted(self._stores().items()) if store not in known]

    def _space(self) -> dict[str, int]:
        """Return the bytes that each destination needs."""
        space = Counter[str]()
        for (_source, dest), flow in sorted(self._flows.items()):
            if flow.at_dest.writes:
                space[dest] += flow.space
        return dict(sorted(space.items()))

    def _stores(self) -> dict[str, tuple[str, Work]]:
        return {
            name: (self.desired.places[name].address.identity, work)
            for name, work in self._work.items()
            if work != Work()
        }

    def _new_flow(self, source: str, dest: str) -> _Flow:
        keeps = self.basis.keeps(source)
        addresses = (self.desired.places[name].address for name in (source, dest))
        sizes = copied_sizes(*addresses, is_postgresql=self.basis.is_postgresql, keep_source=keeps)
        flow = _Flow(self._work[source], self._work[dest], keeps, sizes, self._costs(dest).block)
        self._flows[source, dest] = flow
        return flow

    def _add_to_stage(self, flow: _Flow, move: Move, size: int) -> None:
        flow.documents += 1
        before, compressed = move.before, move.after.compressed
        same_bytes = compressed == bool(before.is_compressed)
        at_source, at_dest = flow.at_source, flow.at_dest
        if move.action != ADOPT:
            flow.replaced += move.action == OVERWRITE
            self._recoded += compressed is not None and not same_bytes
            flow.space += -(-size // flow.block) * flow.block
            at_dest.writes += 1
            at_dest.bytes_written += size
            is_known = before.digest is not None and before.size is not None and move.action is None
            if same_bytes and is_known and size in flow.by_server:
                flow.copied += 1
                self._by_server += size
                return
        else:
            flow.adopted += 1
        at_source.reads += 1
        at_source.bytes_read += size

    def _end_stage_batch(self) -> None:
        for (source, dest), flow in self._flows.items():
            self._glance(dest, flow)
            self._count(dest, "copy", flow.copied)
            if self._costs(dest).asks_before_copy:
                self._count(source, "look", flow.copied)
                self._count(dest, "look", flow.copied)
            through_us = flow.documents - flow.copied
            self._count(source, "read", through_us)
            self._count(dest, "write", through_us - flow.adopted)
            self._count(dest, "delete", flow.replaced)
            if self._costs(dest).by_batch and through_us > flow.adopted:
                self._count(dest, "look", 1)  # the statement that confirms
            flow.end_batch()
        self._staging_count = self._staging_bytes = 0

    def _glance(self, dest: str, flow: _Flow) -> None:
        """Count how a batch learns what is at its destination already."""
        if self._look(dest, flow.documents) and self._costs(dest).listing_may_lag:
            self._count(dest, "look", flow.documents - flow.adopted - flow.replaced)

    def _end_look_batch(self) -> None:
        for dest, documents in self._looking.items():
            self._look(dest, documents)
        self._looking.clear()
        self._looking_count = 0

    def _end_clean_batch(self) -> None:
        for source, documents in self._cleaning.items():
            self._look(source, documents)
            at_once = self._costs(source).deleted_at_once or documents
            self._count(source, "delete", math.ceil(documents / at_once))
        self._cleaning.clear()
        self._cleaning_count = 0

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
