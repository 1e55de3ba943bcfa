"""Engines: what carries parts of a run to workers, on this machine or on many, and brings back what came of them.

An engine carries; the catalog's database decides what is true. An engine may run a part twice, late or never, and
nothing but time is lost by it.
"""

from __future__ import annotations

from importlib import import_module

from reconcile.engines.base import Engine, Message, Setup, task_of
from reconcile.errors import UsageError

__all__ = ["Engine", "Message", "Setup", "open_engine", "task_of"]

_MOST_PROCESSES = 256


def open_engine(name: str, setup: Setup) -> Engine:
    """Return the engine of a name: ``processes:N``, ``dask:ADDRESS``, or ``module:factory`` of somebody else's.

    A factory is called with the setup. Nothing is started or connected before the first part.
    Raises `UsageError` for a name that is none.
    """
    kind, _colon, rest = name.partition(":")
    if kind == "processes":
        if not (rest.isdecimal() and 1 <= int(rest) <= _MOST_PROCESSES):
            raise UsageError(f"--engine {name}: processes:N takes a number from 1 to {_MOST_PROCESSES}")
        from reconcile.engines.processes import Processes  # noqa: PLC0415 - seldom asked for

        return Processes(int(rest), setup)
    if kind == "dask":
        from reconcile.engines.dask import Dask  # noqa: PLC0415 - an extra

        return Dask(rest, setup)
    try:
        factory = getattr(import_module(kind), rest)
    except (ImportError, AttributeError, ValueError):
        raise UsageError(
            f"--engine {name}: there is no such engine; it is processes:N, dask:ADDRESS, or module:factory of your own"
        ) from None
    engine: Engine = factory(setup)
    return engine
