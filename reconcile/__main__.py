"""The command ``reconcile``, also as ``python -m reconcile``."""

import gc


def main() -> None:
    """Run the command line, with a garbage collector that looks seldom.

    What is imported stays: to look through it again and again takes an eighth of the start.
    """
    gc.set_threshold(50_000, 20, 100)
    from reconcile.cli.main import main as command  # noqa: PLC0415

    command()


if __name__ == "__main__":
    main()
