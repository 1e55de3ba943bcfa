"""An engine that keeps no promise: it repeats messages, loses some, brings answers late, twice, and in any order."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from reconcile.engines import Message, Setup, task_of
from reconcile.errors import LostError


class Hostile:
    """Two workers in threads of this process. ``seed`` decides what goes wrong."""

    name = "tests.engines.hostile:Hostile"

    def __init__(self, setup: Setup, seed: int = 1) -> None:
        self._workers = [task_of(setup), task_of(setup)]
        self._pool = ThreadPoolExecutor(8)
        self._random = random.Random(seed)
        self._widths = iter([0, 3, 1, 8])
        self._width = 4
        self.done: list[str] = []

    def width(self) -> int:
        self._width = next(self._widths, self._width)
        return self._width

    def submit(self, message: Message) -> Future[Message]:
        answer: Future[Message] = Future()
        what = self._random.choice(["once", "twice", "late", "lost", "lost after all", "failed", "never"])
        self.done.append(what)
        self._pool.submit(self._carry, message, answer, what)
        return answer

    def _carry(self, message: Message, answer: Future[Message], what: str) -> None:
        if what == "never":
            return
        if what == "lost":
            answer.set_exception(LostError("its worker went away"))
            return
        if what == "late":
            time.sleep(1)
        again = threading.Thread(target=self._workers[1], args=(message,))
        if what == "twice":
            again.start()
        done = self._workers[0](message)
        if what == "twice":
            again.join()
        if what in ("failed", "lost after all"):  # the work is done and on record, and nobody hears of it
            answer.set_exception(LostError("its worker went away after all"))
        else:
            answer.set_result(done)

    def close(self) -> None:
        """Nothing more is done by it that was not begun; what was begun goes on."""
