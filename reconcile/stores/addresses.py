"""Where each driver puts a document, and how URLs are read: the rules, without any I/O on content.

Source: the vendor's drivers (object store reference, section 3). URLs are plain concatenation. We take
one apart by position, which is exact; the services use ``urllib.parse.urlparse``, which loses what it
takes for a query or a fragment, so `Address.services_can_read` asks it, rather than listing the cases.
"""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from attrs import define, field, frozen

from reconcile.stores import store_id

Document = tuple[str, str, str]  # userId, logical bucket, archiveId
Key = str | tuple[str, str, str]  # what names content inside a store

GIB = 1024**3

_PLAIN = re.compile(r"[A-Za-z0-9_.:/=+-]*")  # a path of these alone is parsed to itself, which saves the parsing
_PLAIN_HOST = re.compile(r"[a-z0-9_.-]+")


@frozen
class Location:
    """A store, by its identity, and a key in it. Equal locations hold the same bytes."""

    store: str
    key: Key


class Address(ABC):
    """One backend's rule: documents to URLs and keys, and URLs back to keys."""

    scheme: str
    identity: str
    max_size = 5 * GIB

    @property
    def head(self) -> str:
        """What every URL of content here begins with; other URLs may, too."""
        return f"{self.scheme}://"

    def url(self, document: Document) -> str:
        """Return the URL that the services write for the document."""
        return self.url_at(self.key(document))

    @abstractmethod
    def url_at(self, key: Key) -> str:
        """Return the URL of a key as the services spell it."""

    @abstractmethod
    def key(self, document: Document) -> Key:
        """Return the key that the services write the document at."""

    @abstractmethod
    def split(self, url: str, document: Document) -> list[Key]:
        """Return the keys that a URL can mean here; none if this backend does not own it."""

    @abstractmethod
    def services_can_read(self, document: Document) -> bool:
        """Tell whether the services would read the document back from the URL they wrote."""

    def problem(self, key: Key) -> tuple[str, str] | None:  # noqa: ARG002 - drivers override it
        """Return reason code and explanation if content cannot be at this key, else None."""
        return None

    def reading_problem(self, key: Key) -> tuple[str, str] | None:
        """Return reason code and explanation if content at this key cannot be read, else None."""
        return self.problem(key)

    def outside(self, url: str, document: Document) -> str | None:  # noqa: ARG002 - drivers override it
        """Return the bucket, container or data dir in which the driver finds content that this backend does not own."""
        return None

    def keys(self, url: str, document: Document) -> list[Key]:
        """Return the keys that the row's URL can mean: the columns' own key where the rule made the URL."""
        key = self.key(document)
        return [key] if url == self.url_at(key) else self.split(url, document)

    def plain_urls(self, bucket: str) -> Callable[[str, str], str] | None:
        """Return the function that makes the URL of userId and archiveId, for plain names in this logical bucket.

        Plain are letters, digits and ``_.-``, in an archiveId ``:=+`` too, and no ``.`` at the start. None where such
        documents could not be here, where the services could not read all of them, and where a URL's length in
        characters is not that in bytes.
        """
        document = ("user", bucket, "id")
        key = self.key(document)
        problem = self.problem(key) or self.reading_problem(key)
        if problem or not self.url(document).isascii() or not self.services_can_read(document):
            return None
        return self._url_maker(bucket)

    @abstractmethod
    def _url_maker(self, bucket: str) -> Callable[[str, str], str]:
        """Return a function that makes the same URLs as `url` of userId and archiveId, and quickly."""

    def location(self, key: Key) -> Location:
        """Return the location of a key in this store."""
        return Location(self.identity, key)


@define
class TableAddress(Address):
    """``db`` and ``db2``: ``scheme://user/bucket/archiveId``; the key is those three."""

    scheme: str
    identity: str
    max_size: int

    def url_at(self, key: Key) -> str:
        return f"{self.scheme}://{'/'.join(key)}"

    def key(self, document: Document) -> Key:
        return document

    def split(self, url: str, document: Document) -> list[Key]:  # noqa: ARG002
        head = f"{self.scheme}://"
        if not url.startswith(head):
            return []
        return list(_three_parts(url.removeprefix(head)))

    def services_can_read(self, document: Document) -> bool:
        parts = _urlparse(self.url(document))
        if parts is None:
            return False
        bucket, _slash, archive_id = parts.path.removeprefix("/").partition("/")
        return bool((parts.netloc, bucket, archive_id) == document)

    def _url_maker(self, bucket: str) -> Callable[[str, str], str]:
        return lambda user, archive_id: f"{self.scheme}://{user}/{bucket}/{archive_id}"


