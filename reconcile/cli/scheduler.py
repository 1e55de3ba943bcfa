"""``reconcile scheduler``."""

from __future__ import annotations

from reconcile.cli.env_option import option, verb


@verb("scheduler", "distribute parts of runs to workers on many machines")
@option("--listen", required=True, metavar="ADDRESS", help="Address to listen on: tls://HOST:PORT.")
def command(listen: str) -> None:
    """Run the Dask scheduler for `reconcile apply --engine dask:ADDRESS`, until it gets a signal.

    It opens no other port. From other machines it accepts only TLS with client certificates. It holds no documents:
    if it stops, nothing is lost.

    \b
      reconcile scheduler --listen tls://0.0.0.0:8786
    """
    from reconcile.workers.dask import schedule  # noqa: PLC0415 - an extra

    schedule(listen)
