"""What `make dist` makes: it installs without an index, its digests agree, and its SBOM names what is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconcile import __version__
from reconcile.cli.manual import manual
from tests.install.test_dist import ENVIRONMENT, REPOSITORY, run

PAGE = (REPOSITORY / "docs" / "releases.md").read_text()
INSTALL = ("install", "--no-index", "--find-links", "wheels", "--require-hashes", "-r")
PIP_ALONE = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("PIP_")}
PIP_ALONE |= {"PIP_CONFIG_FILE": os.devnull}
LIST = "import json, importlib.metadata as m; print(json.dumps([(d.name, d.version) for d in m.distributions()]))"


@pytest.mark.matrix
def test_a_release(tmp_path: Path) -> None:
    """One test, since what it looks at takes a minute to make."""
    release = tmp_path / "dist"
    run("make", "--silent", ".venv/release/installed", cwd=REPOSITORY)
    run(REPOSITORY / ".venv" / "release" / "bin" / "python", "-m", "release.dist", release, cwd=REPOSITORY)
    every_file_is_in_the_digests(release)
    installed = installed_offline(release, tmp_path / "env")
    another_hash_is_refused(release, tmp_path / "env")
    the_sbom_names_all_of(installed, release)
    the_zipapp_runs(release, tmp_path / "unpacked")
    assert {path.name for path in (release / "man").iterdir()} == set(manual(datetime.now(UTC)))
    for name in ("reconcile.bash", "_reconcile", "reconcile.fish"):
        assert "_RECONCILE_COMPLETE" in (release / "completions" / name).read_text()


def every_file_is_in_the_digests(release: Path) -> None:
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=release)
    listed = {line.partition("  ")[2] for line in (release / "SHA256SUMS").read_text().splitlines()}
    files = {str(path.relative_to(release)) for path in release.rglob("*") if path.is_file()}
    assert files - listed == {"SHA256SUMS"}


def commands(heading: str) -> list[str]:
    """Return the blocks of commands below a heading of docs/releases.md."""
    return re.findall(
        r"^```\n(.*?)^```$", PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0], re.MULTILINE | re.DOTALL
    )


def type_in(block: str, release: Path) -> subprocess.CompletedProcess[str]:
    """Run a block of commands in the folder of the release, by a pip that knows of no index."""
    environment = PIP_ALONE | {"PATH": f"{Path(sys.executable).parent}:{PIP_ALONE['PATH']}"}
    return subprocess.run(
        ["bash", "-ec", block], cwd=release, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def installed_offline(release: Path, folder: Path) -> dict[str, str]:
    """Type what docs/releases.md says, in another folder, and return the versions of what is installed.

    Without pip and setuptools, which a new environment may have by itself.
    """
    program, manuals = commands("Install without a network")
    done = type_in(program.replace("/opt/reconcile", str(folder)), release)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, [f"reconcile, version {__version__}"]), done.stderr
    assert "not installed" not in run(folder / "bin" / "reconcile", "drivers", cwd=folder)
    assert type_in(manuals.replace(" /usr/", f" {folder}/usr/"), release).returncode == 0
    assert (folder / "usr/local/share/man/man1/reconcile-apply.1").is_file()
    return {name: version for name, version in versions(folder).items() if name not in ("pip", "setuptools")}


def another_hash_is_refused(release: Path, folder: Path) -> None:
    requirements = release / "wheels" / "requirements.txt"
    changed = re.sub(r"sha256:\w{8}", "sha256:00000000", requirements.read_text(), count=1)
    (folder / "requirements.txt").write_text(changed)
    pip = [folder / "bin" / "pip", *INSTALL, folder / "requirements.txt", "--force-reinstall"]
    refused = subprocess.run(pip, cwd=release, env=PIP_ALONE, capture_output=True, text=True, timeout=240, check=False)
    assert (refused.returncode, "DO NOT MATCH THE HASHES" in refused.stderr) == (1, True), refused.stderr


def versions(environment: Path) -> dict[str, str]:
    return dict(json.loads(run(environment / "bin" / "python", "-c", LIST, cwd=environment)))


def the_sbom_names_all_of(installed: dict[str, str], release: Path) -> None:
    text = (release / "sbom.cdx.json").read_text()
    bom = json.loads(text)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    components = [bom["metadata"]["component"], *bom["components"]]
    named = {component["name"]: component["version"] for component in components}
    named.pop("setuptools", None)
    assert named == installed
    assert installed["anchore-reconcile"] == __version__
    assert "python-swiftclient" in installed
    assert "file://" not in text
    assert str(REPOSITORY) not in text


def the_zipapp_runs(release: Path, folder: Path) -> None:
    environment = ENVIRONMENT | {"SHIV_ROOT": str(folder)}
    command = [str(release / "reconcile.pyz"), "--version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout) == (0, f"reconcile, version {__version__}\n"), done.stderr
