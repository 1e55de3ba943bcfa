"""The commands that screens tell people to type next: found, and tried on the parser of the command line."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import click

from reconcile.cli.main import cli

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COMMAND = re.compile(r"(?:^(?:  )?next: |^ {2,6}|: )((?:reconcile (?!--help)|cp -p ).*?)(?: {4}# .*|)$")
_FILE = re.compile(r"\.(?:json|yaml)$")
_TO_FILL_IN = re.compile(r"\b(?:FILE|PLAN|RUN|SOURCE|DEST|CONFIG|VERB)\b|[][*]")  # also a usage line, and Markdown


def commands_in(text: str) -> list[str]:
    """Return the commands that a screen tells people to type next, without those that have something to fill in."""
    found = (_COMMAND.search(line) for line in _ESCAPE.sub("", text).replace("\r", "").splitlines())
    return [command[1] for command in found if command is not None and not _TO_FILL_IN.search(command[1])]


def parses(command: str, folder: Path) -> None:
    """Check that a printed command is one: its verb, its options, and the files that it names.

    Raises `click.ClickException`, `AssertionError`.
    """
    verb, *arguments = shlex.split(command)[1:]
    with contextlib.chdir(folder), click.Context(cli, info_name="reconcile") as context:
        subcommand = cli.get_command(context, verb)
        assert subcommand is not None, command
        with contextlib.suppress(click.exceptions.Exit):  # --help
            subcommand.make_context(verb, arguments, parent=context).close()
        missing = [word for word in arguments if _FILE.search(word) and not Path(word).exists()]
        assert not missing, f"{command}: no {', '.join(missing)} in {folder}"
