"""Make a plan: desired state times catalog, in one read-only transaction, streamed into the plan's file."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

from attrs import field, frozen
from sqlalchemy.engine import Connection

from reconcile._version import __version__
from reconcile.catalog import Catalog, DatabaseOptions, Scope, connect
from reconcile.catalog.rights import lacking
from reconcile.catalog.rows import count_elsewhere, stream_rows
from reconcile.catalog.services import database_now
from reconcile.commands import command_line
from reconcile.config import Config, load_config
from reconcile.config.drivers import DRIVERS
from reconcile.config.model import ANALYSIS_ARCHIVE, OBJECT_STORE
from reconcile.control import Progress, Silent, relaxed_gc
from reconcile.errors import UsageError
from reconcile.machine import user_at_host
from reconcile.planning.cross_checks import CrossChecks
from reconcile.planning.decide import DesiredState
from reconcile.planning.expiry import refuse_expiring_destinations
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
from reconcile.planning.nesting import refuse_nested
from reconcile.planning.planfile import PlanFile, PlanWriter, new_plan, open_plan
from reconcile.planning.probe import Prober
from reconcile.planning.rates import Rates
from reconcile.planning.reach import Reach
from reconcile.planning.rights import rights_of
from reconcile.planning.scope import check_scope
from reconcile.planning.summary import Counts, notes
from reconcile.stores.addresses import Document

Arrived = Callable[[Catalog, Config], str | None]
Probing = Callable[[Prober, Iterable[Move], Progress], Iterator[Move | Blocker]]


def probe_here(prober: Prober, moves: Iterable[Move], progress: Progress) -> Iterator[Move | Blocker]:
    """Yield what this process finds of each move."""
    for decision in prober.probe(moves):
        yield decision
        progress.advance(1, (decision.before.size if isinstance(decision, Move) else decision.size) or 0)


@frozen
class PlanRequest:
    """What a plan is asked for beyond the two configs. ``rates`` are what the forecast of a duration rests on.

    ``probing`` is who asks the stores for a probe: this process, or workers by
    `reconcile.auditing.probe_elsewhere.by_workers`. ``again``: it was planned before, and what its scope names may no
    longer exist.
    """

    scope: Scope = field(factory=Scope)
    limit: int | None = None
    keep_source: bool = False
    clean_elsewhere: bool = False
    s3_put: Mapping[str, str] = field(factory=dict)  # see `reconcile.stores.s3_put`
    note: str | None = None
    allow_unreadable: bool = False
    overwrite: bool = False
    probe: str | None = None  # "exists" or "digest"
    probing: Probing = probe_here
    rates: tuple[Rates, ...] | None = None
    again: bool = False


_TOLD_ROWS = 1000  # between two signs of life


def new_id() -> str:
    """Return a new id of a plan or run: the time in UTC, and four random bytes in hex."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def plan(
    source: Path,
    dest: Path,
    database: DatabaseOptions | None = None,
    request: PlanRequest | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    arrived: Arrived | None = None,
) -> PlanFile:
    """Compare the destination config with the catalog, and save the plan.

    Args:
        source: The config that the services have now.
        dest: The config that they are to have.
        database: How to connect. By default as ``source`` says.
        request: Which documents, and by which rules. By default the whole archive.
        out: The file of the plan. By default one in ``plans/``, named by the plan's id.
        progress: Is notified how far it is.
        arrived: Says whether a run has already led the archive to ``dest``.

    Returns:
        The plan: ``header`` with counts in documents and bytes, ``rows()`` with a move or a blocker for each document.

    Raises:
        ConfigError: A config is invalid, or the database is not the one that it describes.
        CatalogError: The database cannot be reached, or does not hold a catalog.
        BackendError: A probe was asked for, and a store cannot be used.

    Example:
        >>> plan = reconcile.plan(here, there, out=folder / "plan.json")
        >>> plan.header.summary.moves.documents, plan.header.summary.blocked.documents
        (6, 0)
    """
    source_config, dest_config = load_config(source), load_config(dest, destination=True)
    with closing(connect(database or DatabaseOptions(), source_config)) as catalog:
        return make_plan(catalog, source_config, dest_config, request or PlanRequest(), out, progress, arrived)


