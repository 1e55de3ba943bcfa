"""Every verb of one store tried on a test object that collides with nothing, and everything taken away again.

The object's name is random and follows the backend's rule, so that it lies where a document would: in a data dir
below a folder of 32 hex digits, as the services demand.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

from attrs import define, field, frozen

from reconcile.auditing.measured import Rates, measure
from reconcile.control import Control
from reconcile.errors import (
    DeniedError,
    DocumentError,
    Interrupted,
    MissingPrivilegeError,
    MissingStoreError,
    ReconcileError,
)
from reconcile.logs import get_logger
from reconcile.payload import md5
from reconcile.secret import scrub
from reconcile.stores import Content, Known, Stat, Store, Transfer, Write
from reconcile.stores.addresses import Key

_LISTED_WITHIN = 5  # seconds that a listing may lag
_VERBS = {
    "confirm": "look",
    "copy": "write",
    "replace": "write",
    "list": "listing",
    "gone": "look",
}  # of steps called otherwise

log = get_logger()


@frozen
class Step:
    """What came of one step. ``right`` is what a refused step needs to be allowed."""

    name: str
    ok: bool
    seconds: float
    detail: str | None = None
    right: str | None = None


@define
class Trial:
    """The trial of one store. ``made``: what was missing, and made because the config asks for it.

    ``refuses_taken_keys`` and ``copied``, by itself, are None where it was not tried.
    """

    store: Store
    control: Control
    steps: list[Step] = field(factory=list)
    made: str | None = None
    refuses_taken_keys: bool | None = None
    copied: bool | None = None
    rates: Rates | None = None
    _token: str = field(factory=lambda: secrets.token_hex(16))
    _laid: list[Key] = field(factory=list)
    _is_written: bool = False

    @property
    def ok(self) -> bool:
        """Whether every step succeeded."""
        return all(step.ok for step in self.steps)

    def run(self) -> None:
        """Take every step that those before it allow. Leaves nothing behind, also when it is interrupted."""
        try:
            if self._step("prepare", self._prepare) and self._step("look", self._look):
                self._judge_expiry()
                self._is_written = self._step("write", self._write)
                if self._is_written:
                    self._step("confirm", self._confirm)
                    self._step("read", self._read)
                    if self.store.shortcut_from(self.store) is not None:
                        self._step("copy", self._copy)
                    self._step("replace", self._replace)
                self._step("list", self._list)
                if self._is_written and self._step("delete", self._delete):
                    self._step("gone", self._gone)
                if self.ok:
                    self._step("rates", self._measure)
        finally:
            self._take_away()

    def _judge_expiry(self) -> None:
        """Add a step that failed where the server would delete documents by itself."""
        begun = time.monotonic()
        try:
            said = self.store.expiry()
        except ReconcileError as error:
            said = _said(error)
        if said is not None:
            self.steps.append(Step("keep", False, round(time.monotonic() - begun, 4), said))

    def _step(self, name: str, verb: Callable[[], str | None]) -> bool:
        """Take a step; return whether it succeeded."""
        if self.control.signal is not None:
            raise Interrupted(self.control.signal, "interrupted: what was tried is taken away again")
        self.control.progress.step(f"checking {self.store.address.identity}: {name}")
        begun = time.monotonic()
        detail, right, ok = None, None, True
        try:
            detail = verb()
        except (DocumentError, ReconcileError) as error:
            detail, right, ok = _said(error), self._right(name, error), False
        self.steps.append(Step(name, ok, round(time.monotonic() - begun, 4), detail, right))
        return ok

    def _right(self, name: str, error: Exception) -> str | None:
        is_refusal = isinstance(error, DocumentError) and error.reason == "refused"
        if is_refusal or isinstance(error, DeniedError | MissingPrivilegeError):
            return self.store.rights().get(_VERBS.get(name, name))
        return None

    @property
    def _key(self) -> Key:
        return self._named("object")

    def _named(self, name: str) -> Key:
        return self.store.address.key((f"reconcile-check-{self._token}", "reconcile_check", name))

    @property
    def _data(self) -> bytes:
        return f'{{"reconcile": "check", "token": "{self._token}"}}'.encode()

    def _prepare(self) -> str | None:
        try:
            self.store.prepare(create=False)
        except MissingStoreError as error:
            self.store.prepare(create=True)
            self.made = error.message.replace(" is not there", " was not there, and is made now")
            return self.made
        self.store.prepare(create=True)  # makes nothing: what is there must be such that it can be written to
        return None

    def _look(self) -> None:
        if self._key in self.store.look([self._key]):
            raise DocumentError("destination_occupied", "something is at a random name: the server makes it up")

    def _write(self) -> None:
        self._laid.append(self._key)
        _stat_of(self.store.write([Write(self._key, self._data, md5(self._data))])[self._key])

    def _confirm(self) -> str:
        stat = self.store.look([self._key], digest=True).get(self._key)
        if stat is None or stat.md5 != md5(self._data) or stat.size != len(self._data):
            raise DocumentError("not_confirmed", "the store does not tell size and MD5 of what was written")
        return f"by {self.store.capabilities().confirmation}"

    def _read(self) -> None:
        content = self.store.read([self._key])[self._key]
        if not isinstance(content, Content):
            raise content
        if content.data != self._data:
            raise DocumentError("not_confirmed", "it does not read back as it was written")

    def _copy(self) -> str:
        """Have the server copy the object by itself; one that does not is read from and written to."""
        shortcut = self.store.shortcut_from(self.store)
        assert shortcut is not None  # noqa: S101 - else it is not tried
        copy = self._named("copy")
        self._laid.append(copy)
        answer = shortcut.copy([Transfer(self._key, copy, md5(self._data))]).get(copy)
        if isinstance(answer, DocumentError):
            raise answer
        self.copied = answer is not None
        return "by the store itself" if self.copied else "the store does not: documents are read and written"

    def _replace(self) -> str:
        """Try to write other content to the same key: a store that lets it happen is looked at before each write."""
        other = self._data[::-1]
        answer = self.store.write([Write(self._key, other, md5(other))])[self._key]
        if isinstance(answer, DocumentError) and answer.reason != "destination_occupied":
            raise answer
        self.refuses_taken_keys = isinstance(answer, DocumentError)
        return "refused, as it should be" if self.refuses_taken_keys else "replaced: each key is looked at beforehand"

    def _list(self) -> str | None:
        deadline = time.monotonic() + _LISTED_WITHIN
        while not self.store.is_listed(self._key):
            if not self._is_written:
                return "a listing is given; there is nothing to be seen in it"
            if time.monotonic() > deadline:
                return f"not in the listing after {_LISTED_WITHIN} s: what it does not show is asked for by name"
            time.sleep(0.5)
        return None

    def _delete(self) -> None:
        self._remove(self._laid)
        self._laid.clear()

    def _gone(self) -> None:
        if self._key in self.store.look([self._key]):
            raise DocumentError("not_confirmed", "it is there still after it was deleted")

    def _measure(self) -> None:
        self.rates = measure(self.store, self._token, self._laid)
        self._laid.clear()

    def _remove(self, keys: Sequence[Key]) -> None:
        """Delete what is at these keys, whatever became of the writes. Raises `DocumentError`."""
        present = self.store.look(keys, digest=True)
        known = [Known(key, stat.version or "") for key, stat in present.items()]
        for error in self.store.delete(known).values() if known else ():
            if error is not None:
                raise error

    def _take_away(self) -> None:
        """Leave nothing behind; what cannot be removed is named, in the report and in the log."""
        if not self._laid:
            return
        begun = time.monotonic()
        try:
            self.store.remove_temporaries(self._laid)
            self._remove(self._laid)
        except (DocumentError, ReconcileError) as error:
            left = ", ".join(self.store.address.url_at(key) for key in self._laid[:3])
            detail = f"{_said(error)}; LEFT BEHIND, delete it by hand: {left}" + (" ..." if len(self._laid) > 3 else "")  # noqa: PLR2004
            log.error("test objects left behind", objects=left, reason=_said(error))  # noqa: TRY400 - it is said
            self.steps.append(
                Step("clean", False, round(time.monotonic() - begun, 4), detail, self._right("delete", error))
            )


def _stat_of(answer: Stat | DocumentError) -> Stat:
    if isinstance(answer, DocumentError):
        raise answer
    return answer


def _said(error: Exception) -> str:
    """Return what went wrong, without credentials."""
    if isinstance(error, DocumentError):
        return scrub(error.detail)
    hint = f"; {error.hint}" if isinstance(error, MissingStoreError) and error.hint else ""
    return scrub(getattr(error, "message", str(error)) + hint)
