"""The commands that screens, pages and messages tell people to type: built here alone, quoted, to work as printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import count
from pathlib import Path

_OLD = ".old"
_ABOUT_RUNS = r"(?m)^reconcile (?:status|runs|report|forget)(?: [0-9]\S*)?(?=    |$)"


def command_line(verb: str, *arguments: object, **options: object) -> str:
    """Return a command line of this tool as a shell takes it.

    Options are named as Python spells them. ``True`` gives a flag, ``None`` and ``False`` nothing, a list one option an
    item.
    """
    words = ["reconcile", verb, *map(str, arguments)]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is True:
                words.append(flag)
            elif item is not None and item is not False:
                words += [flag, str(item)]
    return shlex.join(words)


def naming_database(hint: str | None, config: Path) -> str | None:
    """Return a hint whose commands about runs name the config that names the database."""
    return hint and re.sub(_ABOUT_RUNS, lambda found: f"{found[0]} {shlex.join(['--source', str(config)])}", hint)


def undo_run(run: str, source: object, dest: object, **options: bool) -> str:
    """Return the command that undoes a run, from one config to another. ``run`` is its id, or its undo plan."""
    return command_line("undo", run, source=source, dest=dest, **options)


def copy_line(source: Path, dest: Path) -> str:
    """Return the command of the system's that copies a file, its times and mode kept."""
    return shlex.join(["cp", "-p", str(source), str(dest)])


def old_names(config: Path) -> Iterator[Path]:
    """Yield the names that a config may be kept under: ``config.old.yaml``, ``config.old-2.yaml`` and so on.

    Those that are taken, and then the first free one.
    """
    for number in count(1):
        path = config.with_name(f"{config.stem}{_OLD}{f'-{number}' if number > 1 else ''}{config.suffix}")
        yield path
        if not path.exists():
            return


def old_name(config: Path) -> Path:
    """Return the name under which a config is kept when another takes its place: one that is free, or holds just it."""
    return next(path for path in old_names(config) if not path.exists() or _is_copy(path, config))


def _is_copy(path: Path, config: Path) -> bool:
    try:
        return path.read_bytes() == config.read_bytes()
    except OSError:
        return False
