"""Lines as people read them: on a terminal wrapped to its width, and what matters in colour; plain anywhere else."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator

import click
from rich.console import Console
from rich.text import Text

_STYLES = (
    (re.compile(r"error:|INTERRUPTED|STOPPED| *WARNING| *NOT YET| *NOT INTACT|  blocked +[1-9]"), "bold red"),
    (re.compile(r"  sources +deleted|.*\bDELETED\b"), "yellow"),
    (re.compile(r" *next:|  saved as|saved as"), "bold"),
)
_COMMAND = re.compile(r"\b(reconcile [a-z]+ |cp -p |pip install )")
_EXPLAINED = re.compile(r"(?m)^((?:.*: | *)reconcile [a-z]+(?: \S.*?)?) {4}(?=\S)")
_ON_THE_DATABASE = re.compile(r"(?m)(?:^|: | {2,})reconcile (?!show|diff|drivers|\S+ --help|--help)[a-z]+ ")
_HANGING = 4  # columns by which the rest of a wrapped line is indented


def show(lines: Iterable[str], *, err: bool = False) -> None:
    """Print lines. Those with a command to type are left for the terminal to wrap, so that they can be copied."""
    stream = sys.stderr if err else sys.stdout
    lines = _with_database(_EXPLAINED.sub(r"\1    # ", line) for line in lines)  # so that the whole line may be pasted
    if not stream.isatty():
        for line in lines:
            click.echo(line, err=err)
        return
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    for line in lines:
        style = next((style for pattern, style in _STYLES if pattern.match(line)), "")
        for piece in _wrapped(line, console.width):
            console.print(Text(piece, style), soft_wrap=True)


def _with_database(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines, and what their commands need besides where the database was named on the command line."""
    has_command = False
    for line in lines:
        has_command = has_command or _ON_THE_DATABASE.search(line) is not None
        yield line
    if has_command and any(re.match(r"--db-connect(-file)?(=|$)", word) for word in sys.argv):
        yield f"{' ' * 8}with --db-connect again, or once for all: export RECONCILE_DB_CONNECT=URL"


def screen_width() -> int | None:
    """Return the columns of the terminal that results go to; None where they go elsewhere."""
    return Console(file=sys.stdout).width if sys.stdout.isatty() else None


def _wrapped(text: str, width: int) -> Iterator[str]:
    for line in text.split("\n"):
        if len(line) <= width or " " not in line.strip() or _COMMAND.search(line):
            yield line
            continue
        indent = len(line) - len(line.lstrip()) + _HANGING
        yield from textwrap.wrap(
            line,
            max(width, indent + 20),
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
            replace_whitespace=False,
        )
