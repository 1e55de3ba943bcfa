"""What `plan --s3-put KEY=VALUE` has every object written with: names and values are those of S3's own PutObject."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from reconcile.errors import UsageError

KEYS = ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled", "StorageClass", "Tagging")

# Classes that are not read before they are restored. Source: S3's API reference, GetObject, InvalidObjectState.
_ARCHIVE_CLASSES = ("GLACIER", "DEEP_ARCHIVE")


def parsed(words: Iterable[str]) -> dict[str, str]:
    """Return keys and values of ``KEY=VALUE``. Raises `UsageError` for what S3, or the services, could not use."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value or key not in KEYS:
            raise UsageError(f"--s3-put {word}: expected KEY=VALUE with one of the keys {', '.join(KEYS)}")
        if found.setdefault(key, value) != value:
            raise UsageError(f"--s3-put {key}: found two values, {found[key]} and {value}; give one")
    if found.get("StorageClass") in _ARCHIVE_CLASSES:
        raise UsageError(
            f"--s3-put StorageClass={found['StorageClass']}: the services cannot read archive classes",
            hint="use GLACIER_IR, STANDARD_IA or INTELLIGENT_TIERING without archive tiers: services can "
            "read them at once",
        )
    if found.get("BucketKeyEnabled", "true") not in ("true", "false"):
        raise UsageError(f"--s3-put BucketKeyEnabled={found['BucketKeyEnabled']}: expected true or false")
    if "SSEKMSKeyId" in found and not encrypts_by_kms(found):
        raise UsageError("--s3-put SSEKMSKeyId needs --s3-put ServerSideEncryption=aws:kms")
    return found


def arguments(options: Mapping[str, str]) -> dict[str, Any]:
    """Return the options as boto3 takes them."""
    given: dict[str, Any] = dict(options)
    if "BucketKeyEnabled" in given:
        given["BucketKeyEnabled"] = given["BucketKeyEnabled"] == "true"
    return given


def tags_of(options: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of what is written."""
    return dict(parse_qsl(options.get("Tagging", ""), keep_blank_values=True))


def encrypts_by_kms(options: Mapping[str, str]) -> bool:
    """Tell whether the ETag of what is written is not its MD5."""
    return options.get("ServerSideEncryption", "").startswith("aws:kms")
