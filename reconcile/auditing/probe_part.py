"""Probe a part of the catalog for a plan: moves that cannot simply be done are put on record, the others counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from attrs import define, field, frozen

from reconcile.auditing.audit_parts import rows_of_part
from reconcile.control import in_batches
from reconcile.errors import BackendError, TransientError
from reconcile.logs import get_logger
from reconcile.payload import md5
from reconcile.planning.model import ADOPT, Before, Move
from reconcile.planning.probe import BATCH_MOVES, Prober
from reconcile.running.record.parts import Part
from reconcile.running.record.place_record import place_digests
from reconcile.running.record.tables import probe_findings

log = get_logger()


@frozen
class ProbedPart:
    """What came of a part. ``documents`` have to move, of ``size`` bytes together; ``found`` of them are on record.

    ``composite`` of their sources are made of other objects. ``seconds`` is how long the part took.
    """

    documents: int = 0
    size: int = 0
    found: int = 0
    composite: int = 0
    seconds: float = 0.0


@define
class PartProber:
    """Probes parts of one plan's catalog, on as many threads at once as call it.

    ``places`` are those that the process which plans has open, as digests. Of moves with another place, or with one
    that this worker does not see so, it puts all on record: that process asks about them itself.
    """

    prober: Prober
    places: Mapping[str, list[str]]
    audit: str
    _seen: dict[str, bool] = field(factory=dict)
    _one_at_a_time: threading.Lock = field(factory=threading.Lock)

    def probe(self, part: Part) -> ProbedPart:
        """Probe the moves of a part. Raises `TransientError` for a store that may answer another time."""
        begun, composites, findings = time.monotonic(), 0, list[dict[str, Any]]()
        moves = self._moves(part)
        seen = [move for move in moves if self._sees(move.source) and self._sees(move.dest)]
        for batch in in_batches(seen, BATCH_MOVES):
            judged, composite = self.prober.judged(batch)
            composites += composite
            for move, decision in zip(batch, judged, strict=True):
                if decision != move:
                    adopt = isinstance(decision, Move) and decision.action == ADOPT
                    findings.append(self._finding(part, move, adopt=adopt))
        unseen = {move.row_key for move in moves} - {move.row_key for move in seen}
        findings += [self._finding(part, move, adopt=False) for move in moves if move.row_key in unseen]
        with self.prober.catalog.write(bulk=True) as connection:
            earlier = (probe_findings.c.audit == self.audit, probe_findings.c.part == part.first)
            connection.execute(sa.delete(probe_findings).where(*earlier))
            if findings:
                connection.execute(probe_findings.insert(), findings)
        size = sum(move.before.size or 0 for move in moves)
        return ProbedPart(len(moves), size, len(findings), composites, round(time.monotonic() - begun, 4))

    def _moves(self, part: Part) -> list[Move]:
        """Return what a plan of these rows would move."""
        with self.prober.catalog.snapshot() as connection:
            rows = rows_of_part(connection, self.audit, part, sa.true())
        decisions = [self.prober.desired.decide(row) for row in rows]
        return [decision for decision in decisions if isinstance(decision, Move)]

    def _sees(self, name: str) -> bool:
        """Tell whether this worker has the place before it that the process which plans has."""
        with self._one_at_a_time:
            if name not in self._seen:
                theirs = self.places.get(md5(name.encode()))
                self._seen[name] = theirs is not None and self._is_one_of(name, theirs)
            return self._seen[name]

    def _is_one_of(self, name: str, theirs: list[str]) -> bool:
        try:
            self.prober.open(name)
        except TransientError:
            raise
        except BackendError as error:
            log.warning("a place is out of this worker's reach", place=name, reason=error.message)
            return False
        ours = digests_of(self.prober, name)
        return bool(set(ours) & set(theirs)) or ours == theirs

    def _finding(self, part: Part, move: Move, *, adopt: bool) -> dict[str, Any]:
        user_id, bucket, archive_id = move.document
        return {
            "audit": self.audit,
            "part": part.first,
            "user_id": user_id,
            "bucket": bucket,
            "archive_id": archive_id,
            "document_name": move.documentName,
            "before": digest_of(move.before),
            "adopt": adopt,
        }


def digest_of(before: Before) -> str:
    """Return what tells a row as it was from the same row changed: an MD5 in hex."""
    return md5(msgspec.json.encode(before))


def digests_of(prober: Prober, name: str) -> list[str]:
    """Return what tells an open place from others; nothing for one that is not there yet."""
    place = prober.place(name)
    return [] if place is None else place_digests(place)
