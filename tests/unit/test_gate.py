"""A server that throttles is sent fewer requests at once, and more again when it has served many."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from reconcile.stores.concurrency import Gate


def served(gate: Gate, requests: int) -> None:
    for _request in range(requests):
        with gate:
            pass


def test_no_more_are_inside_than_it_lets_through() -> None:
    gate, together = Gate(3), Barrier(3)
    with ThreadPoolExecutor(9) as pool:

        def inside(_number: int) -> int:
            with gate:
                together.wait(timeout=20)  # breaks unless three are inside
                return gate._inside

        assert max(pool.map(inside, range(9))) == 3


def test_it_narrows_once_a_second_and_never_shuts() -> None:
    now = [0.0]
    gate = Gate(8, lambda: now[0])
    gate.narrow()
    gate.narrow()  # the answer to a request that was under way
    assert gate.width == 4
    for _second in range(5):
        now[0] += 1
        gate.narrow()
    assert gate.width == 1
    served(gate, 1)


def test_it_widens_as_requests_are_served_but_not_beyond_what_it_was() -> None:
    gate = Gate(2)
    gate.narrow()
    served(gate, 49)
    assert gate.width == 1
    served(gate, 1)
    assert gate.width == 2
    served(gate, 500)
    assert gate.width == 2


def test_who_is_inside_may_pass_again() -> None:
    gate = Gate(1)
    with gate, gate:
        assert gate._inside == 1
    served(gate, 1)
