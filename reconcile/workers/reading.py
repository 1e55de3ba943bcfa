"""What a worker has open for an audit, or for the probe of a plan: parts that only read."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve, frozen

from reconcile._version import __version__
from reconcile.auditing.contents import Judge, OpenStores
from reconcile.auditing.probe_part import PartProber, ProbedPart
from reconcile.auditing.verify_part import PartVerifier, VerifiedPart
from reconcile.catalog import Catalog, connect
from reconcile.config import Config, load_config
from reconcile.engines import Message, Setup
from reconcile.errors import ConfigError
from reconcile.planning.decide import DesiredState
from reconcile.planning.probe import Prober
from reconcile.planning.reach import Reach
from reconcile.running.record.parts import Part


@frozen
class Reading:
    """One audit or probe, as a worker has it open: its id, the database, and what does a part of it."""

    key: str
    catalog: Catalog
    do: Callable[[Part], VerifiedPart | ProbedPart]

    def close(self) -> None:
        """Let go of the database."""
        self.catalog.close()


def _audit(setup: Setup, message: Message) -> Reading:
    """Open an audit. Raises `ConfigError` where the worker's configs are others than the audit's."""
    config = _config_of(setup, message["config"], "the one that is audited", "audited")
    catalog = _connected(setup)
    desired = DesiredState(config, config)
    judge = Judge(catalog, desired, OpenStores(catalog), Reach(catalog, desired))
    return Reading(message["audit"], catalog, PartVerifier(judge, message["audit"], message["sample"]).verify)


def _probe(setup: Setup, message: Message) -> Reading:
    """Open the probe of a plan. Raises `ConfigError` where the worker's configs are others than the plan's."""
    source = _config_of(setup, message["source"], "the plan's source", "asked")
    dest = _config_of(setup, message["dest"], "the plan's destination", "asked")
    catalog = _connected(setup)
    desired = DesiredState(source, dest, message["allow_unreadable"])
    prober = Prober(catalog, desired, digests=message["digests"], overwrite=message["overwrite"])
    return Reading(message["audit"], catalog, PartProber(prober, message["places"], message["audit"]).probe)


READINGS: dict[str, Callable[[Setup, Message], Reading]] = {"verify": _audit, "probe": _probe}


def _connected(setup: Setup) -> Catalog:
    return connect(evolve(setup.database, pool_size=2 * setup.threads), database_config(setup))


def _config_of(setup: Setup, fingerprint: str, which: str, done: str) -> Config:
    found = _configs(setup)
    for config in found:
        if config.fingerprint() == fingerprint:
            return config
    has = ", ".join(f"{config.path} ({config.fingerprint()})" for config in found) or "none"
    raise ConfigError(
        f"the worker's configs are not {which} ({fingerprint}): it has {has}; nothing was {done} by it",
        hint="start workers with RECONCILE_SOURCE or RECONCILE_DEST set to a copy of that config",
    )


def database_config(setup: Setup) -> Config | None:
    """Return the config that names the database; None where options do."""
    found = _configs(setup)
    return next((config for config in found if config.database is not None), found[0] if found else None)


def _configs(setup: Setup) -> list[Config]:
    return [load_config(path) for path in (setup.source, setup.dest) if path is not None and path.exists()]


def refuse_other_version(message: Message) -> None:
    """Raise `ConfigError` for a message of another version of this tool."""
    if message["version"] != __version__:
        raise ConfigError(
            f"this worker is reconcile {__version__}, the run is led by {message['version']}: they have to"
            " be the same; nothing was done by it"
        )
