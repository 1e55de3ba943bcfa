"""The command reference ``docs/commands.md``, made from the help texts: ``python -m reconcile.cli.reference``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from reconcile.cli.main import cli

_SHARED = "--db-"  # the options of this kind are the same everywhere: described once
_PREFACE = """\
# Commands

Made from the help texts by `make docs`; `reconcile VERB --help` shows the same. Every option can also be set in the
environment: [configuration.md](configuration.md#options-by-environment). What commands print and where:
[scripting.md](scripting.md); exit codes: [exit-codes.md](exit-codes.md).
"""


def reference() -> str:
    """Return the reference as Markdown."""
    with click.Context(cli, info_name="reconcile") as context:
        return "\n".join(_lines(context)) + "\n"


def _lines(context: click.Context) -> Iterator[str]:
    yield _PREFACE
    yield from _command(cli, context, "reconcile VERB")
    shared: dict[str, str] = {}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None  # noqa: S101 - it is in the list
        with click.Context(command, parent=context, info_name=name) as inner:
            yield f"## reconcile {name}\n"
            yield from _command(command, inner, " ".join(["reconcile", name, *command.collect_usage_pieces(inner)]))
            shared |= {line: line for line in _options(command, inner) if _is_shared(line)}
    yield "## The database\n\nThe commands that open the catalog take these:\n"
    yield from shared


def _command(command: click.Command, context: click.Context, usage: str) -> Iterator[str]:
    yield f"```\n{usage}\n```\n"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        example = paragraph.removeprefix("\b\n")
        yield f"```\n{inspect.cleandoc(example)}\n```\n" if example != paragraph else f"{_text(paragraph)}\n"
    own = list(_options(command, context))
    yield from (line for line in own if not _is_shared(line))
    if any(map(_is_shared, own)):
        yield "- and those of [the database](#the-database)"
    if own:
        yield ""


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.params:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            yield f"- `{record[0]}`: {_text(record[1])}"


def _is_shared(line: str) -> bool:
    return line.startswith(f"- `{_SHARED}")


def _text(text: str) -> str:
    """Keep Markdown from taking ``<plan id>`` for a tag."""
    return text.replace("<", "\\<")


if __name__ == "__main__":
    click.echo(reference(), nl=False)
