"""PostgreSQL may hide rows from a role: a row that is not seen must not count as one that is not there (R3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconcile.errors import CatalogError
from reconcile.running.phases.switch import Switcher
from tests.cli.desk import opened
from tests.cli.runner import reconcile
from tests.servers.postgresql import PostgresServer
from tests.world import DB, DB2, World

_POLICY = """
    ALTER TABLE {0} ENABLE ROW LEVEL SECURITY;
    CREATE POLICY tenants_only ON {0} USING ("userId" <> 'hidden')
"""


@pytest.fixture
def as_tool(folder: Path, postgresql: PostgresServer) -> World:
    """The archive as a role sees it that owns no table."""
    url = postgresql.database()
    admin = World(folder, url)
    admin.fill(6)
    name = url.rpartition("/")[2]
    postgresql.run("postgres", "DROP ROLE IF EXISTS tool")
    postgresql.run("postgres", "CREATE ROLE tool LOGIN")
    postgresql.run(
        name,
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO tool; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO tool;"
        " GRANT ALL ON SCHEMA public TO tool",
    )
    yield World(folder, postgresql.url(name, "tool"))
    postgresql.run(name, "DROP OWNED BY tool")
    postgresql.run("postgres", "DROP ROLE tool")


@pytest.mark.parametrize(
    "table",
    ["archive_metadata", *(pytest.param(name, marks=pytest.mark.matrix) for name in ("archive_document", "services"))],
)
def test_a_policy_that_hides_rows_is_refused_by_name(as_tool: World, postgresql: PostgresServer, table: str) -> None:
    condition = _POLICY if table != "services" else _POLICY.replace('"userId"', "hostid")
    postgresql.run(as_tool.url.rpartition("/")[2], condition.format(table))
    as_tool.config("config", DB)
    as_tool.config("dest", DB2)
    result = reconcile("plan", "config.yaml", "dest.yaml", "--out", "p.json", cwd=as_tool.folder)
    assert result.code == 1, result.all
    assert f"{table} (policy tenants_only)" in result.err
    assert "BYPASSRLS" in result.err
    assert not (as_tool.folder / "p.json").exists()


def test_a_policy_that_comes_after_the_switch_deletes_nothing(
    as_tool: World, postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row that it hides still needs its source."""
    world = as_tool
    world.plan(world.config("config", DB), world.config("dest", DB2))
    url = world.urls()[0]
    original = Switcher.switch

    def switch(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        world.row("theirs", b"", user="hidden", content_url=url)
        postgresql.run(world.url.rpartition("/")[2], _POLICY.format("archive_metadata"))

    monkeypatch.setattr(Switcher, "switch", switch)
    with pytest.raises(
        CatalogError, match="row-level security was enabled on archive_metadata during this command"
    ) as failed:
        world.apply("p.json")
    assert "BYPASSRLS" in (failed.value.hint or "")
    assert world.sql("SELECT count(*) FROM archive_document") == [(6,)]


def test_a_role_that_policies_do_not_bind_goes_on(as_tool: World, postgresql: PostgresServer) -> None:
    name = as_tool.url.rpartition("/")[2]
    postgresql.run(name, _POLICY.format("archive_metadata"))
    with opened(World(as_tool.folder, postgresql.url(name))) as catalog, catalog.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM archive_metadata").scalar_one() == 6
