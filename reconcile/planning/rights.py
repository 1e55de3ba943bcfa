"""Which tables of the database hold documents that a plan moves, and what the role must be allowed to do there."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from attrs import evolve

from reconcile.catalog.rights import CONTENT, READ
from reconcile.catalog.tables import CONTENT_TABLES
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import PlanHeader, Policy

Rights = list[tuple[sa.Table, tuple[str, ...]]]


def rights_of(desired: DesiredState, flows: Iterable[tuple[str, str]], policy: Policy) -> Rights:
    """Return the tables among a plan's sources and destinations, and the privileges; for its undo too.

    What is kept at a source is only read, also by an undo.
    """
    found: dict[str, tuple[str, ...]] = {}
    for source, dest in flows:
        for name, kept in ((source, policy.keep_source or policy.keeps(source)), (dest, False)):
            place = desired.places.get(name)  # none: a plan that was altered, which is refused as its rows are loaded
            driver = place.backend.driver if place else None
            if driver in CONTENT_TABLES:
                found[driver] = READ if kept and found.get(driver) != CONTENT else CONTENT
    return [(CONTENT_TABLES[driver], privileges) for driver, privileges in sorted(found.items())]


def rights_of_plan(desired: DesiredState, header: PlanHeader, *, keep_source: bool) -> Rights:
    """Return what a saved plan, or the plan of a run on record, needs; see `rights_of`."""
    policy = evolve(header.policy, keep_source=keep_source)
    return rights_of(desired, ((flow.source, flow.dest) for flow in header.summary.flows), policy)
