"""How a guide's output is compared with what its commands show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guides.guide import Operator, first_missing
from tests.guides.service import Service
from tests.world import World

SHOWN = """
Plan 20261124-214219-3aeb96f2
  digest sha256:a966e5b36a89d255b94e57a27ebc7fd3ecdcfc4b6a3ed6c46ba63360e3f72cac
  made 2026-11-29 01:30:29 UTC for postgresql database anchore_1
  to move      117 documents, 159.1 KiB
  in place  0 documents, 0 B
  downtime 2 s, longest 1 h 5 min
saved as /tmp/plans/to-s3.json
"""


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Plan 20260101-000000-00000000\n\n  to move  1,024 documents, 3 GiB",
        "  digest sha256:00000000000000000000000000000000",
        "made 2025-01-01 00:00:00 UTC for ...",
        "...\n  in place  12 documents, 1.5 MiB\n...",
        "downtime 3 min 4 s, longest 7 s",
        "saved as .../to-s3.json",
    ],
)
def test_an_output_that_is_right(output: str) -> None:
    assert first_missing(output.splitlines(), SHOWN) is None


@pytest.mark.parametrize(
    ("output", "missing"),
    [
        ("  to move   117 files, 159.1 KiB", "  to move   117 files, 159.1 KiB"),
        ("to move 117 documents", "to move 117 documents"),  # not the whole line
        ("move 117 documents, 159.1 KiB", "move 117 documents, 159.1 KiB"),
        ("in place 0 documents, 0 B\nto move 117 documents, 159.1 KiB", "to move 117 documents, 159.1 KiB"),
        ("saved as ...\nsaved as ...", "saved as ..."),  # shown once
    ],
)
def test_an_output_that_is_wrong(output: str, missing: str) -> None:
    assert first_missing(output.splitlines(), SHOWN) == missing


GUIDE = """
# A guide

1. Count them.

   ```sh
   echo 3 documents
   echo moved in 7 s
   ```

   ```text
   {first}
   ```

```sh
# this is no heading
echo 4 documents
```

The following is no output of it:

```text
5 files
```
"""


def follow(folder: Path, first: str) -> None:
    world = World(folder, "")
    (folder / "guide.md").write_text(GUIDE.format(first=first))
    Operator(world, Service(world)).follow(str(folder / "guide.md"), "A guide")


def test_the_output_of_a_block_is_compared_with_what_it_shows(folder: Path) -> None:
    follow(folder, "12 documents")
    with pytest.raises(AssertionError, match=r"not in this order: +4 files"):
        follow(folder, "4 files")
    with pytest.raises(AssertionError, match=r"not in this order: +echo 3 documents"):  # typed, not shown
        follow(folder, "echo 3 documents")