def _three_parts(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield every way to cut ``user/bucket/archiveId``; user and bucket may hold slashes of their own."""
    slashes = [index for index, character in enumerate(text) if character == "/"]
    for number, first in enumerate(slashes):
        for second in slashes[number + 1 :]:
            yield text[:first], text[first + 1 : second], text[second + 1 :]


@define
class ObjectAddress(Address):
    """``s3`` and ``swift``: ``scheme://container/{prefix}user/bucket/archiveId``; the key follows the container."""

    scheme: str
    identity: str
    container: str
    prefix: str = ""
    _longest: int = 1024  # bytes of UTF-8, for S3 keys and Swift names alike

    @property
    def head(self) -> str:
        return self.url_at(self.prefix)

    def url_at(self, key: Key) -> str:
        return f"{self.scheme}://{self.container}/{key}"

    def key(self, document: Document) -> str:
        return f"{self.prefix}{'/'.join(document)}"

    def split(self, url: str, document: Document) -> list[Key]:  # noqa: ARG002
        head = f"{self.scheme}://{self.container}/"
        key = url.removeprefix(head)
        return [key] if url.startswith(head + self.prefix) and key else []

    def outside(self, url: str, document: Document) -> str | None:  # noqa: ARG002
        scheme, _colon, rest = url.partition("://")
        container, _slash, key = rest.partition("/")
        is_read = scheme == self.scheme and key and _PLAIN_HOST.fullmatch(container)
        return container if is_read else None

    def services_can_read(self, document: Document) -> bool:
        if _PLAIN_HOST.fullmatch(self.container) and _PLAIN.fullmatch(self.key(document)):
            return True
        parts = _urlparse(self.url(document))
        if parts is None:
            return False
        return bool(parts.hostname == self.container and parts.path.removeprefix("/") == self.key(document))

    def _url_maker(self, bucket: str) -> Callable[[str, str], str]:
        head = self.head
        return lambda user, archive_id: f"{head}{user}/{bucket}/{archive_id}"

    def problem(self, key: Key) -> tuple[str, str] | None:
        length = len(str(key).encode())
        if length > self._longest:
            return ("key_too_long", f"the key has {length:,} bytes, the limit is {self._longest:,}")
        return None


@define
class SwiftAddress(ObjectAddress):
    """``swift``: an object store whose client, the services' too, takes ``.`` and ``..`` out of names.

    An older one did not: content under such a name can be read, see `reconcile.stores.swift_client`.
    """

    def problem(self, key: Key) -> tuple[str, str] | None:
        if {".", ".."} & set(str(key).split("/")):
            return ("name_altered", "python-swiftclient, which the services use, would use another name")
        return super().problem(key)

    def reading_problem(self, key: Key) -> tuple[str, str] | None:
        return super().problem(key)


@define
class FileAddress(Address):
    """``localfs``: ``file://{data dir}/{md5(user)}/{bucket}/{h[:2]}/{h}.json``; the key is the path below it."""

    data_dir: str
    scheme: str = "file"
    _identity: str | None = field(init=False, default=None)
    _unmade: str | None = field(init=False, default=None)
    _aliases: dict[str, bool] = field(init=False, factory=dict, repr=False)
    _foreign: set[str] = field(init=False, factory=set, repr=False)  # directories below no name of the data dir
    _longest_name: int = 255  # bytes, on every usual file system

    @property
    def identity(self) -> str:  # type: ignore[override]
        """Device and inode of the data dir; asked for again until there is one, since apply may make it."""
        if self._identity is None:
            if not os.path.exists(self.data_dir):  # noqa: PTH110 - asked for every document of a plan
                self._unmade = self._unmade or store_id.directory_identity(self.data_dir)
                return self._unmade
            self._identity = store_id.directory_identity(self.data_dir)
        return self._identity

    def url_at(self, key: Key) -> str:
        return "file://" + os.path.join(self.data_dir, str(key))  # noqa: PTH118 - the vendor's own join

    def key(self, document: Document) -> str:
        return _path_of(*document)

    def split(self, url: str, document: Document) -> list[Key]:  # noqa: ARG002
        if not url.startswith("file://"):
            return []
        path = url.removeprefix("file://")
        root = self.data_dir.rstrip("/") + "/"
        if path.startswith(root):
            return [_normal(path.removeprefix(root))]
        directory = os.path.dirname(path)  # noqa: PTH120
        if directory in self._foreign:
            return []
        for parent in Path(path).parents:
            if self._is_alias(str(parent)):
                return [path.removeprefix(str(parent)).lstrip("/")]
        self._foreign.add(directory)
        return []

    def _is_alias(self, directory: str) -> bool:
        """Tell whether this is the data dir by another name (a symlink, another spelling)."""
        if directory not in self._aliases:
            self._aliases[directory] = store_id.directory_identity(directory) == self.identity
        return self._aliases[directory]

    def outside(self, url: str, document: Document) -> str | None:
        path, end = url.removeprefix("file://"), f"/{self.key(document)}"
        data_dir = path.removesuffix(end)
        is_read = url.startswith("file:///") and path.endswith(end) and data_dir and _PLAIN.fullmatch(data_dir)
        return data_dir if is_read else None

    def services_can_read(self, document: Document) -> bool:
        url = self.url(document)
        if _PLAIN.fullmatch(url):
            return True
        parts = _urlparse(url)
        return parts is not None and "file://" + str(parts.path) == url

    def _url_maker(self, bucket: str) -> Callable[[str, str], str]:
        return lambda user, archive_id: self.url((user, bucket, archive_id))

    def problem(self, key: Key) -> tuple[str, str] | None:
        segments = str(key).split("/")
        if any(segment in ("", ".", "..") for segment in segments) or "\0" in str(key):
            return ("leaves_data_dir", f"the path {key!r} is not a plain path below the data dir")
        longest = max(len(segment.encode()) for segment in segments)
        if longest > self._longest_name:
            return ("key_too_long", f"a name in the path has {longest:,} bytes, the limit is {self._longest_name:,}")
        return None


@lru_cache(1 << 14)
def _path_of(user: str, bucket: str, archive_id: str) -> str:
    name = _hash(archive_id)
    return os.path.join(_hash(user), bucket, name[:2], f"{name}.json")  # noqa: PTH118 - the vendor's own join


def _normal(path: str) -> str:
    """Return a relative path without the spellings that mean nothing; one with ``..`` as it is."""
    return path if ".." in path.split("/") else os.path.normpath(path.lstrip("/"))


def _hash(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _urlparse(url: str) -> Any:  # noqa: ANN401 - ParseResult, or None where the services' parser raises
    try:
        parts = urlparse(url)
        _ = parts.hostname
    except ValueError:
        return None
    return parts
