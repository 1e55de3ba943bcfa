"""``reconcile approve``."""

from __future__ import annotations

from pathlib import Path

import click

from reconcile.cli.env_option import PATH, option, verb
from reconcile.cli.lines import show
from reconcile.commands import command_line
from reconcile.planning.approval import sign, signature_file
from reconcile.planning.planfile import open_whole_plan


@verb("approve", "sign a plan, so that apply can require the approval")
@click.argument("plan", type=PATH)
@option(
    "--key",
    type=PATH,
    required=True,
    help="An SSH key: the file of the private key, or of the public key if the agent holds the private one.",
)
@option("--out", type=PATH, help="File of the signature.  [default: beside the plan, p.json gives p.json.sig]")
def command(plan: Path, key: Path, out: Path | None) -> None:
    """Sign the digest of PLAN with ssh-keygen, which asks for the key's passphrase if it has one.

    Reads the plan's file only: no database, no config. With --require-approval, apply accepts only a plan that an
    allowed signer has approved. The signature has OpenSSH's format: ssh-keygen -Y verify -n reconcile-plan checks it.

    \b
      reconcile approve plans/to-s3.json --key ~/.ssh/id_ed25519
      reconcile apply plans/to-s3.json --require-approval allowed_signers
    """
    whole = open_whole_plan(plan)
    digest, file = whole.verify(), out or signature_file(plan)
    sign(plan, digest, key, file)
    approval = None if out is None else out
    show(
        [
            f"{plan} is approved with {key}: {digest}",
            f"saved as {file}",
            f"next: {command_line('apply', plan, require_approval='ALLOWED_SIGNERS', approval=approval)}",
        ]
    )
