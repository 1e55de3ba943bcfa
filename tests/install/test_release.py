"""What `make dist` makes: it installs without an index, its digests agree, and its SBOM names what is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import venv
from pathlib import Path

import pytest

from reconcile import __version__
from tests.install.test_dist import ENVIRONMENT, REPOSITORY, run

INSTALL = ("install", "--no-index", "--find-links", "wheels", "--require-hashes", "-r", "wheels/requirements.txt")
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
    the_sbom_names_all_of(installed, release)
    the_zipapp_runs(release, tmp_path / "unpacked")
    assert len(list((release / "man").iterdir())) > 10
    for name in ("reconcile.bash", "_reconcile", "reconcile.fish"):
        assert "_RECONCILE_COMPLETE" in (release / "completions" / name).read_text()


def every_file_is_in_the_digests(release: Path) -> None:
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=release)
    listed = {line.partition("  ")[2] for line in (release / "SHA256SUMS").read_text().splitlines()}
    files = {str(path.relative_to(release)) for path in release.rglob("*") if path.is_file()}
    assert files - listed == {"SHA256SUMS"}


def installed_offline(release: Path, folder: Path) -> dict[str, str]:
    """Install the set as docs/releases.md says, try it, and return the versions of what is installed besides pip."""
    venv.create(folder, with_pip=True)
    before = versions(folder)
    command = [folder / "bin" / "pip", *INSTALL]
    done = subprocess.run(command, cwd=release, env=PIP_ALONE, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert run(folder / "bin" / "reconcile", "--version", cwd=folder) == f"reconcile, version {__version__}\n"
    drivers = run(folder / "bin" / "reconcile", "drivers", cwd=folder)
    assert "not installed" not in drivers, drivers
    tampered = (release / "wheels" / "requirements.txt").read_text().replace("sha256:", "sha256:0", 1)
    (folder / "requirements.txt").write_text(re.sub(r"(sha256:0\w{63})\w", r"\1", tampered))
    again = [*command[:-1], folder / "requirements.txt", "--force-reinstall"]
    refused = subprocess.run(
        again, cwd=release, env=PIP_ALONE, capture_output=True, text=True, timeout=240, check=False
    )
    assert (refused.returncode, "DO NOT MATCH THE HASHES" in refused.stderr) == (1, True), refused.stderr
    after = versions(folder)
    return {name: version for name, version in after.items() if name != "pip" and (name, version) not in before.items()}


def versions(environment: Path) -> dict[str, str]:
    return dict(json.loads(run(environment / "bin" / "python", "-c", LIST, cwd=environment)))


def the_sbom_names_all_of(installed: dict[str, str], release: Path) -> None:
    text = (release / "sbom.cdx.json").read_text()
    bom = json.loads(text)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    components = [bom["metadata"]["component"], *bom["components"]]
    assert {component["name"]: component["version"] for component in components} == installed
    assert installed["anchore-reconcile"] == __version__
    assert "python-swiftclient" in installed
    assert "file://" not in text
    assert str(REPOSITORY) not in text


def the_zipapp_runs(release: Path, folder: Path) -> None:
    environment = ENVIRONMENT | {"SHIV_ROOT": str(folder)}
    command = [str(release / "reconcile.pyz"), "--version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout) == (0, f"reconcile, version {__version__}\n"), done.stderr
