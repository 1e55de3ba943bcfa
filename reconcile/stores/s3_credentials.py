"""Credentials for obstore, as boto3 finds them: refreshed in time, however short their life.

Roles (a token file, an instance's or a container's role, a profile that assumes one) and ``credential_process`` give
credentials that expire. boto3 asks for new ones by itself; obstore asks this provider from five minutes before they
expire, every 0.1 seconds. New ones are fetched once half of their life is over.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from reconcile.secret import remember

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Credential

_LOOKED_AT_EVERY = timedelta(minutes=30)  # where no end is known: the chain may have others by then


def refresh_by_life(credentials: Any) -> None:  # noqa: ANN401 - botocore has no types
    """Have boto3 fetch new credentials when half of their life is over, where they live for less than half an hour.

    By itself it does so a quarter of an hour before their end: at each single request, where they do not live as long.
    Raises what botocore raises if there are none.
    """
    if not hasattr(credentials, "_mandatory_refresh_timeout"):  # they do not expire, as far as botocore knows
        return
    credentials.get_frozen_credentials()
    expiry = getattr(credentials, "_expiry_time", None)
    if expiry is not None:
        life = (expiry - datetime.now(UTC)).total_seconds()
        credentials._advisory_refresh_timeout = min(credentials._advisory_refresh_timeout, life / 2)  # noqa: SLF001
        credentials._mandatory_refresh_timeout = min(credentials._mandatory_refresh_timeout, life / 4)  # noqa: SLF001


class CredentialProvider:
    """What obstore calls for credentials. ``credentials`` are botocore's, None where the chain has none."""

    def __init__(self, credentials: Any) -> None:  # noqa: ANN401 - botocore has no types
        if credentials is None:
            from botocore.exceptions import NoCredentialsError  # noqa: PLC0415

            raise NoCredentialsError
        self.config: S3Config = {}  # obstore would take a region from here
        self._credentials = credentials
        self._fetching = threading.Lock()
        self._held: S3Credential | None = None
        self._renew_at = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> S3Credential:
        """Return credentials that are valid now, and until when."""
        with self._fetching:
            now = datetime.now(UTC)
            if self._held is None or now >= self._renew_at:
                expires_at, self._held = self._fetched(now)
                self._renew_at = now + (expires_at - now) / 2
            return self._held

    def _fetched(self, now: datetime) -> tuple[datetime, S3Credential]:
        frozen = self._credentials.get_frozen_credentials()
        for value in (frozen.access_key, frozen.secret_key, frozen.token):
            remember(value or "")
        expiry = getattr(self._credentials, "_expiry_time", None)  # of those that botocore can refresh
        expires_at = expiry.astimezone(UTC) if expiry else now + _LOOKED_AT_EVERY  # obstore takes no other zone
        return expires_at, {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": expires_at,
        }
