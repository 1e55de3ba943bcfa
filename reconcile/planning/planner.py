"""Make a plan: desired state times catalog, in one read-only transaction, streamed into the plan's file."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

from attrs import field, frozen
from sqlalchemy.engine import Connection

from reconcile._version import __version__
from reconcile.catalog import Catalog, DatabaseOptions, Scope, connect
from reconcile.catalog.rows import count_elsewhere, names_in_use, stream_rows
from reconcile.catalog.services import database_now
from reconcile.config import Config, load_config
from reconcile.config.model import ANALYSIS_ARCHIVE
from reconcile.control import calm_collector
from reconcile.errors import UsageError
from reconcile.planning.checks import CrossChecks
from reconcile.planning.desired import DesiredState
from reconcile.planning.forecast import Basis, Forecaster
from reconcile.planning.model import (
    FORMAT_VERSION,
    Blocker,
    ConfigReference,
    InPlace,
    Move,
    PlanHeader,
    Policy,
)
from reconcile.planning.planfile import PlanFile, PlanWriter, new_plan, open_plan
from reconcile.planning.probe import Prober
from reconcile.planning.rates import Rates
from reconcile.planning.summary import Counts, notes
from reconcile.stores.addresses import Document


@frozen
class PlanRequest:
    """What a plan is asked for beyond the two configs. ``rates`` are what the forecast of a duration rests on."""

    scope: Scope = field(factory=Scope)
    limit: int | None = None
    keep_source: bool = False
    allow_unreadable: bool = False
    overwrite: bool = False
    probe: str | None = None  # "exists" or "digest"
    rates: tuple[Rates, ...] | None = None


def new_id() -> str:
    """Return a new id of a plan or run: the time in UTC, and four random bytes in hex."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def plan(
    source: Path,
    dest: Path,
    database: DatabaseOptions | None = None,
    request: PlanRequest | None = None,
    out: Path | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> PlanFile:
    """Diff what the destination config wants against the catalog, and save the plan. Raises as `make_plan`."""
    source_config, dest_config = load_config(source), load_config(dest, destination=True)
    with closing(connect(database or DatabaseOptions(), source_config)) as catalog:
        return make_plan(catalog, source_config, dest_config, request or PlanRequest(), out, progress)


def make_plan(
    catalog: Catalog,
    source: Config,
    dest: Config,
    request: PlanRequest,
    out: Path | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> PlanFile:
    """Diff the desired state against the catalog and save the plan. Writes nothing but the file.

    Raises `UsageError` for a filter that matches nothing, `CatalogError` for the database.
    """
    plan_id = new_id()
    path = out or Path("plans") / f"{plan_id}.json"
    desired = DesiredState(source, dest, request.allow_unreadable)
    counts = Counts(
        forecaster=Forecaster(desired, Basis(catalog.is_postgresql, request.keep_source, request.rates)),
        source_is_dest=source.fingerprint() == dest.fingerprint(),
        probed=request.probe,
    )
    with ExitStack() as stack:
        stack.enter_context(calm_collector())
        with catalog.snapshot() as connection:
            check_scope(connection, request.scope)
            writer = stack.enter_context(new_plan(path))
            snapshot_at = database_now(connection)
            _decide_all(connection, desired, request, writer, counts, progress)
        if request.probe is not None:
            _probe(catalog, desired, request, writer, counts)
        header = PlanHeader(
            format_version=FORMAT_VERSION,
            plan_id=plan_id,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            tool_version=__version__,
            database=catalog.identity,
            source=reference(source),
            dest=reference(dest),
            scope=request.scope.as_filters(),
            policy=Policy(
                keep_source=request.keep_source,
                limited=request.limit is not None,
                allow_unreadable=request.allow_unreadable,
                overwrite=request.overwrite,
            ),
            summary=counts.summary(notes(desired, counts)),
            snapshot_at=snapshot_at,
        )
        writer.save(header)
    return open_plan(path)


def _decide_all(
    connection: Connection,
    desired: DesiredState,
    request: PlanRequest,
    writer: PlanWriter,
    counts: Counts,
    progress: Callable[[int], None],
) -> None:
    checks = CrossChecks(desired)
    checks.prepare(connection)
    last_moved: Document | None = None
    planned = 0
    counts.elsewhere = unreadable_with(connection, desired.dest)
    for number, row in enumerate(stream_rows(connection, request.scope.condition()), 1):
        decision = checks.check(row, desired.decide(row))
        if isinstance(decision, Move):
            is_full = request.limit is not None and planned >= request.limit
            if is_full and decision.document != last_moved:  # rows of one document go together
                counts.beyond_limit += 1
                continue
            last_moved = decision.document
            planned += 1
        if isinstance(decision, InPlace):
            counts.add_in_place(decision, row.size)
        else:
            add_decision(decision, desired, writer, counts)
        if number % 10_000 == 0:
            progress(number)


def _probe(catalog: Catalog, desired: DesiredState, request: PlanRequest, writer: PlanWriter, counts: Counts) -> None:
    """Put what the stores say of each move into the plan; counts are taken anew."""
    places = {name for flow in counts.flows for name in flow[:2]}
    counts.forget_moves()
    prober = Prober(catalog, desired, digests=request.probe == "digest", overwrite=request.overwrite)
    for decision in prober.probe(writer.taken_moves(), sorted(places)):
        add_decision(decision, desired, writer, counts)


def add_decision(decision: Move | Blocker, desired: DesiredState, writer: PlanWriter, counts: Counts) -> None:
    """Put a move or a blocker into a plan, and count it."""
    if isinstance(decision, Move):
        counts.add_move(decision, desired)
        writer.add_move(decision)
    else:
        counts.add_blocker(decision)
        writer.add_blocker(decision)


def check_scope(connection: Connection, scope: Scope) -> None:
    """Raise `UsageError` for a ``--bucket`` or ``--user`` that no row has."""
    for name in set(scope.buckets) & set(scope.exclude_buckets):
        raise UsageError(f"--bucket {name} and --exclude-bucket {name} leave nothing")
    for option, wanted, column in (
        ("--bucket", scope.buckets, "bucket"),
        ("--exclude-bucket", scope.exclude_buckets, "bucket"),
        ("--user", scope.users, "userId"),
    ):
        if not wanted:
            continue
        there = names_in_use(connection, column)
        for name in wanted:
            if name not in there:
                known = ", ".join(sorted(there)[:20]) or "none at all"
                raise UsageError(
                    f"{option} {name}: the catalog has no document of it", hint=f"the catalog has: {known}"
                )


def unreadable_with(connection: Connection, config: Config) -> int:
    """Count the documents that services with this config cannot read, for the scheme of their URLs."""
    schemes = config.object_store.scheme, config.in_charge(ANALYSIS_ARCHIVE).scheme
    return count_elsewhere(connection, ANALYSIS_ARCHIVE, *schemes)


def reference(config: Config) -> ConfigReference:
    """Return what a plan records of a config."""
    return ConfigReference(str(config.path), config.fingerprint(), config.describe())
