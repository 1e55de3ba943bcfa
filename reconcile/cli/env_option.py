"""How every command and option is built: help in groups, and an environment variable for each option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path, readable=False)

_GROUPS = {
    "Services and other runs": "wait-for-services ignore-services lock-wait takeover-wait share-destination",
    "Limits and speed": "workers max-failures max-document-size memory max-rate max-bandwidth limits-file engine limit"
    " max-bytes max-duration until",
    "Database": "db-connect db-connect-file db-password-file db-use-ssl db-retries db-timeout db-connect-timeout",
    "For programs": "events metrics-file metrics-push on notify otlp",
    "Output": "format out yes show-config quiet help",
}
_GROUP_OF = {f"--{name}": group for group, names in _GROUPS.items() for name in names.split()}

# Options that mean one thing for this verb and another for that: one variable for all of them would be a trap.
_ONLY_BY_VERB = {"--limit", "--format", "--out"}


class Verb(click.Command):
    """A command. Its options are in groups; each can also be set as ``RECONCILE_<VERB>_<OPTION>``, which wins."""

    def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **settings)
        for parameter in self.params:
            if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str):
                own = parameter.envvar.replace("RECONCILE_", f"RECONCILE_{str(self.name).upper()}_", 1)
                by_verb = _long_name(parameter.opts) in _ONLY_BY_VERB
                parameter.envvar = own if by_verb else (own, parameter.envvar)

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - what the verb's function returns
        """Call the command's function; hooks, events and metrics learn that it begins."""
        from reconcile.cli import hooks  # noqa: PLC0415 - whose options are made here

        hooks.begun()
        return super().invoke(context)

    def grouped(self, context: click.Context) -> dict[str, list[tuple[str, str]]]:
        """Return the options by group, those of this verb alone first: names and values, and what they do."""
        groups: dict[str, list[tuple[str, str]]] = {group: [] for group in ("Options", *_GROUPS)}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
            if record is not None:
                groups[_GROUP_OF.get(_long_name(parameter.opts), "Options")].append(record)
        return {group: records for group, records in groups.items() if records}

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        for group, records in self.grouped(context).items():
            with formatter.section(group):
                formatter.write_dl(records)


def verb(name: str, short_help: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Return the decorator of a verb's function; ``short_help`` has to fit a line of the list of verbs."""
    return click.command(name, cls=Verb, short_help=short_help)


def option(*names: str, **settings: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's own
    """Return a click option whose environment variable follows from its name."""
    variable = "RECONCILE_" + _long_name(names).removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=variable, **settings)


def _long_name(names: Any) -> str:  # noqa: ANN401 - a tuple or a list
    return str(next(name for name in names if name.startswith("--"))).partition("/")[0]
