"""The command ``reconcile``: global options, the verbs, and how errors end the process."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import click

from reconcile import __version__
from reconcile.cli import events, hooks, metrics, traces
from reconcile.cli.env_option import PATH, option
from reconcile.control import relaxed_gc
from reconcile.errors import Interrupted, ReconcileError, UsageError
from reconcile.limits import exceeded
from reconcile.logs import LEVELS, configure, get_logger, log_tracebacks, printable
from reconcile.secret import scrub

_said: list[str | None] = [None, None]  # the error that ends the process, and what to do next
_EXIT_USAGE = 64
_EXIT_INTERRUPTED = 130
_SIGNALLED = (130, 143)
_VERBS = (
    *("plan", "show", "diff", "approve", "apply", "undo"),
    *("check", "verify"),
    *("status", "runs", "report", "clean", "forget", "rebind"),
    *("worker", "scheduler"),
    *("drivers", "completion"),
)


# What people type from other tools, and what it is here.
_ELSEWHERE = {
    "list": "reconcile runs",
    "history": "reconcile runs",
    "rollback": "reconcile undo RUN",
    "revert": "reconcile undo RUN",
    "resume": "reconcile apply PLAN    resumes the plan's run",
    "continue": "reconcile apply PLAN: the same command resumes",
    "run": "reconcile apply PLAN",
    "validate": "reconcile check CONFIG",
    "audit": "reconcile verify CONFIG",
    "delete": "reconcile clean RUN",
    "serve": "reconcile status --watch",
    "objectstorage": "reconcile --help    lists the commands; docs/coming-from-anchore-manager.md has a table",
    "migrate": "reconcile plan SOURCE DEST    then reconcile apply PLAN",
    "list-migrations": "reconcile runs",
    "list-drivers": "reconcile drivers",
}


_THE_SAME = re.compile(r"\bsame command\b(?! with --)")
_CREDENTIALS = re.compile(r"://|--serve-token")  # a password may stand anywhere in a URL, its query included
_DRY_RUN = ("--dry-run", "--dryrun", "--check", "--what-if", "--noop")

_EPILOG = (
    "Every option can be set in the environment: RECONCILE_DB_CONNECT for all commands, "
    "RECONCILE_APPLY_DB_CONNECT for one."
)


class Verbs(click.Group):
    """The commands, each loaded from its own module on first use."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(_VERBS)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for the name that another tool uses, the error names ours."""
        if args[0] not in _VERBS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - for this error alone

            alike = difflib.get_close_matches(args[0], _VERBS, 1)
            known = "reconcile --help    lists the verbs"
            if alike:
                known = f"did you mean {alike[0]}?\nreconcile {alike[0]} --help    shows how it is used"
            raise UsageError(f"unknown command {printable(args[0])}", hint=_ELSEWHERE.get(args[0], known))
        return super().resolve_command(context, args)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        with relaxed_gc():  # as in __main__
            command = import_module(f"reconcile.cli.{name}").command
        assert isinstance(command, click.Command)  # noqa: S101
        return command


@click.group(
    cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=_EPILOG
)
@click.version_option(__version__, prog_name="reconcile")
@option("--log-level", type=click.Choice(LEVELS), help="[default: warning on a terminal, else info]")
@option("--log-format", type=click.Choice(("json", "console")), help="[default: console on a terminal, else json]")
@option("--log-file", type=PATH, help="Append the log to this file instead of stderr.")
@option("--quiet", is_flag=True, help="Show no progress, and log errors only, unless --log-level is given.")
@option("--verbose", is_flag=True, help="Log every document, unless --log-level is given.")
@click.pass_context
def cli(
    context: click.Context,
    log_level: str | None,
    log_format: str | None,
    log_file: Path | None,
    *,
    quiet: bool,
    verbose: bool,
) -> None:
    """Move the documents of an Anchore archive between storage drivers.

    Write the services' config file as it should be, make a plan, review it, apply it. Undo reverts an applied plan.

    \b
      reconcile plan config.yaml dest-config.yaml
      reconcile apply plans/<plan id>.json
    """
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose are mutually exclusive")
    on_screen = sys.stderr.isatty() and log_file is None
    level = log_level or ("error" if quiet else "debug" if verbose else "warning" if on_screen else "info")
    try:
        configure(level, log_format, log_file)
    except OSError as error:
        raise click.BadParameter(f"{log_file}: {error.strerror}", param_hint="--log-file") from None
    context.obj = quiet


