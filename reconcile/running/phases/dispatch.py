"""Dispatch: parts are given to whoever does them, so many at once, until something came of each.

Who does them may be threads of this process, or workers elsewhere that an engine carries the parts to. A part that was
lost is given again; what comes back twice counts once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from attrs import define, field

from reconcile.control import Control
from reconcile.errors import BusyError, EngineError, LostError
from reconcile.limits import Threads
from reconcile.logs import get_logger
from reconcile.running.record.parts import Part

_FIRST_PARTS = 4  # in hand before anything came back: a store that takes nothing is found out by few
_ATTEMPTS = 3  # that a part gets, of those that its worker is lost with
_REMINDERS = 20  # that a part is given again because nobody seems to work on it
_BUSY_SECONDS = 2.0  # before a part is given again that another worker had in hand
_LOOK_SECONDS = 10.0  # between two looks for parts that are overdue
_NOBODY_SECONDS = 60.0  # without any worker

R = TypeVar("R")

log = get_logger()


class Carrier(Protocol[R]):
    """Has parts done. ``patience`` is how many seconds those in hand are waited for at an early end; None: all."""

    patience: float | None

    def width(self) -> int:
        """Return how many parts are done at once now."""

    def submit(self, part: Part) -> Future[R]:
        """Have a part done. The future raises `LostError` if another attempt may help."""

    def overdue(self, given: Mapping[int, float], quiet: float) -> set[int]:
        """Return those parts that nobody seems to work on.

        ``given``: seconds since each was given, by first number; ``quiet``: since any came back.
        """

    def check(self) -> None:
        """Raise if this process does not lead the run any more: then it is no wonder that parts are lost."""

    def name_of(self, part: Part) -> str:
        """Return a part's documents in words."""


@define
class Threaded(Generic[R]):
    """Has parts done by threads of this process."""

    patience: float | None = field(init=False, default=None)
    _width: int
    _work: Callable[[Part], R]
    _pool: Threads

    def width(self) -> int:
        """Return how many threads there are to be."""
        return self._width

    def submit(self, part: Part) -> Future[R]:
        """Have a part done by a thread."""
        return self._pool.submit(self._work, part)

    def overdue(self, given: Mapping[int, float], quiet: float) -> set[int]:  # noqa: ARG002 - threads lose nothing
        """Return nothing."""
        return set()

    def check(self) -> None:
        """Do nothing: the lock is watched by whoever waits."""

    def name_of(self, part: Part) -> str:
        """Return how many documents it has: no thread ends alone."""
        return f"{part.documents} documents"


@contextmanager
def threaded(width: int, work: Callable[[Part], R]) -> Iterator[Threaded[R]]:
    """Have threads for the block."""
    with Threads(width, thread_name_prefix="reconcile") as pool:
        yield Threaded(width, work, pool)


