"""Where each setting of a config comes from: the file itself, or which variable. Never a value."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import yaml
from attrs import frozen

from reconcile.config.text import Variables, references

IN_FILE = "file"
Place = tuple[str, ...]  # the keys that lead to a value
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, and quick: this is the second reading


@frozen
class Origins:
    """A config file once more, with a mark where each variable's value would be.

    ``marked`` is None where the file is no YAML without the values.
    """

    variables: Variables
    used: tuple[str, ...]
    marks: dict[str, str]
    marked: Any

    @classmethod
    def of(cls, raw: str, variables: Variables) -> Origins:
        """Read the text of a config file for its marks."""
        used = tuple(name for name in variables.values if f"${{{name}}}" in raw)
        marks = {name: f"mark{secrets.token_hex(8)}" for name in used}
        try:
            marked = yaml.load(Variables(marks).put_into(raw), Loader=_LOADER)  # noqa: S506 - a safe loader
        except Exception:  # noqa: BLE001 - as in `parse`
            marked = None
        return cls(variables, used, marks, marked)

    def at(self, place: Place) -> str:
        """Say where the value at a place comes from: ``file``, or each variable that it is made of."""
        found: Any = self.marked
        for key in (*place, None):
            if isinstance(found, str):
                break
            if not isinstance(found, dict) or (key is not None and key not in found):
                return self._named(self.used)  # the place itself was made by a variable's value
            found = found if key is None else found[key]
        return self._named(self._inside(found))

    def _inside(self, found: object) -> list[str]:
        text = repr(found)  # a list or mapping: all that is in it
        return [name for name in self.used if self.marks[name] in text]

    def _named(self, names: Iterable[str]) -> str:
        """Name variables, and those that their values name in turn."""
        named: dict[str, None] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop(0)
            if name not in named:
                named[name] = None
                waiting += [
                    inner for inner in references(self.variables.values[name]) if inner in self.variables.values
                ]
        return ", ".join(self.variables.origin(name) for name in named) or IN_FILE
