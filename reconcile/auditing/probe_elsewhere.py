"""The probe of a plan by workers of an engine.

Workers ask the stores about parts of the catalog. What they find other than free and right they put on record in the
database, so that no name of a document passes the engine. Then the process that plans goes through its moves: what is
to be adopted it takes from there; everything else on record it asks the stores about itself. A row that has changed
between the two is as it was planned: what services do is no damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import sqlalchemy as sa
from attrs import evolve

from reconcile.auditing.audit_parts import audit_in_parts
from reconcile.auditing.probe_part import ProbedPart, digest_of, digests_of
from reconcile.auditing.readers import Readers
from reconcile.control import PIPELINES, Control, Progress, in_batches, in_order
from reconcile.engines import Engine
from reconcile.payload import md5
from reconcile.planning.model import ADOPT, Blocker, Move
from reconcile.planning.planner import Probing
from reconcile.planning.probe import BATCH_MOVES, Prober
from reconcile.running.phases.dispatch import Dispatch
from reconcile.running.phases.elsewhere import refuse_crowding, refuse_engine
from reconcile.running.record.parts import Part
from reconcile.running.record.tables import probe_findings

_NAME = (
    probe_findings.c.user_id,
    probe_findings.c.bucket,
    probe_findings.c.archive_id,
    probe_findings.c.document_name,
)

Findings = dict[tuple[str, str, str, str], tuple[str, bool]]


def by_workers(engine: Engine) -> Probing:
    """Return a probing that an engine's workers do. It raises `UsageError` where the catalog is no PostgreSQL."""

    def probe(prober: Prober, moves: Iterable[Move], progress: Progress) -> Iterator[Move | Blocker]:
        refuse_engine(prober.catalog, engine)
        refuse_crowding(prober.catalog, engine, "no plan was saved")
        with audit_in_parts(prober.catalog, probe_findings) as cut:
            found = _ask(prober, engine, cut.audit, cut.parts, progress)
            prober.composite += sum(part.composite for part in found)
            if not any(part.found for part in found):
                yield from moves
                return
            for batch in in_order(PIPELINES, in_batches(moves, BATCH_MOVES), lambda b: _settled(prober, cut.audit, b)):
                yield from prober.counted(batch)

    return probe


def _ask(prober: Prober, engine: Engine, audit: str, parts: list[Part], progress: Progress) -> list[ProbedPart]:
    found = list[ProbedPart]()

    def report(part: Part, probed: ProbedPart) -> None:
        found.append(probed)
        progress.advance(part.documents, probed.size)

    desired = prober.desired
    task = {
        "task": "probe",
        "audit": audit,
        "source": desired.source.fingerprint(),
        "dest": desired.dest.fingerprint(),
        "allow_unreadable": desired.allow_unreadable,
        "digests": prober.digests,
        "overwrite": prober.overwrite,
        "places": {md5(name.encode()): digests_of(prober, name) for name in prober.names},
    }
    progress.phase("probe", sum(part.documents for part in parts), 0)
    Dispatch(Control(progress), Readers(engine, task, ProbedPart), report, state_now="no plan was saved").run(parts)
    return found


def _settled(prober: Prober, audit: str, moves: list[Move]) -> list[Move | Blocker]:
    """Return what is decided about a batch of moves, by what workers have on record of them."""
    findings, decided = _findings(prober, audit, moves), dict[int, Move | Blocker]()
    asked = list[int]()
    for place, move in enumerate(moves):
        before, adopt = findings.get(move.row_key, (None, False))
        if before != digest_of(move.before):
            continue
        if adopt:
            decided[place] = evolve(move, action=ADOPT)
        else:
            asked.append(place)
    if asked:
        answers, _composite = prober.settled([moves[place] for place in asked])
        decided |= dict(zip(asked, answers, strict=True))
    return [decided.get(place, move) for place, move in enumerate(moves)]


def _findings(prober: Prober, audit: str, moves: list[Move]) -> Findings:
    wanted = [move.row_key for move in moves]
    query = sa.select(*_NAME, probe_findings.c.before, probe_findings.c.adopt).where(
        probe_findings.c.audit == audit, sa.tuple_(*_NAME).in_(wanted)
    )
    with prober.catalog.read() as connection:
        return {(row[0], row[1], row[2], row[3]): (row.before, row.adopt) for row in connection.execute(query)}
