"""Probe a part of the catalog for a plan: moves that cannot simply be done are put on record, the others counted."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

import msgspec
import sqlalchemy as sa
from attrs import define, field, frozen

from reconcile.auditing.audit_parts import rows_of_part
from reconcile.control import in_batches
from reconcile.planning.model import ADOPT, Before, Move
from reconcile.planning.probe import BATCH_MOVES, Prober
from reconcile.planning.reach import Reach
from reconcile.running.record.parts import Part
from reconcile.running.record.tables import probe_findings


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
    """Probes parts of one plan's catalog, on as many threads at once as call it."""

    prober: Prober
    reach: Reach
    audit: str
    _opened: set[str] = field(factory=set)
    _one_at_a_time: threading.Lock = field(factory=threading.Lock)

    def probe(self, part: Part) -> ProbedPart:
        """Probe the moves of a part. Raises `BackendError` for a store that cannot be used at all."""
        begun, composites, findings = time.monotonic(), 0, list[dict[str, Any]]()
        moves = self._moves(part)
        for batch in in_batches(moves, BATCH_MOVES):
            judged, composite = self.prober.judged(batch)
            composites += composite
            for move, decision in zip(batch, judged, strict=True):
                if decision != move:
                    adopt = isinstance(decision, Move) and decision.action == ADOPT
                    findings.append(self._finding(part, move, adopt=adopt))
        with self.prober.catalog.write(bulk=True) as connection:
            earlier = (probe_findings.c.audit == self.audit, probe_findings.c.part == part.first)
            connection.execute(sa.delete(probe_findings).where(*earlier))
            if findings:
                connection.execute(probe_findings.insert(), findings)
        size = sum(move.before.size or 0 for move in moves)
        return ProbedPart(len(moves), size, len(findings), composites, round(time.monotonic() - begun, 4))

    def _moves(self, part: Part) -> list[Move]:
        """Return what a plan of these rows would move; the places that they name are open then."""
        with self.prober.catalog.snapshot() as connection:
            rows = rows_of_part(connection, self.audit, part, sa.true())
        decisions = [self.reach.check(self.prober.desired.decide(row)) for row in rows]
        moves = [decision for decision in decisions if isinstance(decision, Move)]
        with self._one_at_a_time:
            for name in sorted({name for move in moves for name in (move.source, move.dest)} - self._opened):
                self.prober.open(name)
                self._opened.add(name)
        return moves

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
    return hashlib.md5(msgspec.json.encode(before), usedforsecurity=False).hexdigest()
