"""Rows of work tables go in by COPY's text form: each value comes out as it was, whatever characters it has (R2)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from reconcile.errors import PlanFileError
from reconcile.running.record.text_copy import copy_rows
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
