"""``deploy/kubernetes`` and its guide: each Job's command line, run as its pod would, against real servers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml
from sqlalchemy.engine import make_url

from reconcile.catalog.lock import run_lock
from reconcile.cli.main import cli
from tests.cli.commands import parses
from tests.cli.desk import opened
from tests.deploy.cluster import KUBERNETES, REPOSITORY, Cluster, documents
from tests.servers.moto import MotoServer
from tests.world import World

JOBS = ("check", "plan", "stage", "switch", "verify", "clean", "undo")
GUIDE = REPOSITORY / "docs" / "kubernetes.md"
FORMER = {"catalog": 2, "api": 1, "analyzer": 5, "ui": 0}
DOWN = dict.fromkeys(FORMER, 0)
SECRET = "canary-of-the-cluster"


@pytest.fixture
def world(folder: Path, database: str) -> World:
    world = World(folder, database)
    world.fill(40)
    beat = {"hostid": "catalog-0", "servicename": "catalog", "base_url": "u", "status": True, "heartbeat": time.time()}
    world.insert("services", beat | {"heartbeat": int(time.time())})
    return world


@pytest.fixture
def cluster(world: World, moto: MotoServer) -> Iterator[Cluster]:
    """With configs as the chart renders them: the database by its parts, the keys by variables."""
    url = make_url(world.url)
    query = {key: str(value) for key, value in url.query.items()}
    variables = {
        "ANCHORE_DB_HOST": url.host or query.get("host", ""),
        "ANCHORE_DB_PORT": str(url.port or query.get("port", 5432)),
        "ANCHORE_DB_NAME": url.database or "",
        "ANCHORE_DB_USER": url.username or "",
        "ANCHORE_DB_PASSWORD": url.password or SECRET,
        "ANCHORE_OBJECT_STORE_ACCESS_KEY": moto.access_key,
        "ANCHORE_OBJECT_STORE_SECRET_KEY": SECRET,
    }
    settings = {
        "bucket": f"cluster-{uuid.uuid4().hex}",
        "url": moto.url,
        "access_key": "${ANCHORE_OBJECT_STORE_ACCESS_KEY}",
        "secret_key": "${ANCHORE_OBJECT_STORE_SECRET_KEY}",
        "create_bucket": True,
    }
    cluster = Cluster(folder=world.folder / "pod", variables=variables)
    with cluster.serving():
        for name, store in (
            ("source/config.yaml", {"name": "db", "config": {}}),
            ("dest/dest-config.yaml", {"name": "s3", "config": settings}),
        ):
            (cluster.folder / "config" / name).write_text(_config({"storage_driver": store}))
        yield cluster


def _config(object_store: dict[str, Any]) -> str:
    names = {"user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT", "name": "NAME"}
    database = {key: f"${{ANCHORE_DB_{name}}}" for key, name in names.items()}
    catalog = {"enabled": True, "object_store": object_store}
    return yaml.safe_dump({"credentials": {"database": database}, "services": {"catalog": catalog}})


def schemes(world: World) -> set[str]:
    return {url.partition(":")[0] for url in world.urls()}


def said_nowhere(cluster: Cluster, secret: str, *texts: str) -> None:
    files = [path.read_text() for path in (cluster.folder / "data").rglob("*") if path.is_file()]
    assert not [text for text in (*files, *texts) if secret in text]


def test_a_migration_in_a_cluster_and_back(world: World, cluster: Cluster) -> None:
    """Staged while the services run; down for the switch alone; cleaned while they run; taken back (R1, R5, R8)."""
    before, said = world.tables(), []
    for name in ("check", "plan", "stage"):
        done = cluster.run(name)
        assert done.returncode == 0, done.stdout + done.stderr
        said += [done.stdout, done.stderr]
    assert cluster.deployments == FORMER
    assert schemes(world) == {"db"}

    done = cluster.run("switch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the services stay down until they have the config" in done.stderr
    assert (schemes(world), cluster.deployments) == ({"s3"}, DOWN)
    assert world.sql("SELECT count(*) FROM archive_document")[0][0] == 40
    shown = subprocess.run(
        ["reconcile", "show", "plans/migration.json", "--format", "helm-values"],
        env=cluster.environment(), cwd=cluster.folder / "data", capture_output=True, text=True, check=True,
    )  # fmt: skip
    values = yaml.safe_load(shown.stdout)
    driver = values["anchoreConfig"]["catalog"]["object_store"]["storage_driver"]
    assert driver["config"]["secret_key"] == "${ANCHORE_OBJECT_STORE_SECRET_KEY}"
    assert values["osaaMigrationJob"] == {"enabled": False}

    cluster.deployments.update(FORMER)  # as the Helm upgrade does, with the new config
    for name in ("verify", "clean"):
        done = cluster.run(name)
        assert done.returncode == 0, done.stdout + done.stderr
        said += [done.stdout, done.stderr]
    assert world.sql("SELECT count(*) FROM archive_document")[0][0] == 0
    assert cluster.deployments == FORMER

    done = cluster.run("undo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (schemes(world), cluster.deployments) == ({"db"}, DOWN)
    up = [str(KUBERNETES / "services_down.py"), "--up"]
    subprocess.run(["python3", *up], env=cluster.environment(), check=True, capture_output=True)
    assert cluster.deployments == FORMER
    after = world.tables()
    assert {name: after[name] for name in ("archive_metadata", "archive_document")} == {
        name: before[name] for name in ("archive_metadata", "archive_document")
    }
    said_nowhere(cluster, SECRET, *said)


@pytest.mark.matrix
def test_what_switches_nothing_scales_the_services_back(world: World, cluster: Cluster) -> None:
    for name in ("plan", "stage"):
        assert cluster.run(name).returncode == 0
    world.add("sha256:late", b"late")
    world.sql("""UPDATE archive_document SET jsondata = 'damaged' WHERE "archiveId" = 'sha256:late'""")
    done = cluster.run("switch")
    assert done.returncode == 1, done.stderr
    assert "nothing was switched: the services are scaled back" in done.stderr
    assert (schemes(world), cluster.deployments) == ({"db"}, FORMER)
    assert not (cluster.folder / "data" / "replicas.json").exists()


@pytest.mark.matrix
def test_pods_that_do_not_end_are_named_and_nothing_is_done(world: World, cluster: Cluster) -> None:
    for name in ("plan", "stage"):
        assert cluster.run(name).returncode == 0
    cluster.going[0] = 10**6
    cluster.variables["SERVICES_DOWN_SECONDS"] = "1"
    done = cluster.run("switch")
    assert (done.returncode, "pods that did not end: one-that-goes" in done.stderr) == (1, True)
    assert "the services are scaled back" in done.stderr
    assert (schemes(world), cluster.deployments) == ({"db"}, FORMER)


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("failing", "code"),
    [
        ([("PATCH", 503), ("GET", 500)], 0),  # tried again
        ([("PATCH", 403)], 1),  # refused at the first deployment
        ([("GET", 500)] * 3 + [("PATCH", 500), ("PATCH", 409)], 1),
    ],
)
def test_an_api_that_fails_leaves_no_service_down_for_nothing(
    world: World, cluster: Cluster, failing: list[tuple[str, int]], code: int
) -> None:
    for name in ("plan", "stage"):
        assert cluster.run(name).returncode == 0
    cluster.failing += failing
    done = cluster.run("switch")
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert (schemes(world), cluster.deployments) == (({"db"}, FORMER) if code else ({"s3"}, DOWN))


@pytest.mark.matrix
@pytest.mark.parametrize("up", [False, True])
def test_a_pod_that_was_killed_in_the_middle_of_the_scaling_is_followed_by_one_that_knows(
    world: World, cluster: Cluster, up: bool
) -> None:
    """Some are scaled already, and some not yet, on the way down or up."""
    assert cluster.run("plan").returncode == 0
    kept = {"replicas": FORMER, "switched": []}
    (cluster.folder / "data" / "replicas.json").write_text(json.dumps(kept))
    cluster.deployments.update({"catalog": 2, "api": 0, "analyzer": 0 if up else 5})
    world.sql("""UPDATE archive_document SET jsondata = 'damaged' WHERE "archiveId" = 'sha256:0001'""")
    done = cluster.run("switch")
    assert (done.returncode, cluster.deployments) == (1, FORMER), done.stderr


@pytest.mark.matrix
def test_services_that_somebody_scaled_up_before_the_switch_are_named(world: World, cluster: Cluster) -> None:
    """A GitOps controller, say, that knows nothing of this."""
    for name in ("plan", "stage"):
        assert cluster.run(name).returncode == 0
    (command,) = cluster.commands("switch")
    url = f"http://127.0.0.1:{cluster.port}/apis/apps/v1/namespaces/anchore/deployments/api/scale"
    up = (
        "import urllib.request as r;"
        f"r.urlopen(r.Request({url!r}, method='PATCH', data=b'{{\"spec\": {{\"replicas\": 1}}}}'))"
    )
    both = f"{shlex.join(command[3:])} && python3 -c {shlex.quote(up)}"
    done = subprocess.run(
        [*command[:3], "sh", "-c", both],
        env=cluster.environment(),
        cwd=cluster.folder / "data",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "somebody has scaled api up meanwhile" in done.stderr) == (0, True), done.stderr


@pytest.mark.matrix
def test_a_second_pod_leaves_the_services_to_the_one_at_work(world: World, cluster: Cluster) -> None:
    """Whose switch is to come: scaled up by this one, they would run with the old config."""
    for name in ("plan", "stage"):
        assert cluster.run(name).returncode == 0
    with opened(world) as catalog, run_lock(catalog, 1):
        cluster.variables["RECONCILE_LOCK_WAIT"] = "0"
        done = cluster.run("switch")
    assert (done.returncode, "the services are left to it" in done.stderr) == (10, True), done.stderr
    assert cluster.deployments == DOWN
    assert (cluster.folder / "data" / "replicas.json").exists()
    assert cluster.run("switch").returncode == 0
    assert (schemes(world), cluster.deployments) == ({"s3"}, DOWN)


@pytest.mark.matrix
def test_a_pod_that_is_ended_while_it_waits_scales_the_services_back(world: World, cluster: Cluster) -> None:
    for name in ("plan", "stage"):
        assert cluster.run(name).returncode == 0
    cluster.going[0] = 10**6
    (command,) = cluster.commands("switch")
    pod = subprocess.Popen(command, env=cluster.environment(), cwd=cluster.folder / "data", stderr=subprocess.PIPE)
    while any(cluster.deployments.values()) and pod.poll() is None:
        time.sleep(0.02)
    pod.send_signal(signal.SIGTERM)
    pod.communicate(timeout=300)
    assert pod.returncode == 143
    assert (schemes(world), cluster.deployments) == ({"db"}, FORMER)


@pytest.mark.matrix
def test_a_label_of_no_deployment_is_refused(world: World, cluster: Cluster) -> None:
    cluster.run("plan")
    cluster.variables["SERVICES_SELECTOR"] = "app=another"
    done = cluster.run("switch")
    assert (done.returncode, "no deployment has the label app=another" in done.stderr) == (1, True)
    assert cluster.deployments == FORMER


@pytest.mark.matrix
@pytest.mark.parametrize("switched", [False, True])
def test_a_pod_that_follows_an_evicted_one_knows_the_former_numbers(
    world: World, cluster: Cluster, switched: bool
) -> None:
    """The first one is killed right after the scaling, or right after the switch."""
    for name in ("plan", "stage"):
        assert cluster.run(name).returncode == 0
    (command,) = cluster.commands("switch")
    if switched:
        killer = [*command[:3], "python3", "-m", "tests.crash.killer", "after the switch", *command[4:]]
    else:
        killer = [*command[:3], "sleep", "60"]
    environment = cluster.environment() | {"PYTHONPATH": str(REPOSITORY)}
    work = cluster.folder / "data"
    first = subprocess.Popen(killer, env=environment, cwd=work, stderr=subprocess.PIPE, start_new_session=True)
    if not switched:
        while (any(cluster.deployments.values()) or cluster.going[0]) and first.poll() is None:
            time.sleep(0.02)
        os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert cluster.deployments == DOWN
    kept = json.loads((cluster.folder / "data" / "replicas.json").read_text())
    assert kept["replicas"] == FORMER
    done = cluster.run("switch")
    assert done.returncode == 0, done.stderr
    assert (schemes(world), cluster.deployments) == ({"s3"}, DOWN)
    cluster.deployments.update(FORMER)  # once more by mistake, with the services up: they are up again afterwards
    assert cluster.run("switch").returncode == 0
    assert cluster.deployments == FORMER


def test_a_pod_that_is_ended_within_its_grace_leaves_a_run_to_resume(world: World, cluster: Cluster) -> None:
    """SIGTERM, which the node sends: 143, which counts, and the Job's next pod resumes (R6)."""
    assert cluster.run("plan").returncode == 0
    (command,) = cluster.commands("stage")
    pod = subprocess.Popen(
        [*command, "--max-rate", "4"], env=cluster.environment(), cwd=cluster.folder / "data", stderr=subprocess.PIPE
    )
    events = cluster.folder / "data" / "events.jsonl"
    while not (events.exists() and '"phase"' in events.read_text()):
        time.sleep(0.05)
    pod.send_signal(signal.SIGTERM)
    pod.communicate(timeout=300)  # well within terminationGracePeriodSeconds
    assert pod.returncode == 143
    assert cluster.run("stage").returncode == 0
    assert world.sql("SELECT count(*) FROM reconcile_moves WHERE state = 'staged'")[0][0] == 40


