"""What one contender is given: the two ends of a route, and the documents to move."""

from __future__ import annotations

from typing import Any

import boto3
from attrs import frozen
from botocore.config import Config


@frozen
class End:
    """One end of a route. ``bucket`` and the rest of the endpoint for s3, ``root`` for localfs."""

    driver: str
    bucket: str = ""
    url: str = ""
    access_key: str = ""
    secret_key: str = ""
    root: str = ""
    compressed: bool = False

    def section(self) -> dict[str, Any]:
        """Return the section of the services' config."""
        settings: dict[str, Any] = {}
        if self.driver == "s3":
            settings = {"bucket": self.bucket, "create_bucket": True, "url": self.url}
            settings |= {"access_key": self.access_key, "secret_key": self.secret_key}
        elif self.driver == "localfs":
            settings = {"archive_data_dir": self.root}
        compression = {"enabled": self.compressed, "min_size_kbytes": 1}
        return {"compression": compression, "storage_driver": {"name": self.driver, "config": settings}}

    def client(self) -> Any:  # noqa: ANN401
        """Return a boto3 client of the endpoint."""
        return s3_client(self)

    def objects(self) -> Any:  # noqa: ANN401
        """Return an obstore store of the bucket."""
        from obstore.store import S3Store  # noqa: PLC0415

        return S3Store(
            self.bucket,
            endpoint=self.url,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )


@frozen
class Spec:
    """A route: ``url`` is the database's, ``documents`` how many are to be moved, ``folder`` is free to use."""

    url: str
    source: End
    dest: End
    documents: int
    workers: int
    folder: str


def s3_client(server: Any) -> Any:  # noqa: ANN401
    """Return a boto3 client of a server."""
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(max_pool_connections=64),  # more than there are threads in any contender
    )
