"""The command ``reconcile``, also as ``python -m reconcile``."""

from reconcile.control import relaxed_gc


def main() -> None:
    """Run the command line."""
    with relaxed_gc():  # what is imported stays: to look through it for garbage is an eighth of the start
        from reconcile.cli.main import main as command  # noqa: PLC0415

    command()


if __name__ == "__main__":
    main()
