"""Listings of a bucket, parsed in one go: botocore takes ten times the CPU for it, most of that of a listing.

botocore lets others parse a part of an answer (its event ``before-parse``). What is left of the page it parses itself,
and all of a page that is not as S3 documents it.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

_CONTENTS = "Contents"
_FIELDS = {"Key": str, "Size": int, "ETag": str, "StorageClass": str}  # what a store reads of an entry


def parse_quickly(client: Any) -> None:  # noqa: ANN401 - boto3's clients have no type
    """Have a client of boto3 parse ListObjectsV2 so. An entry has ``Key``, ``Size``, ``ETag`` and ``StorageClass``."""
    client.meta.events.register_last("before-parse.s3.ListObjectsV2", _parse)


def _parse(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_more: object) -> None:
    """Take the entries out of a page."""
    try:
        page = ET.fromstring(response_dict["body"])  # noqa: S314 - as botocore itself
        found = [element for element in page if _name(element) == _CONTENTS]
        entries = [_entry(element) for element in found]
    except (ET.ParseError, ValueError):
        return
    if response_dict["status_code"] != 200 or not entries:  # noqa: PLR2004
        return
    for element in found:
        page.remove(element)
    response_dict["body"] = ET.tostring(page)
    customized_response_dict[_CONTENTS] = entries


def _entry(element: ET.Element) -> dict[str, Any]:
    entry = {}
    for child in element:
        name = _name(child)
        if name in _FIELDS:
            entry[name] = _FIELDS[name](child.text or "")
    return entry


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
