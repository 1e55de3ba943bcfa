"""What every option is made with: each can also be given by environment, as ``RECONCILE_<NAME>``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path, readable=False)


def option(*names: str, **settings: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's own
    """Return a click option whose environment variable follows from its name."""
    long = next(name for name in names if name.startswith("--")).partition("/")[0]
    variable = "RECONCILE_" + long.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, **settings)