@define
class Dispatch(Generic[R]):
    """Gives parts to a carrier. ``hold`` may hold one back; what it is given is to be called meanwhile.

    ``state_now`` is what state things are in where it ends early, for messages.
    """

    control: Control
    carrier: Carrier[R]
    report: Callable[[Part, R], None]
    hold: Callable[[Part, Callable[[], None]], None] = lambda _part, _attend: None
    state_now: str = "nothing was switched; what is staged stays so, and the same command resumes"
    _in_hand: dict[Future[R], Part] = field(factory=dict)
    _later: dict[int, tuple[float, Part]] = field(factory=dict)  # when to give them again, by first number
    _given: dict[int, float] = field(factory=dict)  # when, by first number
    _lost: Counter[int] = field(factory=Counter)
    _reminders: Counter[int] = field(factory=Counter)
    _has_worked: bool = False
    _looked_at: float = field(factory=time.monotonic)
    _came_at: float = field(factory=time.monotonic)
    _nobody_since: float | None = None

    def run(self, parts: Iterable[Part]) -> None:
        """Have all parts done.

        The first error, of a part or of ``control``, ends it: those in hand are waited for and reported, no more are
        given, and the error is raised.
        """
        try:
            for part in parts:
                self._attend()
                self.hold(part, self._attend)
                while len(self._in_hand) + len(self._later) >= self._most():
                    self._wait()
                self._give(part)
            while self._in_hand or self._later:
                self._most()
                self._wait()
        except BaseException:
            self._end()
            raise

    def _attend(self) -> None:
        self.control.check()
        self._take_in(0)

    def _wait(self) -> None:
        self.control.check()
        self._take_in(0.5)
        now = time.monotonic()
        for first in [first for first, (at, _part) in self._later.items() if at <= now]:
            self._give(self._later.pop(first)[1])
        if now - self._looked_at > _LOOK_SECONDS:
            self._look()

    def _most(self) -> int:
        """Return how many parts may be in hand: few until the stores are seen to work, and never many more than width.

        Raises `EngineError` if there was no worker for a while.
        """
        width = self.carrier.width()
        if width == 0:
            self._nobody_since = self._nobody_since or time.monotonic()
            if time.monotonic() - self._nobody_since > _NOBODY_SECONDS:
                raise EngineError(
                    f"there has been no worker for {_NOBODY_SECONDS:.0f} s; {self.state_now}",
                    hint="start workers (reconcile worker), then run the same command again",
                )
        else:
            self._nobody_since = None
        return 2 * width if self._has_worked else min(_FIRST_PARTS, 2 * width)

    def _give(self, part: Part) -> None:
        self._in_hand[self.carrier.submit(part)] = part
        self._given[part.first] = time.monotonic()

    def _take_in(self, seconds: float) -> None:
        """Wait for a part, report those that came back, and give again what was lost."""
        if not self._in_hand:
            time.sleep(seconds)
        finished, _unfinished = wait(self._in_hand, timeout=seconds, return_when=FIRST_COMPLETED)
        error: BaseException | None = None
        for future in finished:
            part = self._in_hand.pop(future, None)  # None: it came back already, by another attempt
            failure = future.exception()
            if part is None:
                continue
            if failure is None:
                self._came_at, self._has_worked = time.monotonic(), True
                self._forget(part)
                self.report(part, future.result())
            elif isinstance(failure, BusyError):
                if not self._is_in_hand(part):
                    self._later[part.first] = (time.monotonic() + _BUSY_SECONDS, part)
            elif isinstance(failure, LostError):
                self._give_again(part, failure)
            else:
                error = error or failure
        if error is not None:
            raise error

    def _is_in_hand(self, part: Part) -> bool:
        """Tell whether another attempt at a part is under way, or is to be made."""
        return part.first in self._later or any(other.first == part.first for other in self._in_hand.values())

    def _forget(self, part: Part) -> None:
        """Have nothing more to do with a part that was done: other attempts at it find nothing to do."""
        for known in (self._given, self._lost, self._reminders, self._later):
            known.pop(part.first, None)
        for other in [other for other, its in self._in_hand.items() if its.first == part.first]:
            del self._in_hand[other]

    def _give_again(self, part: Part, why: LostError) -> None:
        self.carrier.check()
        self._lost[part.first] += 1
        if self._lost[part.first] >= _ATTEMPTS:
            raise EngineError(
                f"{_ATTEMPTS} workers in a row were lost with the same part, {self.carrier.name_of(part)}; the last:"
                f" {why.message}; {self.state_now}",
                hint="the log of the workers says more; then run the same command again",
            )
        log.warning("a part is given to another worker", documents=part.documents, reason=why.message)
        if not self._is_in_hand(part):
            self._give(part)

    def _look(self) -> None:
        """Give again what nobody works on: a worker was stopped, or an engine lost it."""
        now = self._looked_at = time.monotonic()
        given = {first: now - at for first, at in self._given.items()}
        overdue = self.carrier.overdue(given, now - self._came_at)
        for part in {part.first: part for part in self._in_hand.values() if part.first in overdue}.values():
            self._reminders[part.first] += 1
            if self._reminders[part.first] > _REMINDERS:
                raise EngineError(
                    f"{_REMINDERS} times nobody did a part that was given out, {self.carrier.name_of(part)};"
                    f" {self.state_now}",
                    hint="see whether the workers are stopped; then run the same command again",
                )
            log.warning("a part is overdue: it is given to another worker", documents=part.documents)
            self._give(part)

    def _end(self) -> None:
        """Give nothing more; wait for what is in hand, and report it."""
        for future in self._in_hand:
            future.cancel()
        finished, _unfinished = wait(self._in_hand, timeout=self.carrier.patience)
        for future in finished:
            part = self._in_hand.pop(future, None)
            if part is not None and not future.cancelled() and future.exception() is None:
                self._forget(part)
                self.report(part, future.result())
