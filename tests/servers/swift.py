"""OpenStack Swift, all in one process tree, with its ``s3api``: a real and strict S3 server from PyPI.

    python -m tests.servers.swift DIR PORT

runs it in the foreground. It checks signatures, checksums and conditions, which moto does not.
"""

from __future__ import annotations

import base64
import getpass
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

SERVICES = ("account", "container", "object")
PIPELINE = (
    "catch_errors healthcheck cache listing_formats bulk s3api tempauth copy container_quotas slo dlo versioned_writes"
    " symlink"
)


def configure(folder: Path, port: int) -> dict[str, Path]:
    """Write rings and configs; return the config file of each service."""
    from swift.common import utils
    from swift.common.ring import RingBuilder

    etc = folder / "etc"
    etc.mkdir(parents=True)
    (folder / "dev" / "d1").mkdir(parents=True)
    (etc / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = s\nswift_hash_path_prefix = p\n"
        "[storage-policy:0]\nname = default\ndefault = yes\n"
    )
    utils.set_swift_dir(str(etc))
    common = (
        f"[DEFAULT]\nswift_dir = {etc}\ndevices = {folder}/dev\nmount_check = false\nbind_ip = 127.0.0.1\n"
        f"user = {getpass.getuser()}\nlog_level = ERROR\nlog_address = {folder}/nolog\ndisable_fallocate = true\n"
        "workers = 0\n"
    )
    files = {}
    for number, service in enumerate(SERVICES, 1):
        ring = RingBuilder(4, 1, 0)
        where = {"ip": "127.0.0.1", "port": port + number, "device": "d1"}
        ring.add_dev(
            {"id": 0, "region": 1, "zone": 1, "weight": 1.0, "meta": "", **where}
            | {"replication_ip": "127.0.0.1", "replication_port": port + number}
        )
        ring.rebalance()
        ring.get_ring().save(str(etc / f"{service}.ring.gz"))
        files[service] = etc / f"{service}-server.conf"
        files[service].write_text(
            common + f"bind_port = {port + number}\n[pipeline:main]\npipeline = app\n"
            f"[app:app]\nuse = egg:swift#{service}\n"
        )
    files["proxy"] = etc / "proxy-server.conf"
    files["proxy"].write_text(common + _proxy(port))
    return files


def _proxy(port: int) -> str:
    key = base64.urlsafe_b64encode(os.urandom(32)).decode()
    settings = {
        "cache": "paste.filter_factory = tests.servers.swift_cache:filter_factory",
        "s3api": "use = egg:swift#s3api\nlocation = us-east-1\ndns_compliant_bucket_names = false",
        "versioned_writes": "use = egg:swift#versioned_writes\nallow_versioned_writes = true",
        "tempauth": "use = egg:swift#tempauth\nuser_test_tester = testing .admin\n"
        f"user_test_reader = reading\nfernet_key_k = {key}\nactive_fernet_key_id = k",
    }
    text = f"bind_port = {port}\n[pipeline:main]\npipeline = {PIPELINE} proxy-server\n"
    text += "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
    text += "conn_timeout = 60\nnode_timeout = 120\n"  # a busy machine is no dead node
    # After ten late answers a proxy asks a node no more for a minute: on a loaded machine the only one there is.
    text += "error_suppression_limit = 1000000000\n"
    for name in PIPELINE.split():
        text += f"[filter:{name}]\n{settings.get(name, f'use = egg:swift#{name}')}\n"
    return text


def serve(folder: Path, port: int) -> None:
    """Run the four services as children, until a signal."""
    from swift.common.wsgi import run_wsgi

    files = configure(folder, port)
    children = []
    for service, file in files.items():
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            sys.argv = [f"swift-{service}-server"]
            name = "proxy-server" if service == "proxy" else "app"
            default = port if service == "proxy" else port + 1 + SERVICES.index(service)
            run_wsgi(str(file), name, default_port=default)
            os._exit(0)
        children.append(child)

    def stop(*_: object) -> None:
        for child in children:
            try:
                os.killpg(child, signal.SIGKILL)
            except OSError:
                os.kill(child, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while True:
        time.sleep(3600)


class SwiftServer:
    """The all-in-one server: ``url`` is the S3 endpoint, ``auth_url`` the one of Swift's v1 auth."""

    def __init__(self) -> None:
        from tests.servers.ports import free_port, wait_for

        port = free_port(4)
        self.url = f"http://127.0.0.1:{port}"
        self.auth_url = f"{self.url}/auth/v1.0"
        self.access_key, self.secret_key = "test:tester", "testing"
        self._folder = Path(tempfile.mkdtemp(prefix="reconcile-swift-"))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.swift", str(self._folder), str(port)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 300
        for service in range(1, len(SERVICES) + 1):
            wait_for(port + service, 60)
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/healthcheck", timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    self.close()
                    raise
                time.sleep(0.1)

    def close(self) -> None:
        """Stop the server and remove what it holds."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
