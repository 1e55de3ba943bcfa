"""Makes what a release consists of: ``make dist``, or ``python -m release.dist DIR`` with what requirements.txt has.

Whatever can be is made by the environment that the offline wheel set gives, installed without a network: so the man
pages, the completion scripts and the SBOM are of what people install, and a set that does not install ends it here.
`docs/releases.md` says what each file is for.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.utils import parse_wheel_filename

PROJECT = "anchore-reconcile"
EXTRA = "swift"
SHELLS = {"bash": "reconcile.bash", "zsh": "_reconcile", "fish": "reconcile.fish"}  # as each shell looks for them
REPOSITORY = Path(__file__).parents[1]


def make(out: Path) -> None:
    """Make everything in ``out``, which is made. Raises `FileExistsError`, or `CalledProcessError` of a step."""
    os.environ["SOURCE_DATE_EPOCH"] = _epoch()
    out.mkdir()
    _run(sys.executable, "-m", "build", "--outdir", out, REPOSITORY)
    (wheel,) = out.glob("*.whl")
    requirements = _wheel_set(wheel, out / "wheels")
    with tempfile.TemporaryDirectory() as folder:
        python = _installed(requirements, Path(folder) / "env")
        _run(python, "-m", "reconcile.cli.manual", out / "man")
        _completions(python.with_name("reconcile"), out / "completions")
        _bom(python, out / "sbom.cdx.json", str(parse_wheel_filename(wheel.name)[1]))
    _zipapp(requirements, out / "reconcile.pyz")
    _sums(out)


def _epoch() -> str:
    """Return the time that files are dated with, in seconds: what the caller says, else that of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return given or _run("git", "-C", REPOSITORY, "log", "-1", "--format=%ct").strip()


def _wheel_set(wheel: Path, folder: Path) -> Path:
    """Gather the wheel with all that it needs, and return the requirements that pin each by its hash."""
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", folder, f"{wheel}[{EXTRA}]")
    python = f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}"
    lines = [f"# For {python} on {platform.system()} {platform.machine()}; docs/releases.md says how to install it."]
    for path in sorted(folder.glob("*.whl")):
        name, version, _build, _tags = parse_wheel_filename(path.name)
        extra = f"[{EXTRA}]" if name == PROJECT else ""
        lines.append(f"{name}{extra}=={version} --hash=sha256:{_sha256(path)}")
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(lines) + "\n")
    return requirements


def _offline(requirements: Path) -> list[str | Path]:
    wheels = requirements.parent
    return ["--no-index", "--find-links", wheels, "--require-hashes", "--only-binary", ":all:", "-r", requirements]


def _without_pip_settings() -> dict[str, str]:
    """Return an environment in which pip knows of no other place for wheels than the one it is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return kept | {"PIP_CONFIG_FILE": os.devnull}


def _installed(requirements: Path, folder: Path) -> Path:
    """Install the set into a new environment that has nothing else, not even pip; return its Python."""
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    command = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *_offline(requirements))
    _run(*command, environment=_without_pip_settings())
    return python


def _completions(reconcile: Path, folder: Path) -> None:
    folder.mkdir()
    for shell, name in SHELLS.items():
        (folder / name).write_text(_run(reconcile, "completion", shell))


def _bom(python: Path, file: Path, version: str) -> None:
    """Write the CycloneDX SBOM of an environment: the program, of ``version``, and every library in it."""
    project = REPOSITORY / "pyproject.toml"
    tool = Path(sys.executable).with_name("cyclonedx-py")
    _run(tool, "environment", "--pyproject", project, "--output-reproducible", "--output-file", file, python)
    bom = json.loads(file.read_text())
    # pyproject.toml has no version: it is read from the package when that is built
    bom["metadata"]["component"] |= {"version": version, "purl": f"pkg:pypi/{PROJECT}@{version}"}
    file.write_text(json.dumps(bom, indent=2) + "\n")


def _zipapp(requirements: Path, file: Path) -> None:
    """Make one file that runs by itself, with the Python that its libraries are for."""
    shebang = f"/usr/bin/env python{sys.version_info.major}.{sys.version_info.minor}"
    tool = Path(sys.executable).with_name("shiv")
    command = (tool, "-c", "reconcile", "-o", file, "-p", shebang, "--reproducible", "-q", *_offline(requirements))
    _run(*command, environment=_without_pip_settings())


def _sums(out: Path) -> None:
    """Write the digest of every file, as ``sha256sum -c`` reads them."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    lines = [f"{_sha256(path)}  {path.relative_to(out)}\n" for path in files]
    (out / "SHA256SUMS").write_text("".join(lines))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run a command, in the environment of this process or another, and return what it prints."""
    print("  ", *command, file=sys.stderr)  # noqa: T201 - shows which step runs
    done = subprocess.run(  # noqa: S603 - the commands are those above
        [*map(str, command)], stdout=subprocess.PIPE, env=environment, text=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
