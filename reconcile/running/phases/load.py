"""Load: the destinations are made ready, and a new run is recorded with all that it is to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from sqlalchemy.engine import Connection

from reconcile.config import Config
from reconcile.errors import PlanFileError
from reconcile.logs import printable
from reconcile.planning.decide import DesiredState
from reconcile.planning.places import is_elsewhere
from reconcile.planning.planfile import PlanFile
from reconcile.running.phases.context import StorePool
from reconcile.running.phases.steps import Step, carries_out
from reconcile.running.record.executor import Executor
from reconcile.running.record.in_place import record_in_place
from reconcile.running.record.run import Run, begin_run
from reconcile.running.record.states import Asked
from reconcile.running.record.work_moves import blocker_row, move_row

_ROWS_AT_ONCE = 50_000  # an error of the server is seen only after the last of them


def make_destinations(pool: StorePool, plan: PlanFile) -> None:
    """Make what the destination config asks to be made; refuse one that is not usable before anything is recorded."""
    for name in sorted({flow.dest for flow in plan.header.summary.flows}):
        is_known = name in pool.desired.places or (is_elsewhere(name) and plan.header.undo_of is not None)
        if not is_known:
            raise PlanFileError(
                f"{plan.path}: the plan names a backend {printable(name)} that neither config has; nothing was done"
            )
        pool.destination(name, plan.header, create=True)


@carries_out(Step.LOAD)
def begin(  # noqa: PLR0913, PLR0917
    pool: StorePool,
    executor: Executor,
    plan: PlanFile,
    digest: str,
    batches: Callable[[Connection], Iterable[Iterable[dict[str, Any]]]],
    keep_source: bool,  # noqa: FBT001
    check: Callable[[Connection, str], None] | None = None,
    asked: Asked | None = None,
) -> Run:
    """Record the run of a pool, new, by a plan, with all its moves and what was at its destinations before."""
    desired = pool.desired
    configs = {side: config_record(config) for side, config in (("source", desired.source), ("dest", desired.dest))}
    run = begin_run(
        executor, pool.run_id, plan, digest, batches, configs=configs, keep_source=keep_source, asked=asked, check=check
    )
    if plan.header.undo_of is None:
        dests = {dest for _source, dest in run.backend_pairs()}
        with run.writing(bulk=True) as connection:
            executor.catalog.favour_hash_joins(connection)
            record_in_place(connection, run.run_id, [desired.places[name].address.head for name in dests])
    return run


def config_record(config: Config) -> dict[str, Any]:
    """Return what a run records of a config: no secret in it, but where each came from (a file, a variable)."""
    return {
        "path": str(config.path.absolute()),
        "fingerprint": config.fingerprint(),
        "backends": config.describe(),
        "secrets": config.provenance(),
    }


def checked_batches(plan: PlanFile, desired: DesiredState) -> Iterator[Iterator[dict[str, Any]]]:
    """Yield the plan's moves as rows of the work table, in batches that are to be read one after the other."""
    rows = checked_rows(plan, desired)
    for first in rows:
        yield chain([first], islice(rows, _ROWS_AT_ONCE - 1))


def checked_rows(plan: PlanFile, desired: DesiredState) -> Iterator[dict[str, Any]]:
    """Yield the plan's moves as rows of the work table, each worked out again from its row and the configs."""
    total = 0
    for move in plan.moves():
        if not desired.leads_to(move):
            raise PlanFileError(
                f"{plan.path}: the move of {'/'.join(move.document)} does not follow from the configs; "
                "nothing was done",
                hint="the plan was changed or made by another version; make a new one with reconcile plan",
            )
        total += 1
        yield move_row(move, desired.target(move), keep=plan.header.policy.keeps(move.source))
    for blocker in plan.blockers():
        yield blocker_row(blocker)
    if total != plan.header.summary.moves.documents:
        raise PlanFileError(
            f"{plan.path}: the plan holds {total:,} moves, but its summary has "
            f"{plan.header.summary.moves.documents:,}; nothing was done"
        )
