"""``reconcile scheduler``."""

from __future__ import annotations

from reconcile.cli.option import option, verb


@verb("scheduler", "bring parts of runs to workers on many machines")
@option("--listen", required=True, metavar="ADDRESS", help="Where to listen: tls://HOST:PORT.")
def command(listen: str) -> None:
    """Be Dask's scheduler for `reconcile apply --engine dask:ADDRESS`, until a signal comes.

    It opens no other port. Off this machine it takes TLS with client certificates alone; it knows nothing of documents,
    and nothing is lost with it.

    \b
      reconcile scheduler --listen tls://0.0.0.0:8786
    """
    from reconcile.workers.dask import schedule  # noqa: PLC0415 - an extra

    schedule(listen)
