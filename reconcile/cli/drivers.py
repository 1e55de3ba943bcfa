"""``reconcile drivers``."""

from __future__ import annotations

from importlib.util import find_spec

import click

from reconcile.cli.env_option import verb
from reconcile.config.drivers import DRIVERS
from reconcile.formatting import to_install


@verb("drivers", "list the drivers")
def command() -> None:
    """List the five drivers, their config keys, and what is installed.

    \b
      reconcile drivers
    """
    for driver in DRIVERS.values():
        missing = [name for name in driver.needs if find_spec(name) is None]
        state = f"not installed: {to_install(driver.name)}" if missing else "installed"
        click.echo(f"{driver.name:<8} {driver.scheme}://  {driver.about}; {state}")
        for key in driver.keys:
            click.echo(f"           {key.name:<18} {key.about}{' (required)' if key.required else ''}")
