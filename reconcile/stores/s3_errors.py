"""What S3 answers, as the two kinds of error that callers know: one document's, or the whole backend's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from reconcile.errors import BackendError, DeniedError, DocumentError, TransientError
from reconcile.secret import scrub
from reconcile.stores.documents import seconds_asked

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_TRANSIENT = {408, 429, 500, 502, 503, 504}
_THROTTLED = {429, 503}
_DENIED = {401, 403}
_CREDENTIAL_CODES = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId"}
_WRONG_PLACE = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "InvalidBucketName",
    "IllegalLocationConstraintException",
}
_OTHER_BYTES = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"}
_MEND = "mend it, then the same command goes on where this one stopped"
_WAIT = "once it is well, the same command goes on where this one stopped; fewer --workers ask less of it"
_CREDENTIALS = "check access_key and secret_key (or the AWS credential chain), and what they may do in this bucket"


class UnsupportedRequestError(DocumentError):
    """The server does not know what a request asks for (501), such as a condition."""


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn errors of obstore and boto3 into ours. ``FileNotFoundError`` for a missing key is left as it is."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    from obstore.exceptions import AlreadyExistsError, BaseError  # noqa: PLC0415

    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise _error(where, 404, "NoSuchBucket") from None
        raise
    except AlreadyExistsError:
        raise _error(where, 412, "PreconditionFailed") from None
    except ClientError as error:
        answer = error.response
        status = answer["ResponseMetadata"].get("HTTPStatusCode", 0)
        code = str(answer.get("Error", {}).get("Code", ""))
        if status == 404 and code != "NoSuchBucket":  # noqa: PLR2004
            raise FileNotFoundError from None
        raise _error(where, status, code, seconds_asked(answer["ResponseMetadata"].get("HTTPHeaders", {}))) from None
    except (BotoCoreError, BaseError, OSError) as error:
        text = str(error)
        found, named = _STATUS.search(text), _CODE.search(text)
        if found:
            raise _error(where, int(found[1]), named[1] if named else "") from None
        raise _unreachable(where, error) from None


def _unreachable(where: str, error: Exception) -> BackendError:
    name = type(error).__name__
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"):
        return BackendError(f"{where}: no credentials: {scrub(str(error))}", hint=_CREDENTIALS)
    first = scrub(str(error).strip().splitlines()[0]) if str(error).strip() else name
    return TransientError(f"{where}: no answer: {first}", hint="is the endpoint right, and up?")


def _error(where: str, status: int, code: str, retry_after: float | None = None) -> Exception:
    said = f"{status} {code}".strip()
    if status == 412 or code in ("PreconditionFailed", "ConditionalRequestConflict"):  # noqa: PLR2004
        return DocumentError("destination_occupied", "an object is there already")
    if code in _OTHER_BYTES:
        return DocumentError("not_confirmed", f"the server got other bytes than were sent ({said})")
    if status == 501 or code == "NotImplemented":  # noqa: PLR2004
        return UnsupportedRequestError("refused", f"{where} does not know this request ({said})")
    if code == "NoSuchBucket":
        return BackendError(f"{where}: the bucket is not there (any more)", hint=_MEND)
    if status in _DENIED or code in _CREDENTIAL_CODES:
        return DeniedError(f"{where}: access denied ({said})", hint=_CREDENTIALS)
    if code in _WRONG_PLACE:
        return BackendError(f"{where}: the server refuses the bucket ({said})", hint="check bucket, region and url")
    if status in _TRANSIENT or code in ("SlowDown", "RequestTimeout"):
        trouble, throttled = f"{where}: the server is in trouble ({said})", status in _THROTTLED or code == "SlowDown"
        return TransientError(trouble, hint=_WAIT, retry_after=retry_after, throttled=throttled)
    return DocumentError("refused", f"{where} refused it ({said})")
