"""Verify: the whole archive audited, or a sample of it; and the other way round, content that no row refers to.

The rows in scope are read in one short transaction into a temporary file, in the order of the stores' listings; none
is open while stores are asked. Memory does not grow with the archive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from reconcile.auditing.contents import Judge, OpenStores, Verdict
from reconcile.auditing.orphans import find_orphans
from reconcile.auditing.spool import Lines
from reconcile.auditing.staged import audit_staged
from reconcile.auditing.verify_report import Audited, Request
from reconcile.catalog import Catalog, CatalogRow, Scope
from reconcile.catalog.rows import stream_rows
from reconcile.catalog.tables import archive_metadata
from reconcile.config import Config
from reconcile.control import PIPELINES, Control, in_order
from reconcile.errors import Interrupted, UsageError
from reconcile.logs import get_logger
from reconcile.planning.desired import DesiredState
from reconcile.planning.reach import Reach
from reconcile.planning.scope import check_scope
from reconcile.tallies import tallied

log = get_logger()

_BATCH_DOCUMENTS = 1000  # a page of a listing
_BATCH_BYTES = 32 << 20  # what a batch may have in memory where only reading tells
_UNSIZED_BYTES = 1 << 20


def verify(catalog: Catalog, config: Config, request: Request, control: Control) -> Audited:
    """Audit what was asked for. Changes nothing. Raises `BackendError` for a store that cannot be asked at all."""
    if request.run is not None and (request.buckets or request.sample is not None or request.orphans):
        raise UsageError("--run audits the copies of one run: it goes with no --bucket, --sample or --orphans")
    audited = Audited(config, request)
    desired = DesiredState(config, config)
    stores = OpenStores(catalog)
    try:
        if request.run is not None:
            audit_staged(catalog, desired, stores, audited, control)
        else:
            _audit_rows(Judge(catalog, desired, stores, Reach(catalog, desired)), audited, control)
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
    for batch, verdicts in in_order(PIPELINES, _batches(rows), lambda batch: (batch, judge.judge(batch))):
        for verdict in verdicts:
            _count_verdict(audited, verdict)
        audited.gone += len(batch) - len(verdicts)
        log.info("batch verified", phase="verify", documents=len(batch), tallies=tallied(map(_outcome, verdicts)))
        control.progress.advance(len(batch), sum(row.size or 0 for row in batch))
        control.check()


def _count_verdict(audited: Audited, verdict: Verdict) -> None:
    audited.count(verdict.backend, verdict.size, verdict.problem, verifiable=verdict.row.digest is not None)


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


def _batches(rows: Iterable[CatalogRow]) -> Iterator[list[CatalogRow]]:
    """Cut the rows into batches, bounded in documents and in bytes."""
    batch, size = list[CatalogRow](), 0
    for row in rows:
        more = _UNSIZED_BYTES if row.size is None else row.size
        if batch and (len(batch) == _BATCH_DOCUMENTS or size + more > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += more
    if batch:
        yield batch
