"""Secrets that do not print (R8), and a scrubber for text from elsewhere."""

from __future__ import annotations

from urllib.parse import quote, quote_plus, urlsplit, urlunsplit

MASK = "***"
_SHORTEST_SCRUBBED = 4  # shorter values would blank out ordinary words
_known: set[str] = set()


class Secret:
    """A value that prints as ``***``; `reveal` is the one way to it.

    It is remembered, so that `scrub` can take it out of a library's error message; a database URL is not, as a
    whole, since only its password is secret in a message, and that is remembered when the URL is taken apart.
    """

    __slots__ = ("_value",)

    def __init__(self, value: object, *, remembered: bool = True) -> None:
        self._value = value
        if remembered:
            remember(str(value))

    def reveal(self) -> object:
        """Return the value itself, for the library call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(("Secret", str(self._value)))


def remember(text: str) -> None:
    """Have `scrub` take out this text from now on, as it is and as URLs spell it."""
    if len(text) >= _SHORTEST_SCRUBBED:
        _known.update((text, quote(text), quote(text, safe=""), quote_plus(text)))


def scrub(text: str) -> str:
    """Return the text with every known secret replaced by ``***``."""
    for value in sorted(_known, key=len, reverse=True):
        if value in text:
            text = text.replace(value, MASK)
    return text


def without_userinfo(url: str) -> str:
    """Return the URL with ``user:password@`` masked.

    What cannot be parsed is masked whole, and so is all after ``://`` where an ``@`` stands elsewhere than before the
    host: a password that is not percent-encoded may reach that far.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    scheme, _mark, rest = url.partition("://")
    if "@" not in rest:
        return url
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at or rest.count("@") > 1:
        remember(rest)
        return f"{scheme}://{MASK}"
    for piece in userinfo.split(":", 1):
        remember(piece)
    return urlunsplit(parts._replace(netloc=f"{MASK}@{host}"))
