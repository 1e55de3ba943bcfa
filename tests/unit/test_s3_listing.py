"""A listing parsed in one go is what botocore makes of it, for every page that a server may send."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import BotoCoreError, ClientError

from reconcile.stores.s3_listing import decode_names, parse_quickly

_NS = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-11-29T09:00:00.000Z</LastModified><ETag>{etag}</ETag>"
    "<Size>{size}</Size><Owner><ID>me</ID></Owner><StorageClass>{storage}</StorageClass></Contents>"
)
_ENCODED = "<EncodingType>url</EncodingType>"
_READ = ("Key", "Size", "ETag", "StorageClass")


class Raw:
    """The body of an answer."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self) -> list[bytes]:
        return [self._data]


def page(*entries: str, rest: str = "", namespace: str = _NS) -> str:
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult'
    return f"{head}{namespace}><Name>b</Name><IsTruncated>true</IsTruncated>{rest}{''.join(entries)}</ListBucketResult>"


def entry(key: str, size: object = 7, etag: str = "&quot;0af&quot;", storage: str = "STANDARD") -> str:
    return _ENTRY.format(key=key, size=size, etag=etag, storage=storage)


def listed(body: str, status: int = 200, *, quickly: bool) -> dict[str, Any]:
    """Return what boto3 makes of an answer."""
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    answer = AWSResponse("http://here/", status, {}, Raw(body.encode()))
    client.meta.events.register("before-send.s3.ListObjectsV2", lambda **_more: answer)
    if not quickly:
        as_botocore: dict[str, Any] = client.list_objects_v2(Bucket="b", StartAfter="a")
        return as_botocore
    parse_quickly(client)
    found: dict[str, Any] = client.list_objects_v2(Bucket="b", StartAfter="a", EncodingType="url")
    decode_names(found)
    return found


@pytest.mark.parametrize(
    "body",
    [
        page(entry("one"), entry("two", 0), entry("three", 5 << 40, storage="GLACIER")),
        page(entry("one")),
        page(),
        page(entry("a%20b%2Fc%25%C3%A9"), entry("a+b%2B%zz%"), entry("\u00e9%C3"), entry("%A9"), rest=_ENCODED),
        page(entry("a%0Ab"), entry("c%0a"), entry("%0Ad"), entry("e%20"), rest=_ENCODED),
        page(entry("a\nb"), entry("c%2F"), rest=_ENCODED),
        page(rest=_ENCODED),
        page(entry("a%20b"), entry("c%0Ad")),
        page(entry("a &amp; b &lt;c&gt; \u00e9\u2028")),
        page(entry("a//b/../c")),
        page(entry("one", etag=""), entry("")),
        page(entry("one"), namespace=""),
        page("<Contents><Key>k</Key><Size>1</Size></Contents>", "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>"),
        page(entry(" spaces at the ends ")),
        page(entry("h\u00e4")).replace("UTF-8", "ISO-8859-1"),
        page(entry("one")).replace("UTF-8", "unheard-of"),
        page(entry("one"), entry("two").replace("<Contents>", '<Contents xmlns="">')),
        page(entry("one").replace("<Key>", '<Key xmlns="">')),
        page(entry("one", storage="GLACIER").replace("<StorageClass>", '<StorageClass xmlns="">')),
    ],
)
def test_a_page_is_what_botocore_makes_of_it(body: str) -> None:
    found, expected = listed(body, quickly=True), listed(body, quickly=False)
    entries, as_expected = (
        [{name: e[name] for name in _READ if name in e} for e in answer.pop("Contents", [])]
        for answer in (found, expected)
    )
    assert entries == as_expected
    assert found == expected


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (page(entry("one"))[:-30], 200),
        (page(entry("one", "many")), 200),
        ("this is no XML", 200),
        ("<Error><Code>SlowDown</Code><Message>slow</Message></Error>", 503),
        ("<Error><Code>InternalError</Code><Message>oh</Message></Error>", 200),
    ],
)
def test_what_is_no_page_is_refused_as_botocore_refuses_it(body: str, status: int) -> None:
    said = []
    for quickly in (True, False):
        with pytest.raises((ClientError, BotoCoreError, ValueError)) as raised:
            listed(body, status, quickly=quickly)
        said.append((raised.type, str(raised.value)))
    assert said[0] == said[1]
