"""Everything that can go wrong: one class, one kind of message, one exit code.

A message says what happened and to what; ``hint`` says what to type or do next. Neither may hold a
credential: what comes from a library is put through `reconcile.secret.scrub` where it is printed.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_DONE = 0
EXIT_CHANGES = 2
EXIT_INCOMPLETE = 3
EXIT_NOBODY = 14
EXIT_FAILED_ON = 15


class ReconcileError(Exception):
    """Base of every error that the tool raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(ReconcileError):
    """A config file that cannot be read, or that the services would refuse."""

    exit_code = 78


class UsageError(ReconcileError):
    """The command line asks for something impossible or contradictory."""

    exit_code = 64


class PlanFileError(ReconcileError):
    """A plan file that is missing, damaged, edited, or not for this database or config."""


class PlanLineError(PlanFileError):
    """A plan file with a line that no plan has: it would take the machine's memory to read it."""

    exit_code = 78


class CatalogError(ReconcileError):
    """The catalog's database is down, refuses us, or lacks a table or a privilege."""


class MissingPrivilegeError(CatalogError):
    """The role that we connect as lacks a privilege."""


class StandbyError(CatalogError):
    """The database is a read-only standby."""


class StageFailedError(ReconcileError):
    """Documents could not be staged, so nothing was switched (R2, R7)."""


class TooManyFailuresError(ReconcileError):
    """More documents failed than the operator allows; staging stopped early."""


class StaleError(ReconcileError):
    """The catalog has changed since the plan (R4)."""

    exit_code = 4


class UnconfirmedError(ReconcileError):
    """A store as a whole does not hold what it acknowledged."""

    exit_code = 5


class PlaceChangedError(ReconcileError):
    """A place, or the database, is not the one on record: another mount, another cluster, a copy, a restored one."""

    exit_code = 5


class VerificationError(ReconcileError):
    """Documents are missing, or are not what the catalog says."""

    exit_code = 5


class LockedError(ReconcileError):
    """Another run, or the vendor's own migration, holds the lock."""

    exit_code = 10


class SupersededError(LockedError):
    """Another process took this run over, or is undoing it; this one must stop."""


class ForeignOwnerError(LockedError):
    """A place belongs to a run that this database does not know."""


class ServicesRunningError(ReconcileError):
    """A service's heartbeat advances."""

    exit_code = 11


class BackendError(ReconcileError):
    """A backend fails as a whole: credentials, bucket, directory, connection. Stops the run."""


class DeniedError(BackendError):
    """The backend says that we may not: a privilege is missing, or the credentials are wrong."""


class MissingStoreError(BackendError):
    """The bucket, container or data dir is not there. ``made_by_apply``: the config asks for it to be made."""

    def __init__(self, message: str, *, hint: str | None = None, made_by_apply: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.made_by_apply = made_by_apply


class RedirectedError(BackendError):
    """The server sends its clients to another host. ``is_located``: the message names it."""

    def __init__(self, message: str, *, hint: str | None = None, is_located: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.is_located = is_located


class TransientError(BackendError):
    """A backend failed, perhaps temporarily: worth a retry, then treated as a `BackendError`.

    ``retry_after`` is the wait that the server asked for, in seconds, if it did. ``throttled``: it gets too many
    requests.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after: float | None = None, throttled: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        self.throttled = throttled


class LimitReachedError(ReconcileError):
    """A limit that the operator set ended the staging; work remains."""

    exit_code = 12


class DeclinedError(ReconcileError):
    """The person who was asked did not confirm."""

    exit_code = 13


class EngineError(ReconcileError):
    """The engine that distributes parts of a run fails: its scheduler is gone, its workers ended, or there are none."""


class LostError(EngineError):
    """A part was lost in transit or with its worker: another worker can do it."""


class BusyError(EngineError):
    """Another worker has claimed the part, and may still finish it."""


class MachineLimitError(ReconcileError):
    """The machine gives this process no more threads, memory or open files."""


class Interrupted(ReconcileError):  # noqa: N818 - not a failure: the operator asked for it
    """SIGINT or SIGTERM: the current batches were finished, the run can be resumed."""

    def __init__(self, signal_number: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.signal_number = signal_number

    @property
    def code(self) -> int:
        """The exit code a shell gives a process that the signal ended."""
        return 128 + self.signal_number


class DocumentError(Exception):
    """One document cannot be read, written or deleted. Returned by stores, never fatal to others.

    ``reason`` is a code from `reconcile.planning.model.REASONS`; ``detail`` is for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
