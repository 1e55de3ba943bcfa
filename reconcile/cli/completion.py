"""``reconcile completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from reconcile.cli.env_option import verb

_SHELLS = ("bash", "zsh", "fish")
PROGRAM = "reconcile"
VARIABLE = "_RECONCILE_COMPLETE"


@verb("completion", "complete commands and options in the shell")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(context: click.Context, /, shell: str) -> None:
    """Print the script that makes SHELL complete the commands, options and files of reconcile.

    Put it where the shell looks for completions, and open a new shell:

    \b
      reconcile completion bash > ~/.local/share/bash-completion/completions/reconcile
      reconcile completion zsh > "${fpath[1]}/_reconcile"
      reconcile completion fish > ~/.config/fish/completions/reconcile.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has these three
    click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())
