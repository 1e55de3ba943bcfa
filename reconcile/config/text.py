"""The text of a config file: variables are put in as the services put them in, then it is parsed.

Source of the rules: the vendor's ``read_config`` (object store reference, section 5). Nothing that a parser says is
ever shown: it quotes the text around the place, which may be a credential.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import yaml
from attrs import frozen

from reconcile.errors import ConfigError
from reconcile.logs import get_logger

_MOST_VALUES = 100_000
_PREFIX = "ANCHORE"
_QUOTES = "'\""
_REFERENCE = re.compile(r"\$\{(" + _PREFIX + r"[^{}]*)\}")


@frozen
class Variables:
    """What ``${NAME}`` stands for: names and values in the order in which the services replace them.

    ``env_file`` is the file that ``ANCHORE_ENV_FILE`` names, ``from_file`` are the names that only it gives,
    ``mounted`` those whose values are in files of their own.
    """

    values: dict[str, str]
    env_file: str = ""
    from_file: frozenset[str] = frozenset()
    mounted: frozenset[str] = frozenset()

    @classmethod
    def gather(cls, text: str) -> Variables:
        """Return the variables of the file that ``ANCHORE_ENV_FILE`` names and of the environment, which wins.

        Where ``text`` refers to ``${NAME}``, which is not set, and ``NAME_FILE`` is, that file holds the value: a
        secret that is mounted. The services do not know this; it spares an environment with secrets in it. Raises
        `ConfigError` for a file that is there and cannot be read.
        """
        env_file = os.environ.get("ANCHORE_ENV_FILE", "")
        filed = dict(_assignments(Path(env_file))) if env_file else {}
        given = {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}
        values = filed | given
        names = {name: f"{name}_FILE" for name in _REFERENCE.findall(text) if name not in values}
        files = {name: Path(values[file]) for name, file in names.items() if file in values}
        mounted = {name: read_secret(file) for name, file in files.items() if file.exists()}
        return cls(values | mounted, env_file, frozenset(filed) - frozenset(given), frozenset(mounted))

    def put_into(self, text: str) -> str:
        """Return the text with each variable replaced, one after the other: a value may name a later one."""
        for name, value in self.values.items():
            text = text.replace(f"${{{name}}}", value)
        return text

    def origin(self, name: str) -> str:
        """Say where a variable's value comes from."""
        if name in self.mounted:
            return f"variable {name}_FILE"
        return f"variable {name} of {self.env_file}" if name in self.from_file else f"variable {name}"


def _assignments(path: Path) -> Iterator[tuple[str, str]]:
    """Yield names and values of an env file: the services' own lines, and ``export`` lines as a shell reads them."""
    if not os.path.exists(path):  # noqa: PTH110 - the services' own question: what cannot be reached is not there
        _say_missing(path)
        return
    for line in read_text(path).splitlines():
        for assignment in _exported(line) or [_unquoted(line)]:
            name, equals, value = assignment.partition("=")
            if equals and name.startswith(_PREFIX):
                yield name, value


@lru_cache  # once: the variables are gathered for each new connection to the database, too
def _say_missing(path: Path) -> None:
    get_logger().warning("ANCHORE_ENV_FILE names a file that does not exist; it is ignored", file=str(path))


def _exported(line: str) -> list[str]:
    """Return the assignments of a line that a shell is to source; none if it is no such line."""
    if not line.lstrip().startswith("export "):
        return []
    try:
        return shlex.split(line)[1:]
    except ValueError:  # a quote that is not closed
        return [_unquoted(line.lstrip().removeprefix("export ").lstrip())]


def _unquoted(line: str) -> str:
    """Return a line ``NAME=value`` without the quotes at both ends of the value. Nothing else is stripped."""
    name, equals, value = line.partition("=")
    return f"{name}{equals}{value.strip(_QUOTES)}"


