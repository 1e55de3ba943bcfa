"""An engine whose every part is done, and whose first answer for each is lost."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from reconcile.engines import Message, Setup, task_of
from reconcile.errors import LostError


class Forgetful:
    """One worker in threads of this process."""

    name = "tests.engines.forgetful:Forgetful"

    def __init__(self, setup: Setup) -> None:
        self._worker, self._pool = task_of(setup), ThreadPoolExecutor(4)
        self._seen: set[tuple[str, int]] = set()
        self.messages = 0

    def width(self) -> int:
        return 4

    def submit(self, message: Message) -> Future[Message]:
        self.messages += 1
        part = (message["task"], message["part"]["first"])
        is_first = part not in self._seen
        self._seen.add(part)
        return self._pool.submit(self._carry, message, is_first)

    def _carry(self, message: Message, is_first: bool) -> Message:
        answer = self._worker(message)
        if is_first:
            raise LostError("the answer was lost on its way")
        return answer

    def close(self) -> None:
        """Have nothing to let go of."""
