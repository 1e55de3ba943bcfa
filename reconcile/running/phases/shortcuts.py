"""The shortest path for the bytes: which documents of a run use a shortcut of their stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from attrs import frozen

from reconcile.planning.decide import DesiredState
from reconcile.running.phases.copy_outcome import Copy, CopyOutcome, transfer_of, transferred
from reconcile.running.phases.references import referred_more_than_once
from reconcile.running.phases.steps import Step, carries_out
from reconcile.running.record.run import Run
from reconcile.stores import Location, Shortcut, Store


@frozen
class Ways:
    """The shortcuts between a run's backends. ``referred``: locations that more than one row refers to."""

    desired: DesiredState
    keep_source: bool
    between: Mapping[tuple[str, str], Shortcut]
    referred: set[str | Location]

    @classmethod
    def of(cls, run: Run, desired: DesiredState, stores: Mapping[str, Store]) -> Ways:
        """Find them. One that shares bytes is only for a run that deletes its sources."""
        between = {}
        for source, dest in run.backend_pairs():
            way = stores[dest].shortcut_from(stores[source])
            if way is not None and not (way.shares_bytes and run.record.keep_source):
                between[source, dest] = way
        referred = set[str | Location]()
        if any(way.shares_bytes for way in between.values()):
            referred = referred_more_than_once(run, [store.address for store in stores.values()])
        return cls(desired, run.record.keep_source, between, referred)

    @carries_out(Step.COPY)
    def take(self, source: str, dest: str, copies: Sequence[Copy]) -> dict[int, CopyOutcome]:
        """Copy what a shortcut can copy, and return that by seq; the rest is copied the ordinary way."""
        way = self.between.get((source, dest))
        if way is None:
            return {}
        rows = Counter(copy.dest_key for copy in copies)  # several rows of one destination are for us to judge
        wanted = {
            copy.dest_key: transfer
            for copy in copies
            if rows[copy.dest_key] == 1
            and not (way.shares_bytes and self.stays(copy))
            and (transfer := transfer_of(copy, way)) is not None
        }
        done = way.copy(list(wanted.values())) if wanted else {}
        return {copy.work.seq: transferred(copy, done[copy.dest_key]) for copy in copies if copy.dest_key in done}

    def stays(self, copy: Copy) -> bool:
        """Tell whether the source will not be deleted, so that the copy must have bytes of its own."""
        url = copy.work.move.before.content_url
        location = self.desired.places[copy.work.move.source].address.location(copy.source_key)
        return self.keep_source or copy.work.keep or url in self.referred or location in self.referred
