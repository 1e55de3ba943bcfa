"""Verify: the whole archive audited, or a sample of it; and the other way round, content that no row refers to.

The rows in scope are read in one short transaction into a temporary file, in the order of the stores' listings; none
is open while stores are asked. Memory does not grow with the archive.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from reconcile.auditing.audit_parts import audit_in_parts
from reconcile.auditing.contents import Judge, OpenStores, Verdict
from reconcile.auditing.orphans import find_orphans
from reconcile.auditing.readers import Readers
from reconcile.auditing.spool import Lines
from reconcile.auditing.staged import audit_staged
from reconcile.auditing.verify_part import PartVerifier, VerifiedPart, batches
from reconcile.auditing.verify_report import Audited, Request
from reconcile.catalog import Catalog, CatalogRow, Scope
from reconcile.catalog.rows import stream_rows
from reconcile.catalog.tables import archive_metadata
from reconcile.config import Config
from reconcile.control import PIPELINES, Control, in_order
from reconcile.engines import Engine
from reconcile.errors import Interrupted, UsageError
from reconcile.logs import get_logger
from reconcile.planning.decide import DesiredState
from reconcile.planning.reach import Reach
from reconcile.planning.scope import check_scope
from reconcile.running.phases.dispatch import Dispatch
from reconcile.running.phases.elsewhere import refuse_crowding, refuse_engine
from reconcile.running.record.parts import Part
from reconcile.tallies import tallied

log = get_logger()


def verify(
    catalog: Catalog, config: Config, request: Request, control: Control, engine: Engine | None = None
) -> Audited:
    """Audit what was asked for. Changes nothing. Raises `BackendError` for a store that cannot be asked at all.

    ``engine`` has the rows audited by workers. Raises `UsageError` where it cannot.
    """
    if engine is not None:
        _refuse_engine(catalog, engine, request)
    if request.run is not None and (request.buckets or request.sample is not None or request.orphans):
        raise UsageError("--run audits the copies of one run: it goes with no --bucket, --sample or --orphans")
    audited = Audited(config, request)
    desired = DesiredState(config, config)
    stores = OpenStores(catalog)
    try:
        if request.run is not None:
            audit_staged(catalog, desired, stores, audited, control)
        else:
            judge = Judge(catalog, desired, stores, Reach(catalog, desired))
            _audit_rows(judge, audited, control) if engine is None else _audit_parts(judge, audited, control, engine)
        if request.orphans:
            audited.orphans = find_orphans(catalog, desired, stores, control)
    except Interrupted as stopped:
        raise Interrupted(
            stopped.signal_number,
            f"interrupted after {audited.documents} documents, {len(audited.problems)} of them missing or wrong;"
            " verify changes nothing",
            hint="the same command begins again; --sample 1% audits some of the documents",
        ) from None
    return audited


def _refuse_engine(catalog: Catalog, engine: Engine, request: Request) -> None:
    refuse_engine(catalog, engine)
    if request.run is not None or request.buckets:
        raise UsageError(
            f"--engine {engine.name}: workers audit the whole archive, or a sample of it; nothing was done",
            hint="leave out --engine, or --run and --bucket",
        )


def _audit_parts(judge: Judge, audited: Audited, control: Control, engine: Engine) -> None:
    """Have the rows audited by workers. What seems wrong to one is judged here once more, and named."""
    catalog, sample = judge.catalog, audited.request.sample
    refuse_crowding(catalog, engine, "nothing was audited")
    with audit_in_parts(catalog) as cut:
        own = PartVerifier(judge, cut.audit, sample)
        audited.total = sum(part.documents for part in cut.parts)
        control.progress.phase("verify", audited.total, 0)

        def report(part: Part, found: VerifiedPart) -> None:
            if found.problems:
                for batch in batches(own.rows(part)):
                    _count_verdicts(audited, batch, judge.judge(batch))
                    control.check()
            else:
                for verified in found.intact:
                    audited.count_intact(verified.backend, verified.documents, verified.size, verified.unverifiable)
                audited.gone += found.gone
                sums = ((v.backend, "intact", None, v.documents, v.size) for v in found.intact)
                log.info("batch verified", phase="verify", documents=found.documents, tallies=tallied(sums=sums))
            control.progress.advance(part.documents, found.size)

        task = {"task": "verify", "audit": cut.audit, "config": audited.config.fingerprint(), "sample": sample}
        carrier = Readers(engine, task, VerifiedPart)
        Dispatch(control, carrier, report, state_now="verify changes nothing").run(cut.parts)


def _audit_rows(judge: Judge, audited: Audited, control: Control) -> None:
    rows: Lines[CatalogRow] = Lines(CatalogRow)
    size = 0
    with judge.catalog.snapshot() as connection:
        scope = Scope(audited.request.buckets)
        check_scope(connection, scope)
        audited.total = _count(connection, scope)
        for row in stream_rows(connection, scope.condition() & _chosen(connection, audited.request.sample)):
            rows.append(row)
            size += row.size or 0
            control.check()
    control.progress.phase("verify", len(rows), size)
    for batch, verdicts in in_order(PIPELINES, batches(rows), lambda batch: (batch, judge.judge(batch))):
        _count_verdicts(audited, batch, verdicts)
        control.progress.advance(len(batch), sum(row.size or 0 for row in batch))
        control.check()


def _count_verdicts(audited: Audited, batch: Sequence[CatalogRow], verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        audited.count(verdict.backend, verdict.size, verdict.problem, verifiable=verdict.row.digest is not None)
    audited.gone += len(batch) - len(verdicts)
    log.info("batch verified", phase="verify", documents=len(batch), tallies=tallied(map(_outcome, verdicts)))


def _outcome(verdict: Verdict) -> tuple[str, str, str | None, int | None]:
    problem = verdict.problem
    return verdict.backend, "wrong" if problem else "intact", problem.reason if problem else None, verdict.size


def _count(connection: Connection, scope: Scope) -> int:
    query = sa.select(sa.func.count()).select_from(archive_metadata).where(scope.condition())
    return int(connection.execute(query).scalar_one())


def _chosen(connection: Connection, percent: float | None) -> sa.ColumnElement[bool]:
    """Return the condition of a random sample, another one each time."""
    if percent is None:
        return sa.true()
    if connection.dialect.name == "postgresql":
        return sa.func.random() < percent / 100
    return sa.func.abs(sa.func.random() % 1_000_000) < percent * 10_000
