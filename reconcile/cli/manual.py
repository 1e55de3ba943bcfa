"""The man pages, made from the help texts: ``python -m reconcile.cli.manual DIR`` writes ``DIR/reconcile*.1``."""

from __future__ import annotations

import inspect
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from reconcile import __version__
from reconcile.cli.env_option import Verb
from reconcile.cli.main import cli

# As docs/exit-codes.md has them, in a few words each; a test compares the codes.
EXIT_CODES = {
    "0": "Done, or nothing to do.",
    "1": "Error. Also: documents could not be staged, or a step of check failed.",
    "2": "With --detailed-exitcode: the plan has changes; plans differ.",
    "3": "Done, but some documents or sources stay where they are.",
    "4": "The plan is stale: rows changed, were deleted or were added since it was made.",
    "5": "A store, a place or the database is not the one on record; or documents are missing or wrong.",
    "10": "Another run holds the lock, or this run lost the lock.",
    "11": "Services are running.",
    "12": "A limit ended the staging; documents remain to be staged.",
    "13": "Declined at the prompt.",
    "14": "With status --watch: the run is unfinished, and no process is working on it.",
    "15": "With plan --fail-on: the plan has one of the named conditions.",
    "64": "Usage.",
    "78": "Configuration.",
    "130, 143": "Interrupted by SIGINT, SIGTERM.",
}
_ESCAPES = {"\\": r"\e", "-": r"\-", "'": r"\(aq", '"': r"\(dq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
_OPTION = re.compile(r"((?:\\-){1,2}[a-z](?:[a-z]|\\-)*)")  # in a tag that is escaped already
_WIDTH = 78  # characters of a line of the source; the pages themselves are filled to the terminal's width


def manual(date: datetime) -> dict[str, str]:
    """Return the pages: file name, such as ``reconcile-plan.1``, to roff source. ``date`` stands at their foot."""
    with click.Context(cli, info_name="reconcile", **cli.context_settings) as context:
        pages = {"reconcile.1": _page("reconcile", date, _program(context))}
        for name in cli.list_commands(context):
            command = cli.get_command(context, name)
            assert isinstance(command, Verb)  # noqa: S101 - it is in the list
            with click.Context(command, parent=context, info_name=name) as inner:
                pages[f"reconcile-{name}.1"] = _page(f"reconcile-{name}", date, _verb(command, inner))
    return pages


def _page(title: str, date: datetime, lines: Iterable[str]) -> str:
    head = f'.TH {_escaped(title.upper())} 1 {date:%Y-%m-%d} "reconcile {__version__}" "reconcile manual"'
    return "\n".join([head, ".nh", *lines]) + "\n"  # no hyphenation: names are searched for, and copied


def _program(context: click.Context) -> Iterator[str]:
    about = cli.get_short_help_str(limit=_WIDTH).rstrip(".")
    yield from (".SH NAME", rf"reconcile \- {_escaped(about[0].lower() + about[1:])}")
    yield from (".SH SYNOPSIS", ".B reconcile", "[OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]")
    yield from _description(cli)
    yield ".SH OPTIONS"
    yield "Give these before the command."
    yield from _options(_records(cli, context))
    yield ".SH COMMANDS"
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None  # noqa: S101 - it is in the list
        yield from _item(rf"\fBreconcile\-{_escaped(name)}\fR(1)", command.short_help or "")
    yield from (".SH ENVIRONMENT", *_text(cli.epilog or ""))
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES.items():
        yield from _item(code, meaning)
    yield from _see_also([f"reconcile-{name}" for name in cli.list_commands(context)])


def _verb(command: Verb, context: click.Context) -> Iterator[str]:
    name = str(command.name)
    yield from (".SH NAME", rf"reconcile\-{_escaped(name)} \- {_escaped(command.short_help or '')}")
    yield from (".SH SYNOPSIS", f".B reconcile {_escaped(name)}")
    yield _escaped(" ".join(command.collect_usage_pieces(context)))
    yield from _description(command)
    yield ".SH OPTIONS"
    for group, records in command.grouped(context).items():
        if group != "Options":
            yield f".SS {_escaped(group)}"
        yield from _options(records)
    yield from _environment(command)
    yield from (".SH EXIT STATUS", "0 if done. The other codes are in", ".BR reconcile (1).")
    yield from _see_also(["reconcile"])


def _description(command: click.Command) -> Iterator[str]:
    yield ".SH DESCRIPTION"
    for number, paragraph in enumerate(inspect.cleandoc(command.help or "").split("\n\n")):
        if number:
            yield ".PP"
        example = paragraph.removeprefix("\b\n")
        if example == paragraph:
            yield from _text(paragraph)
        else:
            lines = inspect.cleandoc(example).splitlines()
            yield from (".RS 4", ".nf", *(_escaped(line) for line in lines), ".fi", ".RE")


def _environment(command: Verb) -> Iterator[str]:
    """Yield by which variables the options can be given, if the verb has any besides ``--help``."""
    options = [option for option in command.params if isinstance(option, click.Option)]
    if options:
        prefix = f"RECONCILE_{str(command.name).upper()}_"
        text = (
            f"An option can also be set in the environment: {prefix} and its name in capitals, with _ for -. "
            "RECONCILE_ and the name sets it for all commands. The first form wins."
        )
        by_verb = [option.opts[0] for option in options if isinstance(option.envvar, str)]  # else a pair of names
        only = f" {' and '.join(by_verb)} can be set in the first form only." if by_verb else ""
        yield from (".SH ENVIRONMENT", *_text(text + only))


def _records(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    return [record for record in records if record is not None]


def _options(records: Iterable[tuple[str, str]]) -> Iterator[str]:
    for names, about in records:
        yield from _item(_OPTION.sub(r"\\fB\1\\fR", _escaped(names)), about)


def _item(tag: str, about: str) -> Iterator[str]:
    yield from (".TP", tag, *_text(about))


def _see_also(names: list[str]) -> Iterator[str]:
    yield ".SH SEE ALSO"
    yield " ,\n".join(rf".BR {_escaped(name)} (1)" for name in names)


def _text(text: str) -> Iterator[str]:
    """Yield a paragraph as lines that roff fills."""
    words = " ".join(text.split())
    for line in textwrap.wrap(words, _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield _escaped(line)


def _escaped(text: str) -> str:
    """Keep roff from taking anything of a line for a request or an escape; a hyphen stays one when it is copied."""
    escaped = "".join(_ESCAPES.get(character, character) for character in text)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


def main() -> None:
    """Write the pages into the directory that is named; their date is that of ``SOURCE_DATE_EPOCH``, else today."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    date = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    for name, page in manual(date).items():
        (folder / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
