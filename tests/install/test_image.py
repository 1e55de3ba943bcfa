"""``deploy/image``: what its steps make runs as any user of group 0, on a root file system that nobody writes to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reconcile import __version__

REPOSITORY = Path(__file__).parents[2]
IMAGE = REPOSITORY / "deploy" / "image"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
# The interpreter may lie where only root comes to, so it is mounted elsewhere; the image's is its own.
# All is read-only from here on, but for TMPDIR and the work directory, which are the pod's; then the user of the image.
READ_ONLY = """
set -e
mount --make-rprivate /
mount --bind "$INTERPRETER" "$BASE"
PYTHON="$BASE/bin/python3" sh "$INSTALL" "$WHEEL" "$PREFIX"
test -z "$(find "$PREFIX" ! -type l -perm /022)"
"$PREFIX/bin/python" "$BUILD_ARCHIVE" "$ARCHIVE" > /dev/null
sed -i "s|$ARCHIVE|$WORK|" "$ARCHIVE"/*.yaml
mount -t tmpfs -o mode=0770 tmpfs "$WORK"
cp -r "$ARCHIVE"/. "$WORK"
chmod -R g+rwX "$WORK"
mount -t tmpfs -o mode=1777 tmpfs "$TMPDIR"
mount --bind / /mnt
mount -o remount,bind,ro /
cd "$WORK"
exec setpriv --reuid 65532 --regid 0 --clear-groups --no-new-privs --bounding-set=-all sh -c "$STEPS"
"""
STEPS = """
set -e
! touch /opt/here 2> /dev/null
! touch "$PREFIX/here" 2> /dev/null
reconcile --version
reconcile plan config.yaml dest-config.yaml --out p.json
reconcile apply p.json --yes --metrics-file m.prom --events e.jsonl
reconcile verify dest-config.yaml
reconcile undo p.undo.json --yes
reconcile verify config.yaml
python -c 'import swiftclient'
"""


def _may_unshare() -> bool:
    if os.geteuid() or not (shutil.which("unshare") and shutil.which("setpriv")):
        return False
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount --make-rprivate / && mount -o remount,bind,ro /"],
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


@pytest.mark.matrix
@pytest.mark.skipif(not _may_unshare(), reason="mounts of its own need root")
def test_what_the_image_holds_runs_on_a_read_only_file_system(tmp_path: Path) -> None:
    """The Containerfile's own script installs the wheel; no entry in /etc/passwd, no capability, no home."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", REPOSITORY],
        env=ENVIRONMENT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    prefix, base, work, archive, temporary = (tmp_path / name for name in ("opt", "base", "work", "archive", "tmp"))
    for path in (base, work, temporary):
        path.mkdir()
    for path in (tmp_path, *tmp_path.parents):  # pytest's folders are their owner's alone
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o011)
    environment = {name: value for name, value in ENVIRONMENT.items() if name.startswith("PIP_")} | {
        "PATH": f"{prefix}/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "PYTHONDONTWRITEBYTECODE": "1",
        "WORK": str(work),
        "ARCHIVE": str(archive),
        "PREFIX": str(prefix),
        "BASE": str(base),
        "INTERPRETER": sys.base_prefix,
        "LD_LIBRARY_PATH": str(base / "lib"),  # an interpreter that is moved does not find its own library
        "INSTALL": str(IMAGE / "install.sh"),
        "WHEEL": str(wheel),
        "BUILD_ARCHIVE": str(REPOSITORY / "examples" / "build_archive.py"),
        "STEPS": STEPS,
    }
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", READ_ONLY], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("nothing is missing or wrong") == 2
    assert list(work.iterdir()) == []  # what was written is in the pod's own mounts


def test_the_containerfile() -> None:
    """By hadolint; its wheel is the one of this version, and its steps are the script that the test above runs."""
    hadolint = Path(sys.executable).parent / "hadolint"
    file = IMAGE / "Containerfile"
    if hadolint.exists():
        checked = subprocess.run([hadolint, file], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout
    text = file.read_text()
    assert f"dist/anchore_reconcile-{__version__}-py3-none-any.whl" in text
    assert f'version="{__version__}"' in text
    assert "RUN sh /build/install.sh" in text
    assert "USER 65532:0" in text
    for manifest in (REPOSITORY / "deploy").rglob("*.yaml"):
        for line in manifest.read_text().splitlines():
            if line.strip().startswith("image:"):
                assert line.split()[-1] == f"anchore-reconcile:{__version__}", manifest
