"""Make a plan: desired state times catalog, in one read-only transaction, streamed into the plan's file."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from attrs import define, field, frozen
from sqlalchemy.engine import Connection

from reconcile._version import __version__
from reconcile.catalog import Catalog, Scope
from reconcile.catalog.rows import count_elsewhere, names_in_use, stream_rows
from reconcile.catalog.services import database_now
from reconcile.config import Config
from reconcile.config.model import ANALYSIS_ARCHIVE
from reconcile.errors import UsageError
from reconcile.planning.checks import CrossChecks
from reconcile.planning.desired import DesiredState
from reconcile.planning.model import (
    FORMAT_VERSION,
    Blocker,
    ConfigReference,
    Flow,
    InPlace,
    Move,
    PlanHeader,
    Policy,
    Summary,
    Tally,
)
from reconcile.planning.planfile import PlanFile, PlanWriter, new_plan, open_plan


@frozen
class PlanRequest:
    """What a plan is asked for beyond the two configs."""

    scope: Scope = field(factory=Scope)
    limit: int | None = None
    keep_source: bool = False
    allow_unreadable: bool = False


def new_id() -> str:
    """Return a new id of a plan or run: the time in UTC, and four random bytes in hex."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


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
    counts = Counts(source_is_dest=source.fingerprint() == dest.fingerprint())
    with catalog.snapshot() as connection, _checked_plan(connection, request, path) as writer:
        snapshot_at = database_now(connection)
        _decide_all(connection, desired, request, writer, counts, progress)
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
            ),
            summary=counts.summary(notes(desired, counts)),
            snapshot_at=snapshot_at,
        )
        writer.save(header)
    return open_plan(path)


def _checked_plan(connection: Connection, request: PlanRequest, path: Path) -> AbstractContextManager[PlanWriter]:
    """Return the plan's writer, once it is clear that the request makes sense."""
    check_scope(connection, request.scope)
    return new_plan(path)


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
    counts.elsewhere = unreadable_with(connection, desired.dest)
    for number, row in enumerate(stream_rows(connection, request.scope.condition()), 1):
        decision = checks.check(row, desired.decide(row))
        if isinstance(decision, Move):
            if request.limit is not None and counts.moves.documents >= request.limit:
                counts.beyond_limit += 1
            else:
                counts.add_move(decision, desired)
                writer.add_move(decision)
        elif isinstance(decision, Blocker):
            counts.add_blocker(decision)
            writer.add_blocker(decision)
        else:
            counts.add_in_place(decision, row.size)
        if number % 10_000 == 0:
            progress(number)


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


@define
class Group:
    """A running `Tally`."""

    documents: int = 0
    bytes: int = 0
    unsized: int = 0

    def add(self, size: int | None) -> None:
        """Count one document."""
        self.documents += 1
        self.bytes += size or 0
        self.unsized += size is None

    def tally(self) -> Tally:
        """Return the counts so far."""
        return Tally(self.documents, self.bytes, self.unsized)


@define
class Counts:
    """What the summary is made of."""

    moves: Group = field(factory=Group)
    in_place: Group = field(factory=Group)
    blocked: Group = field(factory=Group)
    other_encoding: int = 0
    beyond_limit: int = 0
    same_url: int = 0
    elsewhere: int = 0
    source_is_dest: bool = False
    at_dest: int = 0
    into_database: int = 0
    out_of_database: int = 0
    flows: dict[tuple[str, str, str], Group] = field(factory=dict)
    reasons: Counter[str] = field(factory=Counter)

    def add_move(self, move: Move, desired: DesiredState) -> None:
        """Count a move."""
        size = move.before.size
        self.moves.add(size)
        self.flows.setdefault((move.source, move.dest, move.bucket), Group()).add(size)
        before, after = (url.partition("://")[0] for url in (move.before.content_url, move.after.content_url))
        self.elsewhere -= before != after
        self.same_url += move.before.content_url == move.after.content_url
        if desired.places[move.dest].backend.driver in ("db", "db2"):
            self.into_database += size or 0
        if desired.places[move.source].backend.driver in ("db", "db2"):
            self.out_of_database += size or 0

    def add_blocker(self, blocker: Blocker) -> None:
        """Count a blocker."""
        self.blocked.add(blocker.size)
        self.reasons[blocker.reason] += 1

    def add_in_place(self, decision: InPlace, size: int | None) -> None:
        """Count a document that stays."""
        self.in_place.add(size)
        self.other_encoding += decision.other_encoding
        self.at_dest += decision.backend.startswith("dest.") and not self.source_is_dest

    def summary(self, notes: list[str]) -> Summary:
        """Return the summary."""
        return Summary(
            moves=self.moves.tally(),
            in_place=self.in_place.tally(),
            other_encoding=self.other_encoding,
            blocked=self.blocked.tally(),
            beyond_limit=self.beyond_limit,
            flows=[
                Flow(source, dest, bucket, group.documents, group.bytes, group.unsized)
                for (source, dest, bucket), group in sorted(self.flows.items())
            ],
            blocked_by_reason=dict(sorted(self.reasons.items())),
            database_growth=self.into_database,
            unreadable_after=max(0, self.elsewhere),
            notes=notes,
        )


def notes(desired: DesiredState, counts: Counts) -> list[str]:
    """Return what an operator should know before applying, in sentences."""
    said = [*desired.source.doubts, *desired.dest.doubts]
    if counts.into_database:
        said.append(f"The database grows by about {counts.into_database / 1024**2:.1f} MiB.")
    if counts.out_of_database:
        said.append(
            "Space that documents leave in the database is used again by it, but comes back to the system only by"
            " VACUUM FULL."
        )
    if counts.same_url:
        said.append(
            f"{counts.same_url} documents keep their URL while they move to another endpoint: the catalog does not"
            " tell afterwards which endpoint holds them, only the recorded runs do. Their sources are kept."
        )
    if counts.elsewhere > 0:
        schemes = ", ".join(sorted({f"{backend.scheme}://" for backend in desired.dest.backends()}))
        said.append(
            f"{counts.elsewhere} documents of the archive will be at another driver afterwards than the destination"
            f" config has. Its services read only {schemes}: they could not read those."
        )
    if not counts.moves.documents and counts.at_dest and counts.at_dest == counts.in_place.documents:
        said.append("No document is where the source config says. Are the two configs in the right order?")
    said += _ownership_notes(desired)
    return said


def _ownership_notes(desired: DesiredState) -> list[str]:
    said = []
    for backend in desired.dest.backends():
        if backend.driver != "localfs" or os.geteuid() == 0:
            continue
        data_dir = Path(backend.settings["archive_data_dir"])
        if data_dir.exists() and data_dir.stat().st_uid != os.geteuid():
            said.append(
                f"{data_dir} belongs to another user: files made by apply will belong to the user that runs it."
                " Run apply as the data dir's owner or as root."
            )
    return said
