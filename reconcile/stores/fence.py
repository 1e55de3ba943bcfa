"""The fence around deletes: a process that deletes must still be the executor at that very moment.

A process that was stopped for an hour, or whose request waits in a load balancer, must not delete what another process
has made the last copy meanwhile. How close the check comes to the delete depends on the kind of store; `base` says
what each promises. A store without a run, such as that of a trial object, is not fenced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from sqlalchemy.engine import Connection

from reconcile.stores.addresses import Address, Key


class Fence(Protocol):
    """What a store asks before it deletes. Every method raises `SupersededError` for an executor that was replaced."""

    @property
    def folder(self) -> str | None:
        """The name, hex, of the directory that this process takes files aside to; None where there is no run."""

    def check(self) -> None:
        """Ask the database whether this executor is still the one."""

    def check_recent(self) -> None:
        """Ask only if the last answer is some seconds old, by a clock that runs while this process is stopped."""

    def guard(self, connection: Connection) -> None:
        """Check within a transaction of the catalog's database, and keep it true until that ends."""

    def lives(self, address: Address, seconds: int) -> None:
        """Record that a request sent from now on may take effect so much later."""

    def unanswered(self, address: Address, keys: Sequence[Key]) -> None:
        """Record that a request to delete these keys was sent and never answered."""

    @contextmanager
    def pending(self, address: Address, keys: Sequence[Key]) -> Iterator[None]:  # noqa: ARG002
        """Record, for the block, that a request to delete these keys may still arrive."""
        yield


class Unfenced:
    """No run: no other process deletes here, and none relies on what is deleted."""

    folder: str | None = None

    def check(self) -> None:
        """Do nothing."""

    def check_recent(self) -> None:
        """Do nothing."""

    def guard(self, connection: Connection) -> None:
        """Do nothing."""

    def lives(self, address: Address, seconds: int) -> None:
        """Do nothing."""

    def unanswered(self, address: Address, keys: Sequence[Key]) -> None:
        """Do nothing."""

    @contextmanager
    def pending(self, address: Address, keys: Sequence[Key]) -> Iterator[None]:  # noqa: ARG002
        """Do nothing."""
        yield
