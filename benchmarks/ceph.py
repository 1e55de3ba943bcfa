"""Ceph's S3 server, radosgw, on a monitor and an object store in memory: a real and quick S3 endpoint.

Installed from Debian's packages where the machine has apt and lets us; `endpoint` says what stands in elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from tests.servers.ports import free_port, wait_for
from tests.servers.swift import SwiftServer

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd")
_CONFIG = """[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon}
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = {bytes}
mon data = {folder}/mon
osd data = {folder}/osd
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
run dir = {folder}
pid file =
ms bind ipv6 = false
[client.admin]
rgw frontends = beast endpoint=127.0.0.1:{http} tcp_nodelay=1
rgw data = {folder}/rgw
rgw enable gc threads = false
"""


class Ceph:
    """An S3 endpoint with one account."""

    access_key, secret_key = "bench", "benchsecret"

    def __init__(self, size: int = 1 << 40) -> None:  # it counts all that was ever written; memory is what there is
        self._folder = Path(tempfile.mkdtemp(prefix="reconcile-ceph-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        mon, http = free_port(), free_port()
        self.url = f"http://127.0.0.1:{http}"
        fsid = str(uuid.uuid4())
        self._conf = self._folder / "ceph.conf"
        self._conf.write_text(_CONFIG.format(fsid=fsid, mon=mon, http=http, folder=self._folder, bytes=size))
        for name in ("mon", "osd", "rgw"):
            (self._folder / name).mkdir()
        self._start(fsid, mon)
        wait_for(http, 60)
        self._call("radosgw-admin", "user", "create", "--uid=bench", "--display-name=bench",
                   f"--access-key={self.access_key}", f"--secret-key={self.secret_key}")  # fmt: skip

    def close(self) -> None:
        """Stop everything and remove it."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, fsid: str, mon: int) -> None:
        keyring, monmap, osd_id = self._folder / "keyring", self._folder / "monmap", str(uuid.uuid4())
        self._call("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        caps = [part for daemon in ("mon", "osd", "mds", "mgr") for part in ("--cap", daemon, "allow *")]
        self._call("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *caps)
        self._call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon}]", monmap)
        self._call("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
        self._run("ceph-mon", "-i", "a")
        self._call("ceph", "osd", "new", osd_id)
        self._call("ceph-authtool", keyring, "--gen-key", "-n", "osd.0")
        self._call("ceph", "auth", "add", "osd.0", "mon", "allow rwx", "osd", "allow *", "-i", keyring)
        self._call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        self._run("ceph-osd", "-i", "0")
        deadline = time.monotonic() + 60
        while "1 up" not in self._call("ceph", "osd", "stat"):
            if time.monotonic() > deadline:
                raise TimeoutError("the OSD does not come up")
            time.sleep(0.3)
        self._run("radosgw", "-n", "client.admin")

    def _run(self, program: str, *arguments: str) -> None:
        with (self._folder / f"{program}.out").open("wb") as out:
            command = [program, "-c", str(self._conf), "-f", *arguments]
            self._processes.append(subprocess.Popen(command, stdout=out, stderr=out))  # noqa: S603

    def _call(self, program: str, *arguments: Any) -> str:  # noqa: ANN401
        done = subprocess.run(  # noqa: S603
            [program, *map(str, arguments)], env=os.environ | {"CEPH_CONF": str(self._conf)},
            check=False, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr.strip()[-500:]}")
        return done.stdout


def install() -> bool:
    """Install radosgw by apt if it is not there; return whether it is there now."""
    if shutil.which("radosgw") and shutil.which("ceph-mon") and shutil.which("ceph-osd"):
        return True
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return False
    command = [apt, "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in ([apt, "update", "-qq"], command):
        subprocess.run(arguments, env=environment, check=False, stdout=subprocess.DEVNULL)  # noqa: S603
    return shutil.which("radosgw") is not None


def endpoint() -> tuple[Any, str]:
    """Return an S3 server and what it is."""
    if install():
        return Ceph(), "Ceph radosgw"
    return SwiftServer(), "Swift's s3api (radosgw cannot be installed here)"
