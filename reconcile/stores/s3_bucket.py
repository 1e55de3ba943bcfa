"""A bucket as a whole: whether it exists, in which region, and what its server does to its objects."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from reconcile.errors import BackendError, DeniedError, DocumentError
from reconcile.formatting import count
from reconcile.logs import get_logger
from reconcile.stores.s3_client import S3Clients, S3Settings
from reconcile.stores.s3_errors import ExpiredCredentialsError, MissingBucketError, WrongRegionError, translated

log = get_logger()


@define
class S3Bucket:
    """One bucket. ``remarks`` are for the operator. Errors are those of `translated`; nothing is retried here."""

    clients: S3Clients
    where: str
    _settings: S3Settings
    remarks: list[str] = field(factory=list)

    def exists(self) -> bool:
        """Tell whether the bucket is there; where the server wants another region, sign for that from now on.

        The second try is the region that the server names, else the config's, which counts for nothing beside a url.
        """
        try:
            return self._is_there()
        except DeniedError as error:
            tried = self.clients.region
            named = error.region if isinstance(error, WrongRegionError) else None
            other = named or self._settings.region
            if not self._settings.url or other in (None, tried) or isinstance(error, ExpiredCredentialsError):
                raise
            self.clients.use_region(str(other))
            try:
                exists = self._is_there()
            except BackendError:
                self.clients.use_region(tried)
                raise error from None
        origin = "which the server reports" if named else "the config's"
        self.remarks.append(
            f"Requests are signed for region {other}, {origin}: the server refused requests for {tried}."
        )
        log.info("requests are signed for another region", region=other, refused=tried, at=self.where)
        return exists

    def _is_there(self) -> bool:
        """Tell whether the bucket is there. What a HEAD does not say in a body is asked for by a listing."""
        try:
            with translated(self.where):
                head = self.clients.boto.head_bucket(Bucket=self._settings.bucket)
                if not self._settings.url:
                    self.clients.bucket_region = head.get("BucketRegion")
        except FileNotFoundError:
            return False
        except (DeniedError, DocumentError):
            try:
                with translated(self.where):
                    self.clients.boto.list_objects_v2(Bucket=self._settings.bucket, MaxKeys=1)
            except MissingBucketError:
                return False
        return True

    def create(self) -> None:
        """Make the bucket, in the region that requests are signed for."""
        with translated(self.where):
            region = self.clients.boto.meta.region_name
            where = {} if region in (None, "us-east-1", "aws-global") else {"LocationConstraint": region}
            extra = {"CreateBucketConfiguration": where} if where else {}
            self.clients.boto.create_bucket(Bucket=self._settings.bucket, **extra)

    def rules(self, _nothing: None = None) -> list[dict[str, Any]]:
        """Return the lifecycle rules. Raises `FileNotFoundError` where there are none."""
        with translated(self.where):
            answer = self.clients.boto.get_bucket_lifecycle_configuration(Bucket=self._settings.bucket)
        return list(answer.get("Rules", []))

    def versioning(self, _nothing: None = None) -> str | None:
        """Return what versioning means for deletes, in a sentence."""
        with translated(self.where):
            status = self.clients.boto.get_bucket_versioning(Bucket=self._settings.bucket).get("Status")
        if status != "Enabled":
            return None
        return "Deleting frees no space: the bucket keeps deleted objects as old versions (versioning is enabled)."

    def retention(self, _nothing: None = None) -> str | None:
        """Return what a default retention means for deletes, in a sentence."""
        with translated(self.where):
            answer = self.clients.boto.get_object_lock_configuration(Bucket=self._settings.bucket)
        rule = answer.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention")
        if not rule:
            return None
        period = count(rule["Days"], "day") if "Days" in rule else count(rule["Years"], "year")
        return (
            f"Written objects are locked for {period} (Object Lock, {rule['Mode']}): deleting frees no "
            "space before that."
        )
