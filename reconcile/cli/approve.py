"""``reconcile approve``."""

from __future__ import annotations

from pathlib import Path

import click

from reconcile.cli.lines import show
from reconcile.cli.option import PATH, option, verb
from reconcile.commands import command_line
from reconcile.planning.approval import sign, signature_file
from reconcile.planning.planfile import open_whole_plan


@verb("approve", "sign a plan, so that others can insist on it")
@click.argument("plan", type=PATH)
@option("--key", type=PATH, required=True, help="An SSH key: the private one, or the public one of a key in the agent.")
@option("--out", type=PATH, help="File of the signature.  [default: beside the plan, p.json gives p.json.sig]")
def command(plan: Path, key: Path, out: Path | None) -> None:
    """Sign the digest of PLAN, by ssh-keygen, which asks for the key's passphrase if it has one.

    Nothing else is read or changed: no database, no config. apply --require-approval takes no plan but one that an
    allowed signer has approved. The signature is of OpenSSH's format: ssh-keygen -Y verify -n reconcile-plan reads it.

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
            f"{plan} is approved, by {key}: {digest}",
            f"saved as {file}",
            f"next: {command_line('apply', plan, require_approval='ALLOWED_SIGNERS', approval=approval)}",
        ]
    )
