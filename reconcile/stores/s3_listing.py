"""Listings of a bucket, parsed in one go: botocore takes four times the CPU for it, most of that of a listing.

botocore lets others parse a part of an answer (its event ``before-parse``). What is left of the page it parses itself,
and all of a page that is not as S3 documents it. Names are decoded a page at once; botocore does it one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

_FIELDS: dict[str, Callable[[str], Any]] = {"Key": str, "Size": int, "ETag": str, "StorageClass": str}
_NAMES = tuple(_FIELDS)
_IN_EACH = {"Key", "Size", "ETag"}


def parse_quickly(client: Any) -> None:  # noqa: ANN401 - boto3's clients have no type
    """Have a client of boto3 parse ListObjectsV2 so. An entry has ``Key``, ``Size``, ``ETag`` and ``StorageClass``."""
    client.meta.events.register_last("before-parse.s3.ListObjectsV2", _parse)


def decode_names(page: dict[str, Any]) -> None:
    """Put the names of a page as they are, which was asked for with ``EncodingType`` url; some servers pass over it."""
    found = page.get("Contents", [])
    if page.get("EncodingType") == "url":
        for entry, name in zip(found, _decoded([entry["Key"] for entry in found]), strict=True):
            entry["Key"] = name


def _decoded(names: list[str]) -> list[str]:
    together = unquote_plus("\n".join(names)).split("\n")
    return together if len(together) == len(names) else [unquote_plus(name) for name in names]  # one has a line's end


def _parse(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_more: object) -> None:
    """Take the entries out of a page."""
    try:  # in UTF-8 whatever the page says of itself, as botocore reads it
        page = ET.fromstring(response_dict["body"], parser=ET.XMLParser(encoding="utf-8"))  # noqa: S314
        namespace = page.tag.removesuffix("ListBucketResult")
        fields = {namespace + name: (name, read) for name, read in _FIELDS.items()}
        found = page.findall(f"{namespace}Contents")
        entries = [_entry(element, fields) for element in found]
    except (ET.ParseError, LookupError, ValueError):
        return
    if not entries or sum(child.tag.endswith("Contents") for child in page) != len(entries):
        return
    for element in found:
        page.remove(element)
    response_dict["body"] = ET.tostring(page)
    customized_response_dict["Contents"] = entries


def _entry(element: ET.Element, fields: dict[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
    """Return what is read of an entry. Raises `LookupError` for one that is not as it should be."""
    entry = {}
    for child in element:
        if child.tag in fields:
            name, read = fields[child.tag]
            entry[name] = read(child.text or "")
        elif child.tag.endswith(_NAMES):
            raise LookupError(child.tag)
    if not entry.keys() >= _IN_EACH:
        raise LookupError(entry)
    return entry
