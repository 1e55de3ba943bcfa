"""What one command may stage, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from reconcile.control import Control, RateLimit, in_parallel
from reconcile.errors import Interrupted
from reconcile.running.phases.budget import Budget
from reconcile.running.record.parts import Outline, by_size


def outline(seq: int, size: int | None = 10, document: str | None = None) -> Outline:
    return Outline(seq, ("u", "b", document or str(seq)), size)


def spent(budget: Budget, *sizes: int | None) -> list[int]:
    batches = ([outline(number, size)] for number, size in enumerate(sizes))
    return [one.seq for batch in budget.spend(batches) for one in batch]


def test_without_a_limit_everything_is_spent() -> None:
    budget = Budget()
    assert spent(budget, 1, None, 3) == [0, 1, 2]
    assert budget.reached is None


def test_documents_and_bytes() -> None:
    budget = Budget(documents=2)
    assert spent(budget, 1, 1, 1) == [0, 1]
    assert budget.reached == "--limit"
    budget = Budget(size=25)
    assert spent(budget, 10, 15, 1) == [0, 1]
    assert budget.reached == "--max-bytes"
    assert spent(Budget(size=5), 10, 1) == [0]  # one document is always possible


def test_a_limit_that_is_just_enough_is_not_reached() -> None:
    budget = Budget(documents=3)
    assert spent(budget, 1, 1, 1) == [0, 1, 2]
    assert budget.reached is None


def test_time() -> None:
    now = [0.0]
    budget = Budget(until=5, clock=lambda: now[0])

    begun = list[int]()
    for part in budget.in_time(by_size(budget.spend([[outline(number) for number in range(9)]]), 1, 1000)):
        begun.append(part.first)
        now[0] += 2
    assert begun == [0, 1, 2]  # though all were read before the first began
    assert budget.reached == "its time limit"
    assert not list(budget.in_time([]))


def test_a_time_that_is_just_enough_is_not_reached() -> None:
    budget = Budget(until=5, clock=lambda: 4.0)
    assert list(budget.in_time("abc")) == ["a", "b", "c"]
    assert budget.reached is None


def test_rows_of_one_document_stay_together() -> None:
    batch = [outline(0, document="a"), outline(1, document="a"), outline(2, document="b")]
    assert [one.seq for part in Budget(documents=1).spend([batch]) for one in part] == [0, 1]


def test_parts_are_cut_by_the_memory_that_their_documents_take() -> None:
    batch = [outline(0, 40, "a"), outline(1, 40, "a"), outline(2, 30), outline(4, None), outline(5, 10)]
    parts = list(by_size([batch], 250, 70))
    assert [(part.first, part.last, part.documents) for part in parts] == [(0, 1, 2), (2, 2, 1), (4, 4, 1), (5, 5, 1)]
    assert [part.size for part in parts] == [80, 30, 1 << 20, 10]


def test_parts_are_as_large_as_they_may_be_whatever_pages_their_rows_come_in() -> None:
    """But for the rows of one document, which stay together."""
    pages = [[outline(n, 10) for n in (0, 1, 2)], [outline(3, 10), outline(4, 10, "a")], [outline(5, 10, "a")]]
    assert [(part.first, part.last) for part in by_size(pages, 2, 1000)] == [(0, 1), (2, 3), (4, 5)]
    assert [(part.first, part.last) for part in by_size(pages, 250, 40)] == [(0, 3), (4, 5)]
    assert [(part.first, part.last) for part in by_size(pages, 5, 1000)] == [(0, 5)]
    assert not list(by_size([], 2, 40))


def test_a_pace_lets_so_many_documents_a_second_begin() -> None:
    now, slept = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    limit = RateLimit(10, lambda: now[0], sleep)
    assert limit.batch(250) == 10
    begun = list[float]()
    for batch in ([1] * 10, [1] * 5, [1] * 10):
        limit.hold(batch, lambda: None)
        begun.append(now[0])
    assert begun == pytest.approx([100, 101, 101.5])
    assert max(slept) <= 0.2
    now[0] += 60  # a slow batch earns no haste
    limit.wait(10, lambda: None)
    before = now[0]
    limit.wait(10, lambda: None)
    assert now[0] - before == pytest.approx(1)


def test_what_is_done_is_reported_while_the_next_batch_is_held_back() -> None:
    """A bar stood still for eight batches under --max-rate, and then jumped."""
    done = list[int]()

    def hold(batch: list[int], attend: Callable[[], None]) -> None:
        for _attempt in range(3000):
            if len(done) == batch[0]:
                return
            attend()
            time.sleep(0.01)
        raise AssertionError(done)

    in_parallel(Control(), 4, ([number] for number in range(5)), lambda batch: batch[0], done.append, hold)
    assert done == [0, 1, 2, 3, 4]


def test_a_signal_ends_the_waiting() -> None:
    control, limit = Control(), RateLimit(0.001)
    limit.wait(1, control.check)
    control.signal = 2
    with pytest.raises(Interrupted):
        limit.wait(1, control.check)


def test_without_a_rate_nothing_waits() -> None:
    limit = RateLimit(None, sleep=lambda _seconds: pytest.fail("waited"))
    assert limit.batch(250) == 250
    limit.wait(10**9, lambda: None)
