"""``--on`` and ``--notify``: whom a command notifies."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reconcile.cli.env_option import option
from reconcile.events import FOR_HOOKS
from reconcile.logs import feed

if TYPE_CHECKING:
    from reconcile.hooks import Hooks

F = TypeVar("F", bound=Callable[..., Any])

_hooks: list[Hooks] = []


def _of(context: click.Context) -> Hooks:
    from reconcile.hooks import Hooks  # noqa: PLC0415 - who asks for none does without

    if not _hooks:
        _hooks.append(Hooks(str(context.info_name)))
        feed(_hooks[0])
    return _hooks[0]


def _on(context: click.Context, _parameter: click.Parameter, given: tuple[tuple[str, str], ...]) -> None:
    if not given:
        return
    from reconcile.hooks import program  # noqa: PLC0415

    for event, command in given:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise click.BadParameter(f"{event}: the command cannot be parsed: {error}") from None
        if not words or shutil.which(words[0]) is None:
            raise click.BadParameter(f"{event}: there is no program {words[0] if words else ''!r}")
        _of(context).add((event,), words[0], program(words))


def _notify(context: click.Context, _parameter: click.Parameter, urls: tuple[str, ...]) -> None:
    if not urls:
        return
    from reconcile.hooks import address  # noqa: PLC0415

    for number, url in enumerate(urls, 1):
        try:
            hook = address(url)
        except ValueError:
            raise click.BadParameter("the value is not a URL such as https://hooks.example.com/reconcile") from None
        _of(context).add(FOR_HOOKS, f"--notify {number}" if len(urls) > 1 else "--notify", hook)


def begun() -> None:
    """Report that the command begins, after its options were read."""
    for hooks in _hooks:
        hooks.begin()


def ended(code: int, message: str | None, hint: str | None) -> None:
    """Report that it ended, and wait until every hook has run."""
    while _hooks:
        _hooks.pop().end(code, message, hint)


def hook_options(command: F) -> F:
    """Add the two options."""
    command = option(
        "--notify",
        metavar="URL",
        multiple=True,
        expose_value=False,
        callback=_notify,
        help="Post each of these events to this URL, as JSON. May be repeated. The URL may hold a token: "
        "prefer the environment.",
    )(command)
    return option(
        "--on",
        nargs=2,
        multiple=True,
        type=(click.Choice(FOR_HOOKS), str),
        metavar="EVENT COMMAND",
        expose_value=False,
        callback=_on,
        help=f"Run COMMAND at EVENT; it gets the event on its standard input. Events: {', '.join(FOR_HOOKS)}. "
        "May be repeated.",
    )(command)
