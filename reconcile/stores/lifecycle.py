"""Lifecycle rules of an S3 bucket: which of them delete objects below a prefix, in words.

The form is AWS's ``GetBucketLifecycleConfiguration``, which compatible servers share. Rules that only move objects to
another storage class, remove old versions, delete markers or parts of uploads, delete no document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from reconcile.formatting import count


def expiring(rules: Sequence[Mapping[str, Any]], prefix: str, tags: Mapping[str, str]) -> str | None:
    """Return what the enabled rules delete of the objects that are written below ``prefix``; None for nothing.

    Such objects have ``tags``: rules for others are not for them, see `has_tag_rules`.
    """
    concerned = (rule for rule in rules if _expires(rule) and _tags(rule).items() <= tags.items())
    return "; ".join(_sentence(rule) for rule in concerned if _overlaps(rule, prefix)) or None


def has_tag_rules(rules: Sequence[Mapping[str, Any]], prefix: str) -> bool:
    """Tell whether some rule deletes objects below ``prefix`` that have a tag."""
    return any(_expires(rule) and bool(_tags(rule)) and _overlaps(rule, prefix) for rule in rules)


def _expires(rule: Mapping[str, Any]) -> bool:
    expiration = rule.get("Expiration", {})
    return rule.get("Status") == "Enabled" and ("Days" in expiration or "Date" in expiration)


def _tags(rule: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that an object must have for the rule to be about it."""
    filters = rule.get("Filter", {})
    found = [filters["Tag"]] if "Tag" in filters else filters.get("And", {}).get("Tags", [])
    return {tag["Key"]: tag["Value"] for tag in found}


def _prefix(rule: Mapping[str, Any]) -> str:
    """Return the prefix of the keys that a rule is about; it has three places, one of them from before 2018."""
    filters = rule.get("Filter", {})
    return str(rule.get("Prefix") or filters.get("Prefix") or filters.get("And", {}).get("Prefix") or "")


def _overlaps(rule: Mapping[str, Any], prefix: str) -> bool:
    own = _prefix(rule)
    return own.startswith(prefix) or prefix.startswith(own)


def _sentence(rule: Mapping[str, Any]) -> str:
    name = f"lifecycle rule {rule['ID']!r}" if rule.get("ID") else "a lifecycle rule"
    below = _prefix(rule)
    what = f"objects below {below!r}" if below else "all objects"
    expiration = rule["Expiration"]
    if "Days" in expiration:
        return f"{name} deletes {what} {count(expiration['Days'], 'day')} after they are written"
    date = expiration["Date"]
    return f"{name} deletes {what} on {f'{date:%Y-%m-%d}' if isinstance(date, datetime) else date}"