def main() -> None:
    """Run the command line; every error becomes a message on stderr and an exit code."""
    configure("error")  # until the options are known
    log_tracebacks()
    _said[:] = [None, None]
    try:
        code = cli.main(prog_name="reconcile", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = _EXIT_USAGE
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = _report("interrupted", "reconcile status    shows the state of the run", _EXIT_INTERRUPTED)
    except click.UsageError as error:
        if error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
        code = _report(error.format_message(), _usage_hint(error), _EXIT_USAGE)
    except ReconcileError as error:
        code = _report(error.message, error.hint, error.code if isinstance(error, Interrupted) else error.exit_code)
    except OSError as error:
        code = _lost_output(error)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the last resort: never a raw traceback, it may hold a credential
        code = _defect(error)  # a panic of a library in Rust is no `Exception`
    code = code if isinstance(code, int) else 0
    events.ended(code, *_said)
    metrics.ended(code)
    traces.ended(code)
    _tell_hooks(code)
    if code in _SIGNALLED and any(thread.name.startswith("reconcile") for thread in threading.enumerate()):
        _leave(code)
    sys.exit(code)


def _tell_hooks(code: int) -> None:
    """Wait for those who are told of the end; a signal ends the wait, and does not change what came of the command."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        hooks.ended(code, *_said)
    except KeyboardInterrupt:
        get_logger().warning("stopped without waiting for the hooks")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(code: int) -> None:
    """End without waiting for threads that only read: a server may let them wait for long."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _usage_hint(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption) and error.option_name in _DRY_RUN:
        return "reconcile show PLAN    shows what a plan would do; undo and clean have --dry-run"
    if error.ctx is not None and error.ctx.parent is not None:
        return f"reconcile {error.ctx.info_name} --help"
    verb = next((f"{word} " for word in sys.argv[1:] if word in _VERBS), "")  # not every such error knows its command
    return f"reconcile {verb}--help"


def _lost_output(error: OSError) -> int:
    """Report that results could not be written. Nothing else lets a bare `OSError` through on purpose."""
    if error.filename is not None:
        return _defect(error)
    if not isinstance(error, BrokenPipeError):
        _report(
            f"the results could not be written: {error.strerror}",
            "reconcile status    shows the state of the run",
            1,
        )
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for the flush at exit
    return 1


def _defect(error: BaseException) -> int:
    limit = exceeded(error)
    if limit is not None:
        return _report(limit.message, limit.hint, limit.exit_code)
    get_logger().error("unexpected error", exc_info=error)
    hint = "this is a bug in reconcile; the log has the traceback. The same command resumes a run"
    return _report(f"unexpected {type(error).__name__}: {error}", hint, 1)


def _report(message: str, hint: str | None, code: int) -> int:
    from reconcile.cli.lines import show  # noqa: PLC0415 - what draws takes a while to load

    _said[:] = [scrub(message), scrub(hint) if hint else None]
    show([f"error: {scrub(message)}"], err=True)
    if hint:
        lines = [*scrub(hint).splitlines(), *_typed_again(hint)]
        show(["  next: " + "\n        ".join(lines)], err=True)
    return code


def _typed_again(hint: str) -> list[str]:
    """Return the command that was typed, where a hint speaks of it: a log may be all that is left of it (R8)."""
    typed = shlex.join(["reconcile", *sys.argv[1:]])
    has_secret = _CREDENTIALS.search(typed) or scrub(typed) != typed
    return [typed] if _THE_SAME.search(hint) and not has_secret else []
