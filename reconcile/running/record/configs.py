"""The two configs of a plan, wherever they are now: found by their content, not by their former path.

After a switch the new config takes the old one's place, so the path that a plan recorded holds the other config. A
config is known by its fingerprint, which credentials are no part of: they are read from the file that is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from attrs import frozen

from reconcile.commands import old_names
from reconcile.config import Backend, Config, load_config
from reconcile.config.model import ANALYSIS_ARCHIVE, OBJECT_STORE, Compression
from reconcile.errors import ConfigError
from reconcile.logs import get_logger
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import ConfigReference, PlanHeader
from reconcile.planning.nesting import refuse_nested
from reconcile.planning.render import backend_text

_NEED_NO_CREDENTIALS = {"db", "db2", "localfs"}

log = get_logger()


def configs_of(header: PlanHeader, source: Path | None, dest: Path | None, *, anywhere: bool = False) -> DesiredState:
    """Load the two configs of a plan, from the files given or from those it recorded.

    ``anywhere``, for a run that is switched: where such a file has changed, all known files are searched, and for
    a config without any credential the plan itself says enough. Raises `ConfigError` if no config is
    found that is unchanged since the plan, credentials aside.
    """
    going_forward = header.undo_of is None  # an undo leads back to whatever the services had
    recorded = [Path(header.source.path), Path(header.dest.path)]
    known = [source, dest, *recorded, *chain.from_iterable(map(old_names, recorded))] if anywhere else None
    desired = DesiredState(
        _find(_Wanted("source", header.source, source), known),
        _find(_Wanted("dest", header.dest, dest, is_destination=going_forward), known),
        header.policy.allow_unreadable,
    )
    if going_forward:
        refuse_nested(desired)
    return desired


def path_now(header: PlanHeader, reference: ConfigReference, first: str | None = None) -> Path | None:
    """Return the file that is unchanged from a config of a plan; its recorded path if no file is needed, else None.

    ``first`` is preferred to the file that the plan recorded, if it is unchanged too.
    """
    recorded = [Path(header.source.path), Path(header.dest.path)]
    if first is not None and _loaded(_Wanted("", reference, None), Path(first)) is not None:
        return Path(first)
    own = Path(reference.path)
    try:
        found = _find(_Wanted("", reference, None), [own, *recorded, *chain.from_iterable(map(old_names, recorded))])
    except ConfigError:
        return None
    return Path(reference.path) if found.path == own.absolute() else found.path


@frozen
class _Wanted:
    """One side of a plan, and the file that was named for it."""

    option: str
    reference: ConfigReference
    given: Path | None
    is_destination: bool = False

    def load(self, path: Path) -> Config:
        return load_config(path, destination=self.is_destination)


def _find(wanted: _Wanted, known: Sequence[Path | None] | None) -> Config:
    """Return the wanted config from its own file, or from the others known; None: no other file counts."""
    first = wanted.given or Path(wanted.reference.path)
    found = _loaded(wanted, first, strict=wanted.given is not None or known is None)
    if found is None and known is not None:
        found = _found_among(wanted, known) or _without_credentials(wanted.reference)
        if found is not None and wanted.given is not None:
            said = "the given file is not the config that the plan was made with; the matching file is used"
            log.warning(said, option=wanted.option, given=str(wanted.given), used=str(found.path))
    return found or _raise(wanted, first)


def _found_among(wanted: _Wanted, paths: Sequence[Path | None]) -> Config | None:
    for path in dict.fromkeys(path for path in paths if path is not None):
        config = _loaded(wanted, path)
        if config is not None:
            if wanted.option:
                log.info("a config of the plan was found in another file", option=wanted.option, file=str(path))
            return config
    return None


def _loaded(wanted: _Wanted, path: Path, *, strict: bool = False) -> Config | None:
    """Return the config of a file if it is the one that is wanted; ``strict``: raise for a file that is no config."""
    if not path.exists():
        return None
    try:
        config = wanted.load(path)
    except ConfigError:
        if strict:
            raise
        return None
    return config if config.fingerprint() == wanted.reference.fingerprint else None


def _without_credentials(reference: ConfigReference) -> Config | None:
    """Return the config that a plan describes, if its backends need nothing but what the plan says."""
    if {backend["driver"] for backend in reference.backends.values()} - _NEED_NO_CREDENTIALS:
        return None
    backends = {role: _backend(role, described) for role, described in reference.backends.items()}
    config = Config(Path(reference.path), backends[OBJECT_STORE], backends.get(ANALYSIS_ARCHIVE), is_from_plan=True)
    if config.fingerprint() != reference.fingerprint:
        return None
    log.info("a config is no longer in its file; the plan's record of it is used", file=reference.path)
    return config


def _backend(role: str, described: dict[str, Any]) -> Backend:
    return Backend(role, described["driver"], dict(described["settings"]), Compression(**described["compression"]))


def _raise(wanted: _Wanted, path: Path) -> Config:
    option, reference = wanted.option, wanted.reference
    said = "; ".join(f"{role}: {backend_text(backend)}" for role, backend in reference.backends.items())
    if not path.exists():
        raise ConfigError(
            f"{path}: no such config file; it was the plan's {option} config, with {said}; nothing was done",
            hint=f"the same command with --{option} FILE: the file that has this content now, or a copy of it",
        )
    now = wanted.load(path).describe()
    raise ConfigError(
        f"{path}: this is not the {option} config that the plan was made with: "
        + "; ".join(_differences(option, reference.backends, now)),
        hint=f"the same command with --{option} FILE: a file with the planned content, such as a copy of the "
        "old config.yaml",
    )


def _differences(option: str, then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for role in sorted({*then, *now}):
        if then.get(role) != now.get(role):
            was, says = backend_text(then.get(role)), backend_text(now.get(role))
            yield f"{role}: {option} was {was}, this file has {says}"
