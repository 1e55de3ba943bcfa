"""``--engine``: who works on the parts of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from reconcile.catalog import DatabaseOptions
from reconcile.cli.env_option import option
from reconcile.control import PIPELINES
from reconcile.engines import Engine, Setup, open_engine
from reconcile.planning.decide import DesiredState

F = TypeVar("F", bound=Callable[..., Any])

engine_option = option(
    "--engine",
    metavar="ENGINE",
    help="Have the work done by workers: processes:N on this machine, dask:ADDRESS on many.  [default: this process]",
)


def is_set_for_all_commands(context: click.Context) -> bool:
    """Tell whether the environment names the engine: a command that it has no part in does without."""
    return context.get_parameter_source("engine") is ParameterSource.ENVIRONMENT


@contextmanager
def engine_of(name: str | None, database: DatabaseOptions, desired: DesiredState) -> Iterator[Engine | None]:
    """Open for the block what ``--engine`` names, for a run; None where it is not given."""
    with engine_for(name, database, desired.source.path, desired.dest.path) as engine:
        yield engine


@contextmanager
def engine_for(
    name: str | None, database: DatabaseOptions, source: str | Path, dest: str | Path | None = None
) -> Iterator[Engine | None]:
    """Open for the block what ``--engine`` names, with these configs; None where it is not given."""
    if name is None:
        yield None
        return
    setup = Setup(
        task="reconcile.workers.worker:Worker",
        database=database,
        source=Path(source),
        dest=None if dest is None else Path(dest),
        threads=PIPELINES,
    )
    engine = open_engine(name, setup)
    try:
        yield engine
    finally:
        engine.close()
