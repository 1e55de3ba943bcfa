"""Rows that are decided at once are decided as step by step: a shortcut must lead to the same place (R1)."""

from __future__ import annotations

import itertools

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from reconcile.catalog import CatalogRow
from reconcile.config import Backend
from reconcile.config.model import Compression
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import Blocker, Move
from tests.unit.test_decide import (
    BUCKET,
    DB,
    DB2,
    FILES,
    FROM_1_KIB,
    OTHER_S3,
    PREFIXED,
    ROW,
    S3,
    SWIFT,
    config,
    store,
)

LONG_IN_BYTES = store("s3", **(BUCKET | {"prefix": "€" * 30 + "/"}))
BACKENDS = [
    DB,
    DB2,
    FILES,
    S3,
    OTHER_S3,
    PREFIXED,
    SWIFT,
    evolve(S3, compression=FROM_1_KIB),
    store("db", Compression(enabled=True, min_size_kbytes=0)),
    store("localfs", archive_data_dir="/archive/more"),
    store("localfs", archive_data_dir="/odd ?archive"),
    store("s3", **(BUCKET | {"bucket": "Docs"})),  # whose case a parser of URLs does not keep
    store("s3", **(BUCKET | {"prefix": "p?/"})),
    LONG_IN_BYTES,
    store("swift", auth="http://k.test", user="u", key="k", container="docs", prefix="../"),
]
NAMES = st.one_of(
    st.sampled_from(
        ["admin", "policy_bundles", "analysis_archive", ".", "..", "", "a/b", "a?b", "a#b", "sha256:1", "Ä"]
    ),
    st.text("aB9_.:=+-/%;@[ \\\t\n\0", max_size=6),
    st.integers(900, 1100).map(lambda length: "k" * length),
)
SIZES = st.one_of(st.none(), st.integers(0, 4000), st.sampled_from([2**30, 2**30 + 1, 5 * 2**30, 5 * 2**30 + 1]))


@settings(max_examples=600)
@given(
    st.sampled_from(BACKENDS),
    st.sampled_from(BACKENDS),
    NAMES,
    NAMES,
    NAMES,
    SIZES,
    st.sampled_from([None, False, True]),
    st.sampled_from(["by the rule", "by the destination's", "another", None]),
    st.booleans(),
)
def test_a_row_is_decided_at_once_as_step_by_step(  # noqa: PLR0917
    source: Backend,
    dest: Backend,
    user: str,
    bucket: str,
    archive_id: str,
    size: int | None,
    compressed: bool | None,
    url: str | None,
    allow_unreadable: bool,
) -> None:
    desired = DesiredState(config(source), config(dest), allow_unreadable)
    document = (user, bucket, archive_id)
    urls = {
        "by the rule": desired.places["source.object_store"].address.url(document),
        "by the destination's": desired.places["dest.object_store"].address.url(document),
        "another": "s3://docs/admin/policy_bundles/another",
    }
    row = CatalogRow(*document, "one.json", url and urls[url], compressed, "d", size, 7)
    decision = desired.decide(row)
    assert decision == desired._step_by_step(row)
    if isinstance(decision, Move):
        assert desired.leads_to(decision)
        assert desired.leads_to(evolve(decision, action="adopt"))
        for changed in (
            evolve(decision, dest=decision.source),
            evolve(decision, source="catalog.db2"),
            evolve(decision, after=evolve(decision.after, content_url=f"{decision.after.content_url}x")),
            evolve(decision, after=evolve(decision.after, compressed=not decision.after.compressed)),
        ):
            assert not desired.leads_to(changed)


def test_a_key_is_measured_in_bytes() -> None:
    document = ("u" * 462, "policy_bundles", "k" * 462)
    row = CatalogRow(*document, "one.json", f"db://{'/'.join(document)}", False, "d", 3, 7)
    decision = DesiredState(config(DB), config(LONG_IN_BYTES)).decide(row)
    assert isinstance(decision, Blocker)
    assert decision.reason == "key_too_long"


PLAIN_PLACES = [DB, DB2, FILES, S3, PREFIXED, SWIFT]


@pytest.mark.parametrize(("source", "dest"), list(itertools.permutations(PLAIN_PLACES, 2)))
def test_plain_rows_are_decided_at_once(source: Backend, dest: Backend) -> None:
    """Between all drivers: what decides step by step is not asked."""

    class AtOnce(DesiredState):
        def _step_by_step(self, row: CatalogRow) -> Move:
            raise AssertionError(f"{row} was looked at step by step")

    both = config(source), config(dest)
    url = DesiredState(*both).places["source.object_store"].address.url(ROW.document)
    row = evolve(ROW, content_url=url)
    if source in (S3, PREFIXED) and dest in (S3, PREFIXED):  # one bucket: the place may be the same
        assert isinstance(DesiredState(*both).decide(row), Move)
    else:
        move = AtOnce(*both).decide(row)
        assert isinstance(move, Move)
        assert AtOnce(*both).leads_to(move)
