"""Trying again: how often, after which errors, what is logged, and what is let go of."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
import structlog

from reconcile.errors import DocumentError, TransientError
from reconcile.logs import configure
from reconcile.retries import try_again
from reconcile.stores import open_store
from reconcile.stores.per_object import DocumentStore
from tests.contract.conftest import make_backend


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    stamina.set_testing(True, attempts=5, cap=True)
    yield
    stamina.set_testing(False)
    configure("error")


def attempts_of(call: Callable[[], Any], attempts: int = 5) -> Any:
    """Try a call again after a first attempt that failed."""
    return try_again(
        TransientError("the first"),
        call,
        on=lambda error: isinstance(error, TransientError),
        attempts=attempts,
        seconds=45,
        first_pause=0.1,
        jitter=0.3,
    )


class Server:
    """Fails so many times, in one way or another, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.asked = list(errors), 0

    def __call__(self) -> str:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answered"


def test_it_is_asked_again_until_it_answers_and_each_time_is_logged() -> None:
    configure("warning")
    server = Server(TransientError("busy\nsecond line"), TransientError(""))
    with structlog.testing.capture_logs() as logged:
        assert attempts_of(server) == "answered"
    assert server.asked == 3
    assert [(line["event"], line["attempt"], line["reason"]) for line in logged] == [
        ("trying again", 2, "the first"),
        ("trying again", 3, "busy"),
        ("trying again", 4, "TransientError"),
    ]


def test_the_first_attempt_counts() -> None:
    """Of three attempts two are left; the last error is raised."""
    server = Server(*(TransientError(f"number {number}") for number in range(2, 9)))
    with pytest.raises(TransientError, match="number 3"):
        attempts_of(server, 3)
    assert server.asked == 2


def test_an_answer_is_not_asked_for_again() -> None:
    server = Server(DocumentError("source_missing", "gone"), TransientError("not reached"))
    with pytest.raises(DocumentError, match="gone"):
        attempts_of(server)
    assert server.asked == 1


def test_what_was_to_be_written_is_let_go_of(tmp_path: Path) -> None:
    """At once and not when the garbage collector looks: it is as large as documents are."""

    class Large:
        """What a request was to write."""

    store = open_store(make_backend("localfs", None, tmp_path), None, "test")  # type: ignore[arg-type]
    assert isinstance(store, DocumentStore)
    server, written = Server(TransientError("busy"), TransientError("busy")), Large()
    alive = weakref.ref(written)
    gc.collect()
    gc.disable()
    try:
        assert store._again(lambda _write: server(), written) == "answered"
        del written
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("configures", [True, False])
def test_hooks_of_a_program_that_uses_the_library_stay(*, configures: bool) -> None:
    """Only where the log is ours, as in a command, are further attempts written to it."""
    program = f"""
import stamina
from reconcile import logs
stamina.instrumentation.set_on_retry_hooks([hook := lambda details: None])
if {configures}: logs.configure()
import reconcile.retries
print(stamina.instrumentation.get_on_retry_hooks() == (hook,))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(not configures)