def read_text(path: Path) -> str:
    """Return what a text file holds. Raises `ConfigError`."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such config file",
            hint="give the services' config.yaml, or a copy with the desired object store",
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}",
            hint="give the services' config.yaml, and run as a user who may read it",
        ) from None


def read_secret(path: Path) -> str:
    """Return what a file of one secret holds, without the end of its line. Raises `ConfigError`."""
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(
            f"{path}: the file of a secret cannot be read: {reason}",
            hint="check that the secret is mounted there and readable",
        ) from None


def parse(path: Path, raw: str, variables: Variables) -> dict[str, Any]:
    """Return the parsed document of a config file's text. It is shared: do not change it.

    Raises `ConfigError` with the place, and never with a word of the parser's.
    """
    text = variables.put_into(raw)
    try:
        document = _loaded(text)
    except yaml.MarkedYAMLError as error:
        _refuse(path, raw, variables, error.problem_mark)
    except Exception as error:  # noqa: BLE001 - the parser lets through what int() and the like raise
        raise ConfigError(f"{path}: not YAML: {type(error).__name__}") from None
    if not _is_bounded(document):
        raise ConfigError(f"{path}: its anchors and aliases expand to more than {_MOST_VALUES:,} values")
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: the file holds {kind(document)}, expected a mapping with 'services'")
    return document


@lru_cache(maxsize=4)  # the database's part is read again for each new connection
def _loaded(text: str) -> Any:  # noqa: ANN401
    return yaml.safe_load(text)


def _refuse(path: Path, raw: str, variables: Variables, mark: yaml.Mark | None) -> NoReturn:
    """Raise `ConfigError` for text that is no YAML: the place, and the variables that stand there."""
    place, hint = "", "correct the file there, then run the same command again"
    if mark:
        place = f", line {mark.line + 1}, column {mark.column + 1}"
        lines = raw.splitlines()
        line = lines[mark.line] if mark.line < len(lines) else ""
        names = [name for name in references(line) if name in variables.values]
        if names:
            hint = (
                f"the value of {names[0]} has characters with a meaning in YAML: quote it in the file, as "
                f"'${{{names[0]}}}'; the services cannot read it either"
            )
    raise ConfigError(f"{path}: not YAML{place}", hint=hint)


def _is_bounded(document: object) -> bool:
    """Tell whether a document is of a size that a config has, each alias taken for what it stands for.

    Aliases of aliases grow exponentially, and one of itself is endless, though the parser shares what they stand for.
    """
    sizes: dict[int, float] = {}

    def size(value: object) -> float:
        if not isinstance(value, (dict, list)):
            return 1
        if id(value) not in sizes:
            sizes[id(value)] = float("inf")  # met again while it is being counted: it holds itself
            inner = [*value, *value.values()] if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(map(size, inner))
        return sizes[id(value)]

    return size(document) <= _MOST_VALUES


def references(value: object) -> list[str]:
    """Return the variables that a value of a document still names: they are not set."""
    if isinstance(value, str):
        return _REFERENCE.findall(value)
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return [name for part in value for name in references(part)] if isinstance(value, list) else []


def require_set(place: str, value: object) -> None:
    """Raise `ConfigError` for a value that is read, and names a variable that is not set."""
    missing = references(value)
    if missing:
        is_one = len(missing) == 1
        file = os.environ.get(f"{missing[0]}_FILE")
        names = f"environment variable{'' if is_one else 's'} {', '.join(missing)} {'is' if is_one else 'are'}"
        raise ConfigError(
            f"{place}: {names} not set, but this value refers to {'it' if is_one else 'them'}",
            hint=f"{file}, which {missing[0]}_FILE names, does not exist: check that the secret is mounted"
            if file
            else f"export {missing[0]}=..., or {missing[0]}_FILE=FILE with a file that holds it; or set "
            "ANCHORE_ENV_FILE to a file of NAME=value lines",
        )


def kind(value: object) -> str:
    """Say what a value of a document is, without showing it."""
    names = {"NoneType": "nothing", "dict": "a mapping", "list": "a list", "str": "text"}
    name = type(value).__name__
    return names.get(name, f"a {name}")
