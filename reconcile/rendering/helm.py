"""The new config as values of the vendor's Helm chart, with references to Secrets and without any secret."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from reconcile.commands import command_line
from reconcile.config.model import ANALYSIS_ARCHIVE, OBJECT_STORE
from reconcile.planning.planfile import PlanFile

_SECRET = "anchore-enterprise-storage"  # noqa: S105 - the name of a Kubernetes Secret
_NAMES = {OBJECT_STORE: "ANCHORE_OBJECT_STORE", ANALYSIS_ARCHIVE: "ANCHORE_ANALYSIS_ARCHIVE"}


def helm_values(plan: PlanFile) -> Iterator[str]:
    """Yield the values that bring the services the plan's destination config, as YAML with comments.

    Keys and variables are those of the chart ``anchore/enterprise``: what stands below ``anchoreConfig.catalog`` goes
    into the services' config as it is, where ``${NAME}`` is replaced by the environment of the pods.
    """
    backends = plan.header.dest.backends
    catalog: dict[str, Any] = {}
    variables: list[str] = []
    for role, backend in backends.items():
        settings = dict(backend["settings"])
        for key in _credentials(backend["driver"], settings):
            variable = f"{_NAMES[role]}_{key.upper()}"
            settings[key] = f"${{{variable}}}"
            variables.append(variable)
        enabled = {"enabled": True} if role == ANALYSIS_ARCHIVE else {}
        driver = {"name": backend["driver"], "config": settings}
        catalog[role] = enabled | {"compression": backend["compression"], "storage_driver": driver}
    catalog.setdefault(ANALYSIS_ARCHIVE, {})
    yield f"# What the services need after {command_line('apply', plan.path)} has switched the catalog.\n"
    yield "# In a file of its own: helm upgrade RELEASE anchore/enterprise --reuse-values -f FILE\n"
    if plan.header.source.backends.get(OBJECT_STORE) != backends[OBJECT_STORE]:
        yield "# The object store changes. If the services have a bootstrap_ng.yaml (6.x, the component catalog),\n"
        yield (
            "# object_store is at the root of that file, too: check whether your chart fills it from these values.\n"
        )
    yield yaml.safe_dump({"anchoreConfig": {"catalog": catalog}}, sort_keys=False)
    yield "# The chart's own migration would copy everything again.\n"
    yield yaml.safe_dump({"osaaMigrationJob": {"enabled": False}})
    if variables:
        yield f"# Credentials: variables of the pods, from a Secret. Create {_SECRET} with these keys, or\n"
        yield "# name your own Secret. If your chart sets these variables itself, omit this.\n"
        yield yaml.safe_dump({"extraEnv": [_reference(name) for name in variables]}, sort_keys=False)


def _credentials(driver: str, settings: dict[str, Any]) -> tuple[str, ...]:
    """Return the keys that hold the credentials of a backend: a plan leaves them out."""
    if driver == "s3" and not settings.get("iamauto"):
        return ("access_key", "secret_key")
    if driver == "swift":
        return ("user", "key") if settings.get("auth_version", "1") == "1" else ("os_username", "os_password")
    return ()


def _reference(variable: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": _SECRET, "key": variable}}}
