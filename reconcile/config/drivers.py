"""The five drivers of the services and the keys of their ``storage_driver.config``.

Source: the vendor's drivers. A key that is not listed as public here is a credential as far as this
tool is concerned (R8): it is masked wherever settings are shown or saved.
"""

from __future__ import annotations

from attrs import field, frozen


@frozen
class Key:
    """One key of a driver's config section."""

    name: str
    about: str
    required: bool = False
    public: bool = True


@frozen
class Driver:
    """What the tool knows of a driver without opening anything.

    ``documented``: the vendor's current documentation (Enterprise 5.x and 6.x, "Object Storage") lists it.
    """

    name: str
    scheme: str
    about: str
    keys: tuple[Key, ...] = field(factory=tuple)
    needs: tuple[str, ...] = field(factory=tuple)
    may_compress: bool = True
    documented: bool = False

    @property
    def public_keys(self) -> frozenset[str]:
        """Names of the keys whose values may be shown and saved."""
        return frozenset(key.name for key in self.keys if key.public)


_S3_KEYS = (
    Key("bucket", "S3 bucket that holds the documents", required=True),
    Key("access_key", "access key id; with secret_key", public=False),
    Key("secret_key", "secret access key", public=False),
    Key("iamauto", "true: use the standard AWS credential chain if there are no keys"),
    Key("url", "endpoint of a server other than AWS; wins over region"),
    Key("region", "AWS region"),
    Key("prefix", "prefix of every key, without a separator (default: empty)"),
    Key("create_bucket", "true: apply and check create the bucket if it is missing"),
)
_SWIFT_KEYS = (
    Key("container", "container that holds the documents", required=True),
    Key("create_container", "true: apply and check create the container if it is missing"),
    Key("anchore_key_prefix", "prefix of every name, without a separator (default: empty)"),
    Key("auth", "authentication URL (v1)"),
    Key("auth_version", "'1', '2' or '3'"),
    Key("os_auth_url", "Keystone URL (v2, v3)"),
    Key("os_project_name", "project (v3)"),
    Key("os_project_id", "project (v3)"),
    Key("os_project_domain_name", "domain of the project (v3)"),
    Key("os_user_domain_name", "domain of the user (v3)"),
    Key("os_tenant_name", "tenant (v2)"),
    Key("os_tenant_id", "tenant (v2)"),
    Key("os_region_name", "region, if the account has several"),
    Key("os_storage_url", "endpoint of the account, instead of the one that the authentication returns"),
    Key("user", "user (v1)", public=False),
    Key("key", "key (v1)", public=False),
    Key("os_username", "user (v2, v3)", public=False),
    Key("os_password", "password (v2, v3); and every other option of python-swiftclient", public=False),
)

DRIVERS = {
    driver.name: driver
    for driver in (
        Driver("db", "db", "table archive_document of the catalog's database", may_compress=False, documented=True),
        Driver("db2", "db2", "table object_storage of the catalog's database"),
        Driver(
            "localfs",
            "file",
            "files below a directory",
            keys=(Key("archive_data_dir", "absolute path of the data dir", required=True),),
        ),
        Driver("s3", "s3", "objects in an S3 bucket", keys=_S3_KEYS, needs=("boto3", "obstore"), documented=True),
        Driver("swift", "swift", "objects in a Swift container", keys=_SWIFT_KEYS, needs=("swiftclient",)),
    )
}