def make_plan(
    catalog: Catalog,
    source: Config,
    dest: Config,
    request: PlanRequest,
    out: Path | None = None,
    progress: Progress | None = None,
    arrived: Arrived | None = None,
) -> PlanFile:
    """Compare the desired state with the catalog and save the plan. Writes only the file; workers write a table, too.

    ``arrived`` returns the run or migration that moved documents to where a config says; None if there is none.

    Raises `UsageError` for a filter that matches nothing and for configs in the wrong order, `CatalogError` for the
    database, `ConfigError` for data dirs inside one another, and for a destination that does not keep what is written
    to it.
    """
    progress = progress or Silent()
    plan_id = new_id()
    path = out or Path("plans") / f"{plan_id}.json"
    desired = DesiredState(source, dest, request.allow_unreadable)
    refuse_nested(desired)
    policy = Policy(
        keep_source=request.keep_source,
        limited=request.limit is not None,
        allow_unreadable=request.allow_unreadable,
        overwrite=request.overwrite,
        clean_elsewhere=request.clean_elsewhere,
        s3_put=dict(request.s3_put),
    )
    if policy.s3_put and not any(backend.driver == "s3" for backend in dest.backends()):
        raise UsageError(f"--s3-put: {dest.path} has no backend of driver s3")
    counts = Counts(
        desired,
        forecaster=Forecaster(desired, Basis(catalog.is_postgresql, policy, request.rates)),
        source_is_dest=source.fingerprint() == dest.fingerprint(),
        probed=request.probe,
    )
    with ExitStack() as stack:
        stack.enter_context(relaxed_gc())
        with catalog.snapshot() as connection:
            if not request.again:
                check_scope(connection, request.scope)
            writer = stack.enter_context(new_plan(path))
            snapshot_at = database_now(connection)
            reach = Reach(catalog, desired)
            progress.step("reading the catalog")
            _decide_all(connection, desired, reach, request, writer, counts, progress)
            lacks = lacking(connection, rights_of(desired, (flow[:2] for flow in counts.flows), policy))
        refuse_nested(desired)  # the data dirs too that rows have led to
        refuse_expiring_destinations(catalog, desired, {dest for _source, dest, _bucket in counts.flows}, policy.s3_put)
        if request.probe is not None:
            _probe(catalog, desired, request, writer, counts, progress)
        came = arrived(catalog, dest) if arrived is not None and counts.looks_reversed else None
        if arrived is not None and counts.looks_reversed and came is None:
            raise UsageError(
                f"the two configs look reversed: every document is where {dest.path} says and none is where "
                f"{source.path} says, but no run or migration on record moved them there; no plan was saved",
                hint=command_line("plan", dest.path, source.path),
            )
        header = PlanHeader(
            format_version=FORMAT_VERSION,
            plan_id=plan_id,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            tool_version=__version__,
            database=catalog.identity,
            source=reference(source),
            dest=reference(dest),
            scope=request.scope.as_filters(),
            policy=policy,
            summary=counts.summary(notes(counts, came)),
            snapshot_at=snapshot_at,
            planned_by=user_at_host(),
            note=request.note,
        )
        digest = writer.save(header)
    if lacks and counts.flows:
        progress.say(
            f"the database role {lacks.role} can plan, but cannot apply this plan: it lacks privileges: "
            f"{lacks.describe()}. Have the owner of the tables run: {lacks.grants}"
        )
    return open_plan(path, digest)


def _decide_all(
    connection: Connection,
    desired: DesiredState,
    reach: Reach,
    request: PlanRequest,
    writer: PlanWriter,
    counts: Counts,
    progress: Progress,
) -> None:
    checks = CrossChecks(desired)
    checks.prepare(connection)
    last_moved: Document | None = None
    planned = 0
    counts.elsewhere_now = unreadable_with(connection, reference(desired.dest))
    for number, row in enumerate(stream_rows(connection, request.scope.condition()), 1):
        decision = reach.check(checks.check(row, desired.decide(row)))
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
            add_decision(decision, writer, counts)
        if number % _TOLD_ROWS == 0:
            progress.advance(_TOLD_ROWS, 0)


def _probe(
    catalog: Catalog,
    desired: DesiredState,
    request: PlanRequest,
    writer: PlanWriter,
    counts: Counts,
    progress: Progress,
) -> None:
    """Put what the stores say of each move into the plan; counts are taken anew."""
    moves = counts.moves.tally()
    progress.phase("probe", moves.documents, moves.bytes)
    places = {name for flow in counts.flows for name in flow[:2]}
    counts.forget_moves()
    prober = Prober(catalog, desired, digests=request.probe == "digest", overwrite=request.overwrite)
    for name in sorted(places):
        prober.open(name)
    for decision in request.probing(prober, writer.taken_moves(), progress):
        add_decision(decision, writer, counts)
    counts.unrecorded = prober.unrecorded
    counts.made = prober.made
    counts.composite = prober.composite


def add_decision(decision: Move | Blocker, writer: PlanWriter, counts: Counts) -> None:
    """Put a move or a blocker into a plan, and count it."""
    if isinstance(decision, Move):
        counts.add_move(decision)
        writer.add_move(decision)
    else:
        counts.add_blocker(decision)
        writer.add_blocker(decision)


def unreadable_with(connection: Connection, config: ConfigReference) -> int:
    """Count the documents that services with this config cannot read, for the scheme of their URLs."""
    drivers = {role: str(backend["driver"]) for role, backend in config.backends.items()}
    store = drivers[OBJECT_STORE]
    schemes = (DRIVERS[driver].scheme for driver in (store, drivers.get(ANALYSIS_ARCHIVE, store)))
    return count_elsewhere(connection, ANALYSIS_ARCHIVE, *schemes)


def reference(config: Config) -> ConfigReference:
    """Return what a plan records of a config."""
    return ConfigReference(str(config.path), config.fingerprint(), config.describe())
