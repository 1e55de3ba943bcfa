"""Rows of work tables go in by COPY's text form: each value comes out as it was, whatever characters it has (R2)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from reconcile.errors import PlanFileError
from reconcile.planning.model import After, Before, Blocker, Move
from reconcile.running.record.text_copy import copy_rows
from reconcile.running.record.work_moves import blocker_row, move_row
from reconcile.stores import Location
from tests.servers.postgresql import PostgresServer

WORDS = st.one_of(
    st.none(),
    st.sampled_from(["", r"\N", "\\", "\\.", "\x01", r"\x01", "a\tb", "a\nb", "a\r\nb", "Ä€𝄞", "t", "None"]),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=8),
)
ROWS = st.lists(st.tuples(WORDS, st.sampled_from([None, True, False]), st.integers(-(2**63), 2**63 - 1), WORDS))


def engine_of(server: PostgresServer) -> sa.Engine:
    url = server.url("postgres").replace("postgresql", "postgresql+psycopg2", 1)
    return sa.create_engine(url, poolclass=sa.pool.NullPool)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=ROWS)
def test_what_goes_in_comes_out(
    postgresql: PostgresServer, rows: list[tuple[str | None, bool | None, int, str]]
) -> None:
    engine = engine_of(postgresql)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE held (word text, flag boolean, number bigint, other text)")
        copy_rows(connection, "held", ["word", "flag", "number", "other"], rows)
        assert [tuple(row) for row in connection.exec_driver_sql("SELECT * FROM held")] == rows
    engine.dispose()


def test_what_the_server_does_not_take_is_an_error_of_the_database(postgresql: PostgresServer) -> None:
    engine = engine_of(postgresql)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE held (word text)")
        with pytest.raises(DBAPIError, match="0x00"):
            copy_rows(connection, "held", ["word"], [["a\0b"]])
    engine.dispose()


def test_what_reading_the_rows_raises_is_raised_and_nothing_goes_in(postgresql: PostgresServer) -> None:
    def rows() -> Iterator[list[str]]:
        yield ["one"]
        raise PlanFileError("the move does not follow")

    engine = engine_of(postgresql)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE held_for_good (word text)")
        connection.commit()
        with pytest.raises(PlanFileError, match="does not follow"), connection.begin():
            copy_rows(connection, "held_for_good", ["word"], rows())
        assert connection.exec_driver_sql("SELECT count(*) FROM held_for_good").scalar() == 0
        connection.exec_driver_sql("DROP TABLE held_for_good")
        connection.commit()
    engine.dispose()


def test_moves_and_blockers_have_the_same_columns() -> None:
    """Else each change from one to the other would be a statement of its own."""
    blocker = Blocker("u", "b", "a", "d", None, None, "not_owned", "why")
    move = Move("u", "b", "a", "d", "s", "d", Before("db://u/b/a", None, None, None, None), After("db2://u/b/a", None))
    assert list(blocker_row(blocker)) == list(move_row(move, Location("db2", ("u", "b", "a"))))


_COPIES_THAT_END = """
import sys
import threading
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from reconcile.cli import main as command
from reconcile.running.record.text_copy import copy_rows

ENDED = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY held_e%%'"
engine = sa.create_engine(sys.argv[1], poolclass=sa.pool.NullPool)

def end():
    with engine.connect() as other:
        other.exec_driver_sql(ENDED)

def rows(ending):
    for number in range(2_000_000):
        if number == 20_000:
            ending.start()
        yield ["user\x1b[31mRED"]

def run(**_given):
    ended = 0
    for _turn in range(12):
        ending = threading.Thread(target=end)
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("CREATE TEMPORARY TABLE held_ended (word text)")
                copy_rows(connection, "held_ended", ["word"], rows(ending))
        except DBAPIError:
            ended += 1
        ending.join()
    print(ended)

command.cli.main = run
command.main()
"""


def printed(program: str, server: PostgresServer) -> tuple[str, str]:
    """Return what a program of its own prints that copies into a database."""
    url = server.url("postgres").replace("postgresql", "postgresql+psycopg2", 1)
    done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=False)
    return done.stdout, done.stderr


def test_a_session_that_is_ended_prints_no_row(postgresql: PostgresServer) -> None:
    """psycopg2 prints an error with the line that was sent; a terminal would take what is in its names (R8)."""
    assert printed(_COPIES_THAT_END, postgresql) == ("12\n", "")


_COPIES_THAT_A_SIGNAL_ENDS = """
import os
import signal
import sys
import threading
import sqlalchemy as sa
from reconcile.running.record.text_copy import copy_rows

engine = sa.create_engine(sys.argv[1], poolclass=sa.pool.NullPool)

def rows(sending):
    for number in range(2_000_000):
        if number == 20_000:
            sending.start()
        yield ["word"]

ended = 0
for turn in range(12):
    sending = threading.Timer(0.002 * turn, os.kill, (os.getpid(), signal.SIGINT))
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE TEMPORARY TABLE held_ended (word text)")
            copy_rows(connection, "held_ended", ["word"], rows(sending))
    except KeyboardInterrupt:
        ended += 1
    sending.join()
print(ended)
"""


def test_a_signal_within_a_copy_is_a_signal(postgresql: PostgresServer) -> None:
    """Not an error of the database, wherever psycopg2 was when it came."""
    assert printed(_COPIES_THAT_A_SIGNAL_ENDS, postgresql) == ("12\n", "")
