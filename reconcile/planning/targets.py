"""Lists of the documents that a plan covers (`plan --from-file`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from reconcile.errors import UsageError
from reconcile.logs import printable

MOST_LISTED = 10_000  # they are in the plan's header, and in each statement that looks at its scope
_PARTS = 3
_HINT = "one document a line, as user/bucket/archiveId, or a JSON array of such names"


def listed(path: Path) -> tuple[str, ...]:
    """Return the names of documents that a file lists, each once, as ``user/bucket/archiveId``.

    The file has one a line, where empty lines and those that begin with # do not count, or a JSON array of them; an
    item of that may be an object with ``userId`` (or ``user``), ``bucket`` and ``archiveId``. Raises `UsageError`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(f"{path}: the list cannot be read: {reason}; no plan was saved", hint=_HINT) from None
    names = dict.fromkeys(_of_json(path, text) if text.lstrip().startswith("[") else _of_lines(path, text))
    if not names:
        raise UsageError(f"{path}: the list names no document; no plan was saved", hint=_HINT)
    if len(names) > MOST_LISTED:
        raise UsageError(
            f"{path}: the list names {len(names):,} documents, the limit is {MOST_LISTED:,}; no plan was saved",
            hint="make several plans, or select by --bucket, --user, --larger-than or --older-than",
        )
    return tuple(names)


def _of_lines(path: Path, text: str) -> list[str]:
    lines = ((number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1))
    named = ((number, line) for number, line in lines if line.strip() and not line.startswith("#"))
    return [_checked(path, f"line {number}", line) for number, line in named]


def _of_json(path: Path, text: str) -> list[str]:
    try:
        items: list[Any] = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: the list is not JSON: {error}; no plan was saved", hint=_HINT) from None
    return [_checked(path, f"item {number}", _name(item)) for number, item in enumerate(items, 1)]


def _name(item: object) -> str:
    if not isinstance(item, dict):
        return str(item)
    parts = (item.get("userId", item.get("user")), item.get("bucket"), item.get("archiveId"))
    if any(isinstance(part, str) and "/" in part for part in parts[:2]):
        return ""  # which no name of a list can say
    return "/".join(part for part in parts if isinstance(part, str))


def _checked(path: Path, where: str, name: str) -> str:
    if len(name.split("/", _PARTS - 1)) != _PARTS or not all(name.split("/", _PARTS - 1)):
        said = printable(name[:80])
        raise UsageError(f"{path}, {where}: {said!r} is not the name of a document; no plan was saved", hint=_HINT)
    return name
