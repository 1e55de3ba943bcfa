"""``approve`` and ``apply --require-approval``: no plan but one that an allowed signer has signed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.archives import new_sqlite
from tests.cli.desk import filled, last_run, planned
from tests.cli.runner import Result, here
from tests.world import World

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


def key(folder: Path, name: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)
    return folder / name


@pytest.fixture
def lite(folder: Path) -> World:
    """With a plan, and alice, whom ``allowed`` names, and mallory, whom it does not."""
    world = filled(World(folder, new_sqlite(folder)))
    planned(world)
    for name in ("alice", "mallory"):
        key(folder, name)
    allow(folder, "alice@example.com " + (folder / "alice.pub").read_text())
    return world


def allow(folder: Path, *lines: str) -> None:
    (folder / "allowed").write_text("\n".join(lines) + "\n")


def apply(world: World, *options: str) -> Result:
    return here("apply", "p.json", "--yes", "--require-approval", "allowed", *options, cwd=world.folder)


def refused(world: World, said: str, *options: str) -> None:
    before = world.tables()
    result = apply(world, *options)
    assert (result.code, said in result.err) == (64, True), result.err
    assert "nothing was done" in result.err
    assert world.tables() == before


def test_an_approved_plan_is_applied_and_the_record_says_by_whom(lite: World) -> None:
    refused(lite, "no approval")
    approved = here("approve", "p.json", "--key", "alice", cwd=lite.folder)
    assert approved.code == 0, approved.all
    assert "p.json.sig" in approved.out
    page = here("show", "p.json", "--format", "markdown", cwd=lite.folder).out
    assert "p.json.sig exists" in page.replace("\\", "")
    assert apply(lite).code == 0
    run = last_run(lite)
    report = here("report", run, "--source", "config.yaml", cwd=lite.folder).out
    assert "alice@example.com, by ED25519 key SHA256:" in " ".join(report.split())
    data = json.loads(here("runs", "--source", "config.yaml", "--format", "json", cwd=lite.folder).out)
    assert data["runs"][0]["approved"].startswith("alice@example.com")
    assert "approved alice@example.com" in here("status", "--source", "config.yaml", cwd=lite.folder).out


def test_openssh_reads_the_signature_and_we_read_openssh_s(lite: World) -> None:
    assert here("approve", "p.json", "--key", "alice", cwd=lite.folder).code == 0
    digest = json.loads(here("show", "p.json", "--format", "json", cwd=lite.folder).out)["digest"]
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "alice@example.com", "-n", "reconcile-plan"]
    checked = subprocess.run(
        [*command, "-s", "p.json.sig"], input=f"{digest}\n", cwd=lite.folder, text=True, capture_output=True, check=True
    )
    assert "Good" in checked.stdout
    (lite.folder / "p.json.sig").unlink()
    signed = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-f", "alice", "-n", "reconcile-plan"],
        input=f"{digest}\n", cwd=lite.folder, text=True, capture_output=True, check=True,
    )  # fmt: skip
    (lite.folder / "theirs.sig").write_text(signed.stdout)
    assert apply(lite, "--approval", "theirs.sig").code == 0


def test_approvals_that_do_not_count(lite: World) -> None:
    """Of a stranger, of another plan, of another purpose, expired, revoked by the list; damaged, or no list at all."""
    folder = lite.folder
    assert here("approve", "p.json", "--key", "mallory", cwd=folder).code == 0
    refused(lite, "p.json.sig is not a valid approval by a signer in allowed")
    planned(lite, "other.json")
    assert here("approve", "other.json", "--key", "alice", cwd=folder).code == 0
    refused(lite, "is not a valid approval", "--approval", "other.json.sig")
    (folder / "p.json.sig").unlink()
    assert here("approve", "p.json", "--key", "alice", cwd=folder).code == 0
    public = (folder / "alice.pub").read_text()
    allow(folder, 'alice@example.com valid-before="20200101" ' + public)
    refused(lite, "is not a valid approval by a signer in allowed")
    allow(folder, 'alice@example.com namespaces="git" ' + public)
    refused(lite, "is not a valid approval by a signer in allowed")
    allow(folder, "# nobody")
    refused(lite, "is not a valid approval by a signer in allowed")
    (folder / "p.json.sig").write_text("no signature")
    refused(lite, "is not a valid approval by a signer in allowed")
    (folder / "allowed").unlink()
    refused(lite, "no file of allowed signers")


def test_what_cannot_be_signed(lite: World) -> None:
    folder = lite.folder
    for arguments, code, said in (
        (("p.json", "--key", "nobody"), 64, "no such key"),
        (("none.json", "--key", "alice"), 1, "no such plan file"),
        (("p.json", "--key", "p.json"), 1, "was not signed"),
        (("p.json",), 64, "--key"),
    ):
        result = here("approve", *arguments, cwd=folder)
        assert (result.code, said in result.err) == (code, True), result.err
    assert not (folder / "p.json.sig").exists()
    assert here("approve", "p.json", "--key", "alice", cwd=folder).code == 0
    again = here("approve", "p.json", "--key", "mallory", cwd=folder)
    assert (again.code, "exists already" in again.err) == (64, True)
    text = (folder / "p.json").read_text()
    (folder / "p.json").write_text(text.replace("sha256:0001", "sha256:0009"))
    assert here("approve", "p.json", "--key", "alice", "--out", "x.sig", cwd=folder).code == 1


def test_who_approved_first_stays_on_record_and_an_undo_needs_nobody(lite: World) -> None:
    assert here("approve", "p.json", "--key", "alice", cwd=lite.folder).code == 0
    assert apply(lite, "--clean-later").code == 0
    allow(lite.folder, "mallory@example.com " + (lite.folder / "mallory.pub").read_text())
    assert here("approve", "p.json", "--key", "mallory", "--out", "second.sig", cwd=lite.folder).code == 0
    assert apply(lite, "--approval", "second.sig").code == 0
    data = json.loads(here("runs", "--source", "config.yaml", "--format", "json", cwd=lite.folder).out)
    first, second = data["runs"][0]["approved"].split("; ")
    assert first.startswith("alice@example.com")
    assert second.startswith("mallory@example.com")
    undone = here("apply", "p.undo.json", "--yes", "--require-approval", "allowed", cwd=lite.folder)
    assert undone.code == 0, undone.all


def test_a_signature_that_cannot_be_written(lite: World) -> None:
    (lite.folder / "link").symlink_to("nowhere/x")
    for name, code in (("nowhere/x.sig", 1), ("link", 64)):
        result = here("approve", "p.json", "--key", "alice", "--out", name, cwd=lite.folder)
        assert result.code == code, result.all
        assert "unexpected" not in result.err
