"""``--metrics-file`` and ``--metrics-push``: opened as the options are read, as `reconcile.cli.events` is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reconcile.cli.env_option import PATH, option
from reconcile.logs import feed

if TYPE_CHECKING:
    from reconcile.metrics.publishing import Publisher

F = TypeVar("F", bound=Callable[..., Any])

_publishers: list[Publisher] = []


def _publisher(context: click.Context) -> Publisher:
    """Return the command's publisher, which both options share. What is asked for no metrics loads no library."""
    from reconcile.metrics.publishing import Publisher  # noqa: PLC0415
    from reconcile.metrics.registry import Metrics  # noqa: PLC0415

    if not _publishers:
        _publishers.append(Publisher(Metrics(str(context.info_name))))
        feed(_publishers[0])
    return _publishers[0]


def _to_file(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    from reconcile.metrics.publishing import text_file  # noqa: PLC0415

    try:
        sink, publisher = text_file(path), _publisher(context)
        sink(publisher.metrics.registry)
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    publisher.add(sink)


def _to_gateway(context: click.Context, _parameter: click.Parameter, url: str | None) -> None:
    if url is None:
        return
    from reconcile.metrics.publishing import gateway  # noqa: PLC0415

    try:
        sink = gateway(url)
    except ValueError:
        raise click.BadParameter("the value is not a URL such as http://pushgateway:9091") from None
    _publisher(context).add(sink)


def ended(code: int) -> None:
    """Write the metrics of the command a last time."""
    while _publishers:
        _publishers.pop().end(code)


def metrics_options(command: F) -> F:
    """Add the two options."""
    command = option(
        "--metrics-push",
        metavar="URL",
        expose_value=False,
        is_eager=True,
        callback=_to_gateway,
        help="Push metrics to this Prometheus Pushgateway. If the URL holds a password, set it in the environment.",
    )(command)
    return option(
        "--metrics-file",
        type=PATH,
        expose_value=False,
        is_eager=True,
        callback=_to_file,
        help="Keep metrics in this file, X.prom, for node_exporter's textfile collector.",
    )(command)
