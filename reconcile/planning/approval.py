"""Approval of a plan: a detached signature of its digest, made and verified by OpenSSH's ``ssh-keygen -Y``.

So keys in an agent or on a token work as they do elsewhere, and the file of allowed signers is the one that git takes,
with times of validity; see ssh-keygen(1), "ALLOWED SIGNERS". What is signed is the digest, as ``sha256:`` and hex, and
a line feed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from attrs import frozen

from reconcile.commands import command_line
from reconcile.errors import ReconcileError, UsageError
from reconcile.logs import printable

NAMESPACE = "reconcile-plan"
_GOOD = re.compile(r'Good "[^"]+" signature for (?P<signer>.+) with (?P<key>\S+ key \S+)')


@frozen
class Approval:
    """Who approved a plan: a name of the file of allowed signers, and the key, such as ``ED25519 key SHA256:...``."""

    signer: str
    key: str

    def describe(self) -> str:
        """Return it for people, and for the record of a run."""
        return f"{self.signer}, by {self.key}"


def signature_file(plan: Path) -> Path:
    """Return the default path of a plan's signature."""
    return plan.with_name(f"{plan.name}.sig")


def sign(plan: Path, digest: str, key: Path, out: Path) -> None:
    """Sign a plan's digest; ``key`` is a private key, or the public one of a key that an agent has.

    Raises `UsageError` where ``out`` is there already, `ReconcileError` where ssh-keygen does not sign.
    """
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out}: this file exists already; nothing was signed", hint="name another with --out")
    if not key.exists():
        raise UsageError(f"--key {key}: no such key; {plan} was not signed", hint="ssh-keygen -t ed25519    makes one")
    done = _ssh_keygen("sign", "-f", str(key), "-n", NAMESPACE, given=_signed(digest))
    if done.returncode or not done.stdout:
        raise ReconcileError(
            f"{key}: {plan} was not signed: {_said(done)}",
            hint="check that it is a private key, or that the agent holds its private key",
        )
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(done.stdout)
    except OSError as error:
        raise ReconcileError(
            f"{out}: the signature cannot be written: {error.strerror}", hint="name another file with --out"
        ) from None


def verify(plan: Path, digest: str, signature: Path, allowed: Path) -> Approval:
    """Return who approved a plan. Raises `UsageError` unless that is an allowed signer, whose key is valid today."""
    hint = (
        "an allowed signer approves it with reconcile approve (--out FILE if there is a signature already; "
        f"then apply --approval FILE)\n{command_line('show', plan)}    shows the digest"
    )
    for file, what in ((allowed, "file of allowed signers"), (signature, "approval")):
        if not file.exists():
            raise UsageError(f"{plan}: no {what} {file}; nothing was done", hint=hint)
    found = _ssh_keygen("find-principals", "-s", str(signature), "-f", str(allowed))
    said = _said(found)
    for signer in found.stdout.splitlines() if found.returncode == 0 else ():
        checked = _ssh_keygen(
            *("verify", "-s", str(signature), "-f", str(allowed), "-I", signer, "-n", NAMESPACE), given=_signed(digest)
        )
        good = _GOOD.search(checked.stdout)
        if checked.returncode == 0 and good:
            return Approval(printable(signer), printable(good["key"]))
        said = _said(checked)
    raise UsageError(
        f"{plan}: {signature} is not a valid approval by a signer in {allowed}: {said}; nothing was done", hint=hint
    )


def _signed(digest: str) -> str:
    return f"{digest}\n"


def _ssh_keygen(how: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise ReconcileError(
            "ssh-keygen is not installed; nothing was done", hint="install OpenSSH's client, 8.2 or later"
        )
    return subprocess.run(  # noqa: S603 - an asked question goes to the terminal, not through here
        [program, "-Y", how, *arguments], input=given, capture_output=True, text=True, check=False
    )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return printable("; ".join(line.rstrip(".") for line in lines) or f"ssh-keygen ended with {done.returncode}")