@pytest.mark.matrix
def test_a_config_that_was_kept_is_not_replaced(world: World, cluster: Cluster) -> None:
    assert cluster.run("plan").returncode == 0
    source = cluster.folder / "config" / "source" / "config.yaml"
    source.write_text(source.read_text() + "# edited\n")
    done = cluster.run("plan")
    assert (done.returncode, "was kept for an earlier migration" in done.stderr) == (78, True)


def test_the_manifests_are_valid_and_say_what_each_exit_code_does() -> None:
    files = [path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml"]
    for file in files:
        for found in documents(file):
            for version in ("1.30", "1.33"):
                kubernetes_validate.validate(found, version, strict=True)
    assert {file.stem for file in files} == {*JOBS, "access", "network-policy", "work", "workers"}
    documented = {
        int(code)
        for codes in re.findall(r"(?m)^\| ([\d, ]+) \|", (REPOSITORY / "docs" / "exit-codes.md").read_text())
        for code in codes.split(", ")
    }
    for name in JOBS:
        (job,) = documents(KUBERNETES / f"{name}.yaml")
        rules = job["spec"]["podFailurePolicy"]["rules"]
        by_action = {rule["action"]: rule.get("onExitCodes", {}).get("values", []) for rule in rules}
        assert by_action["Count"] == [11, 143]
        assert set(by_action["FailJob"]) | {0, 11, 143} == documented
        pod = job["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] == (name in ("switch", "undo"))
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            assert container["securityContext"]["readOnlyRootFilesystem"]


def test_the_workers_of_an_engine_are_started_as_the_command_line_takes_them() -> None:
    found = documents(KUBERNETES / "workers.yaml")
    pods = [one["spec"]["template"] for one in found if one["kind"] == "Deployment"]
    service = next(one for one in found if one["kind"] == "Service")
    policy = next(one for one in found if one["kind"] == "NetworkPolicy")
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        verb, *arguments = container["args"]
        with click.Context(cli, info_name="reconcile") as context:
            command = cli.get_command(context, verb)
            assert command is not None
            command.make_context(verb, arguments, parent=context).close()
        assert not pod["spec"]["automountServiceAccountToken"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["selector"] == pods[0]["metadata"]["labels"]
    assert pods[1]["spec"]["containers"][0]["args"][2] == f"tls://{service['metadata']['name']}:8786"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_puts_it_together() -> None:
    made = subprocess.run(["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, check=True).stdout
    found = [(item["kind"], item["metadata"]["namespace"]) for item in yaml.safe_load_all(made)]
    kinds = ["ConfigMap", "NetworkPolicy", "PersistentVolumeClaim", "Role", "RoleBinding", "ServiceAccount"]
    assert sorted({kind for kind, _namespace in found}) == kinds
    assert {namespace for _kind, namespace in found} == {"anchore"}


def test_the_commands_of_the_guide_are_commands(folder: Path) -> None:
    """Files and Jobs that it names are there; what it has of ours, the parser takes. There is no cluster here."""
    blocks = re.findall(r"```text\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    lines = [line.split(" # ")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    assert {line.split()[0] for line in lines if line} <= {"kubectl", "helm", "podman", "make", "reconcile", "git"}
    jobs = {f"job/{documents(KUBERNETES / f'{name}.yaml')[0]['metadata']['name']}" for name in JOBS}
    used = set()
    for line in filter(None, lines):
        words = shlex.split(line)
        if words[0] == "reconcile":
            parses(line, REPOSITORY)
        for word in words:
            if word.startswith("deploy/"):
                assert (REPOSITORY / word).exists(), line
                used.add(word)
            if word.startswith("job/"):
                assert word in jobs, line
    assert {f"deploy/kubernetes/{name}.yaml" for name in JOBS} <= used
