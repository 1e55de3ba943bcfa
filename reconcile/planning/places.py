"""The places of a plan: the backends of both configs by name, and those beside them that services read all the same."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from reconcile.config import Backend
from reconcile.stores import Address, address_of
from reconcile.stores.addresses import Document

_AT = "@"


@frozen
class Place:
    """One backend under the name that plans use for it."""

    name: str
    backend: Backend
    address: Address


class Places(dict[str, Place]):
    """The configured places by name; ``source.object_store@old-bucket`` is made when it is first asked for.

    The services find a document by its row's URL, not by the bucket, prefix or data dir that their config names today:
    what was written before one of those was changed is read with the credentials of now. Source: the vendor's drivers
    take bucket, container or path from the URL. Such a place has its name from the backend that reads it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._elsewhere: dict[str, Place] = {}

    def add(self, name: str, backend: Backend) -> None:
        """Add a configured place."""
        self[name] = Place(name, backend, address_of(backend))

    def __missing__(self, name: str) -> Place:
        configured, at, where = name.partition(_AT)
        if not at or configured not in self:
            raise KeyError(name)
        if name not in self._elsewhere:
            backend = self[configured].backend.at(where)
            self._elsewhere[name] = Place(name, backend, address_of(backend))
        return self._elsewhere[name]

    def beside(self, place: Place, url: str, document: Document) -> Place | None:
        """Return the place in which services with this backend find the URL's content, if they read it at all."""
        where = place.address.outside(url, document)
        return None if where is None else self[f"{place.name}{_AT}{where}"]

    def everywhere(self) -> Iterator[Place]:
        """Yield all places that were named so far."""
        yield from [*self.values(), *self._elsewhere.values()]


def is_elsewhere(name: str) -> bool:
    """Tell whether a place is none that a config names today."""
    return _AT in name


def role_of(name: str) -> str:
    """Return the section of the config by which a place is read, ``object_store``; or which of the catalog's tables."""
    return name.partition(".")[2].partition(_AT)[0]


def other_side(name: str) -> str:
    """Return what an undo calls a place: source and destination change sides, the catalog's tables have none."""
    side, _dot, role = name.partition(".")
    return {"source": "dest", "dest": "source"}.get(side, side) + "." + role
