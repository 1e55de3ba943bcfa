"""``reconcile show`` in every form, from the plan's file alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from reconcile.planning.planfile import open_plan
from reconcile.rendering.output import FORMS, rendered_plan
from tests.archives import new_sqlite
from tests.cli.runner import here, reconcile
from tests.servers.moto import MotoServer
from tests.world import DB, World, s3

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def planned(folder: Path, moto: MotoServer) -> World:
    """A plan with a blocker, and nothing else left: neither configs nor database."""
    world = World(folder, new_sqlite(folder))
    world.fill(40)
    world.row("tape", b"x", content_url="tape://x")
    world.plan(world.config("config", DB), world.config("dest", s3(moto, "show", prefix="p/")))
    for name in ("config.yaml", "dest.yaml", "anchore.db"):
        (folder / name).unlink()
    return world


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_what_matters_and_no_credential(planned: World, moto: MotoServer, form: str) -> None:
    """R8, and a review needs nothing but the file."""
    result = reconcile("show", "p.json", "--format", form, cwd=planned.folder)
    assert (result.code, result.err) == (0, "")
    for wanted in ("unknown_scheme", "analysis_archive", "show", "PutObject" if form != "json" else '"write":40'):
        assert wanted in result.out, wanted
    assert moto.secret_key not in result.out
    assert moto.access_key not in result.out


def test_json_holds_all_of_it(planned: World) -> None:
    result = reconcile("show", "p.json", "--format", "json", "--moves", cwd=planned.folder)
    shown, plan = json.loads(result.out), json.loads((planned.folder / "p.json").read_text())
    assert shown["format_version"] == "1.0"
    for name in ("moves", "blockers", "summary", "plan_id"):
        assert shown[name] == plan[name]
    assert "moves" not in json.loads("".join(rendered_plan(open_plan(planned.folder / "p.json"), "json")))


def test_out_writes_a_new_file_and_never_replaces_one(planned: World) -> None:
    """Least of all the plan."""
    folder = planned.folder
    result = reconcile("show", "p.json", "--format", "markdown", "--out", "p.md", cwd=folder)
    assert (result.code, result.out) == (0, "")
    assert "saved as p.md" in result.err
    assert (folder / "p.md").read_text().startswith("# Plan: move 40 documents")
    assert (folder / "p.md").stat().st_mode & 0o777 == 0o600
    before = (folder / "p.json").read_bytes()
    result = reconcile("show", "p.json", "--format", "html", "--out", "p.json", cwd=folder)
    assert result.code == 64
    assert "exists already" in result.err
    assert (folder / "p.json").read_bytes() == before
    result = reconcile("show", "p.json", "--out", "no/such/folder.txt", cwd=folder)
    assert result.code == 1
    assert "cannot be written" in result.err


def test_an_edited_plan_is_not_shown(planned: World) -> None:
    path = planned.folder / "p.json"
    path.write_text(path.read_text().replace("policy_bundles", "policy_bundlez"))
    result = reconcile("show", "p.json", "--format", "html", "--out", "out", cwd=planned.folder)
    assert result.code == 1
    assert "its digest does not match" in result.err
    assert not (planned.folder / "out").exists()


def test_an_undo_plan_is_shown_as_one(folder: Path) -> None:
    world = World(folder, new_sqlite(folder))
    world.fill(3)
    source = world.config("config", DB)
    dest = world.config("dest", {"storage_driver": {"name": "db2", "config": {}}})
    world.apply(world.plan(source, dest))
    out = "".join(rendered_plan(open_plan(Path("p.undo.json")), "markdown"))
    assert out.startswith("# Undo plan: move 3 documents")
    assert f"reconcile undo {folder}/p.undo.json" in out


def test_a_gate_in_a_pipeline(folder: Path, moto: MotoServer) -> None:
    """The plan is saved, the exit code says what it has; the example policy takes the one plan and not the other."""
    world = World(folder, new_sqlite(folder))
    world.fill(10)
    world.config("config", DB)
    world.config("dest", s3(moto, "gate"))
    policy = Draft202012Validator(json.loads((REPOSITORY / "examples" / "policy.schema.json").read_text()))
    plan = ("plan", "config.yaml", "dest.yaml", "--fail-on", "blockers,unreadable", "--out")
    good = here(*plan, "good.json", "--probe", "exists", "--note", "CHG-4711", cwd=folder)
    assert good.code == 0
    assert not list(policy.iter_errors(json.loads(here("show", "good.json", "--format", "json", cwd=folder).out)))

    world.row("tape", b"x", content_url="tape://x")
    bad = here(*plan, "bad.json", cwd=folder)
    assert bad.code == 15
    assert "the plan has what --fail-on names: blockers, unreadable; the plan is saved as bad.json" in bad.err
    shown = json.loads(here("show", "bad.json", "--format", "json", cwd=folder).out)
    assert shown["digest"] == open_plan(folder / "bad.json").verify()
    paths = {"/".join(map(str, error.absolute_path)) for error in policy.iter_errors(shown)}
    assert paths == {"note", "summary/blocked/documents", "summary/probed", "summary/unreadable_after"}
    nonsense = here("plan", "config.yaml", "dest.yaml", "--fail-on", "everything", cwd=folder)
    assert (nonsense.code, "not one of blockers, unreadable" in nonsense.err) == (64, True)


_SWIFT = {"auth": "http://swift/auth/v1.0", "container": "c"}
_KEYSTONE = {"auth": "http://keystone/v3", "auth_version": "3", "container": "c"}


@pytest.mark.parametrize(
    ("driver", "settings", "credentials"),
    [
        ("s3", {"bucket": "b", "access_key": "s3cret", "secret_key": "s3cret"}, ["access_key", "secret_key"]),
        ("s3", {"bucket": "b", "iamauto": True}, []),
        ("swift", _SWIFT | {"user": "s3cret", "key": "s3cret"}, ["user", "key"]),
        ("swift", _KEYSTONE | {"os_username": "s3cret", "os_password": "s3cret"}, ["os_username", "os_password"]),
        ("db2", {}, []),
    ],
)
def test_helm_values_refer_to_secrets_and_hold_none(
    folder: Path, driver: str, settings: dict[str, Any], credentials: list[str]
) -> None:
    """R8. The values are those of the new config, and what a service needs besides is said in comments."""
    world = World(folder, new_sqlite(folder))
    world.fill(3)
    dest = {"compression": {"enabled": True}, "storage_driver": {"name": driver, "config": settings}}
    world.plan(world.config("config", DB), world.config("dest", dest))
    shown = here("show", "p.json", "--format", "helm-values", cwd=folder)
    assert (shown.code, "s3cret" in shown.out) == (0, False)
    values = yaml.safe_load(shown.out)
    catalog = values["anchoreConfig"]["catalog"]
    written = catalog["object_store"]["storage_driver"]
    assert written["name"] == driver
    variables = {key: f"ANCHORE_OBJECT_STORE_{key.upper()}" for key in credentials}
    for key, value in settings.items():
        assert written["config"][key] == (f"${{{variables[key]}}}" if key in variables else value)
    assert catalog["object_store"]["compression"]["enabled"] is True
    assert [entry["name"] for entry in values.get("extraEnv", [])] == list(variables.values())
    assert values["osaaMigrationJob"] == {"enabled": False}
    assert "bootstrap_ng.yaml" in shown.out


def test_the_drivers_are_listed_with_their_keys(tmp_path: Path) -> None:
    """Whether what each needs is installed, too: a fresh machine may lack it."""
    shown = here("drivers", cwd=tmp_path)
    assert shown.code == 0
    lines = {line.split()[0]: line for line in shown.out.splitlines() if not line.startswith(" ")}
    assert list(lines) == ["db", "db2", "localfs", "s3", "swift"]
    assert all(line.endswith("; installed") for line in lines.values())
    assert "archive_data_dir" in shown.out
    assert "(required)" in shown.out
