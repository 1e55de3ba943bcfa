"""Checks across rows: two contents for one destination, rows of one URL that disagree. Flat in memory.

Names make a collision possible only where they are odd (a slash in user or logical bucket, two backends in one
store) or where a row's URL is not the one its columns lead to. Those rows claim their locations first; all
others are told apart by user, logical bucket and archiveId, and come next to each other in the stream.
"""

from __future__ import annotations

import sqlalchemy as sa
from attrs import define, field
from sqlalchemy.engine import Connection

from reconcile.catalog import CatalogRow
from reconcile.catalog.rows import disagreeing_urls, stream_rows
from reconcile.catalog.tables import archive_metadata
from reconcile.planning.decide import Decision, DesiredState
from reconcile.planning.model import Blocker, InPlace, Move
from reconcile.stores import Location
from reconcile.stores.addresses import Document


@define
class CrossChecks:
    """What is known across rows while they are streamed in the order of their documents."""

    desired: DesiredState
    _claims: dict[Location, str | None] = field(init=False, factory=dict)
    _disagreeing: set[str] = field(init=False, factory=set)
    _previous: tuple[Document, str | None] | None = field(init=False, default=None)

    def prepare(self, connection: Connection) -> None:
        """Read what has to be known before the first row is decided."""
        self._disagreeing = disagreeing_urls(connection)
        for row in stream_rows(connection, self._may_collide(), ordered=False):
            location = self._final_location(row, self.desired.decide(row))
            if location is not None and self._is_odd(row, location):
                # Of two odd rows for one place none is moved there: the claim is nobody's.
                same = self._claims.setdefault(location, row.content_url) == row.content_url
                self._claims[location] = row.content_url if same else None

    def check(self, row: CatalogRow, decision: Decision) -> Decision:
        """Return the decision, or a blocker that only the other rows explain."""
        previous, document = self._previous, row.document
        if previous is None or previous[0] != document:  # the first row of a document speaks for its destination
            self._previous, previous = (document, row.content_url), None
        if not isinstance(decision, Move):
            return decision
        if row.content_url in self._disagreeing:
            return _blocked(
                decision,
                "rows_disagree",
                f"the rows that share {row.content_url} disagree on digest, size or compression",
            )
        if previous is not None and previous[1] != row.content_url:
            return _blocked(decision, "destination_taken", f"another row of this document is at {previous[1]}")
        if self._claims:
            location = self.desired.target(decision)
            if self._claims.get(location, row.content_url) != row.content_url:
                return _blocked(
                    decision, "destination_taken", f"{decision.after.content_url} is the destination of two documents"
                )
        return decision

    def _may_collide(self) -> sa.ColumnElement[bool]:
        columns = archive_metadata.c
        places = [self.desired.places[name] for name in self.desired.places if name.startswith("dest.")]
        conditions = [columns.userId.contains("/"), columns.bucket.contains("/")]
        conditions += [columns.content_url.startswith(f"{place.address.scheme}://") for place in places]
        if self._shares_a_store():
            conditions.append(sa.true())
        return sa.or_(*conditions)

    def _is_odd(self, row: CatalogRow, location: Location) -> bool:
        if "/" in row.user_id or "/" in row.bucket or self._shares_a_store():
            return True
        wanted = self.desired.places[f"dest.{self.desired.dest.in_charge(row.bucket).role}"].address
        return location != wanted.location(wanted.key(row.document))

    def _shares_a_store(self) -> bool:
        """Tell whether the destination's two backends are in one store under different prefixes."""
        identities = [p.address.identity for name, p in self.desired.places.items() if name.startswith("dest.")]
        rules = {str(b.settings) for b in self.desired.dest.backends()}
        return len(identities) != len(set(identities)) and len(rules) > 1

    def _final_location(self, row: CatalogRow, decision: Decision) -> Location | None:
        if isinstance(decision, Move):
            return self.desired.target(decision)
        if isinstance(decision, InPlace):
            return self.desired.locate(row)
        return None


def _blocked(move: Move, reason: str, detail: str) -> Blocker:
    before = move.before
    return Blocker(*move.document, move.documentName, before.content_url, before.size, reason, detail)
