"""``--engine``: who works on the parts of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from reconcile.catalog import DatabaseOptions
from reconcile.cli.env_option import option
from reconcile.control import PIPELINES
from reconcile.engines import Engine, Setup, open_engine
from reconcile.planning.desired import DesiredState

F = TypeVar("F", bound=Callable[..., Any])

engine_option = option(
    "--engine",
    metavar="ENGINE",
    help="Have the work done by workers: processes:N on this machine, dask:ADDRESS on many.  [default: this process]",
)


@contextmanager
def engine_of(name: str | None, database: DatabaseOptions, desired: DesiredState) -> Iterator[Engine | None]:
    """Open for the block what ``--engine`` names; None where it is not given."""
    if name is None:
        yield None
        return
    setup = Setup(
        task="reconcile.workers.worker:Worker",
        database=database,
        source=desired.source.path,
        dest=desired.dest.path,
        threads=PIPELINES,
    )
    engine = open_engine(name, setup)
    try:
        yield engine
    finally:
        engine.close()
