"""What the database's errors mean to an operator: no statement, no parameter, no credential in a message."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from reconcile.catalog.hidden import explain_hidden
from reconcile.errors import CatalogError, MissingPrivilegeError, ReconcileError
from reconcile.limits import files_exhausted
from reconcile.secret import scrub

# Of an answer, not of the way to it: the same answer comes again. The client library's own texts are in English.
_ANSWERS = (
    "FATAL",
    "certificate",
    "SSL error",
    "does not support SSL",
    "no password supplied",
    "invalid ",
    "private key",
)
_PASSING = (
    "starting up",
    "shutting down",
    "too many",
    "remaining connection slots",
    "recovery mode",
    "not yet accepting",
)
_HINTS = (  # part of what the server or the client library says, and what to do
    (
        ("password authentication failed", "no password supplied", "authentication failed for user"),
        "check user and password in credentials.database of the config, RECONCILE_DB_CONNECT, or PGPASSFILE",
    ),
    (
        ("no encryption", "SSL off"),
        "the server requires TLS: give --db-use-ssl, or set sslmode in the URL or in db_connect_args of the config",
    ),
    (("no pg_hba.conf entry",), "the server does not accept this user from this host: add an entry to its pg_hba.conf"),
    (('role "',), "check the user in credentials.database of the config, or in RECONCILE_DB_CONNECT"),
    (
        ('database "',),
        "check the name of the database in credentials.database of the config, or in RECONCILE_DB_CONNECT",
    ),
    (
        ("does not match host name",),
        "connect by a host name that is in the server's certificate, or have a certificate issued for this name",
    ),
    (
        ("certificate verify failed", "SSL error"),
        "set sslrootcert to the certificate of the authority that signed the server's certificate",
    ),
    (("does not support SSL",), "the server does not support TLS, but the config, the URL or --db-use-ssl requires it"),
    (("client certificate",), "set sslcert and sslkey to a certificate that the server accepts for this user"),
)


def first_line(error: SQLAlchemyError) -> str:
    """Return the first line of the database's message, without secrets."""
    original = getattr(error, "orig", None) or error
    return scrub(str(original).strip().splitlines()[0]) if str(original).strip() else type(original).__name__


def explained(error: DBAPIError | PoolTimeoutError) -> ReconcileError:
    """Return our error for one of the library's: no statement, no parameter, no credential in the message."""
    if isinstance(error, PoolTimeoutError):
        return CatalogError(
            "no database connection became free in time", hint="run the same command again with fewer --workers"
        )
    if isinstance(error, OperationalError | InterfaceError):
        return files_exhausted() or CatalogError(
            f"the database failed: {first_line(error)}", hint="once it is available again, the same command resumes"
        )
    return _refused(error)


def _refused(error: DBAPIError) -> CatalogError:
    line = first_line(error)
    hidden = explain_hidden(line)
    if hidden is not None:
        return hidden
    code = getattr(error.orig, "pgcode", None)
    insufficient_privilege = "42501"
    if code != insufficient_privilege:
        return CatalogError(f"the database refused a statement: {line}")
    target = line.rpartition(" ")[2].strip('"')
    if "sequence" in line:
        privileges, target = "USAGE", f"SEQUENCE {target}"
    elif "schema" in line:
        privileges, target = "CREATE, USAGE", f"SCHEMA {target}"
    else:
        statement = (error.statement or "").lstrip().upper()
        only_reads = statement.startswith("SELECT") and " FOR " not in statement
        privileges = "SELECT" if only_reads else "SELECT, INSERT, UPDATE, DELETE"
    grant = f"GRANT {privileges} ON {target} TO {_role(error)}"
    return MissingPrivilegeError(f"the database role lacks a privilege: {line}", hint=f"have the owner run: {grant};")


def _role(error: DBAPIError) -> str:
    """Return the role that the refused statement ran as."""
    cursor = getattr(error.orig, "cursor", None)
    user = None if cursor is None else cursor.connection.info.user
    return f'"{user}"' if user else "<the role you connect as>"


def may_pass(error: Exception) -> bool:
    """Tell whether to retry the connection: not after an answer, such as one about user, password or certificate."""
    if not isinstance(error, OperationalError):
        return False
    text = str(error.orig)
    return any(part in text for part in _PASSING) or not any(part in text for part in _ANSWERS)


def not_connected(error: SQLAlchemyError, shown: str) -> CatalogError:
    """Return the error of a connection that could not be made, with what to do about it."""
    line = first_line(error)
    hints = (hint for parts, hint in _HINTS if any(part in line for part in parts))
    return CatalogError(
        f"cannot connect to the database {scrub(shown)}: {line}",
        hint=next(hints, "check that the server is running and that host and port are right"),
    )
