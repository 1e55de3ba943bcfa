"""S3's answers as the two kinds of error that callers know: one document's, or the whole backend's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from reconcile.errors import BackendError, DeniedError, DocumentError, TransientError
from reconcile.secret import scrub
from reconcile.stores.answers import FULL_HINT, clocks, is_full, sentence
from reconcile.stores.per_object import seconds_asked
from reconcile.stores.redirects import STATUSES, RedirectAnswer, redirected
from reconcile.stores.s3_client import NO_PROXY, RegionAnswer

_STATUS = re.compile(r"status code: (\d{3})")
_FIELD = "<{0}>([^<]{{1,2000}})</{0}>"
_TRANSIENT = {408, 429, 500, 502, 503, 504}
_THROTTLED = {429, 503}
_DENIED = {401, 403}
_EXPIRED = {"ExpiredToken", "TokenRefreshRequired", "ExpiredTokenException"}
_CREDENTIAL_CODES = {"InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_WRONG_PLACE = {"PermanentRedirect", "InvalidBucketName", "IllegalLocationConstraintException"}
_OTHER_REGION = {"AuthorizationHeaderMalformed", "InvalidRegion", "InvalidRegionName"}
_OTHER_BYTES = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"}
_NEEDS_MD5 = re.compile(r"content-?md5", re.IGNORECASE)
_SKEW_SECONDS = 300  # servers allow 900: an answer without words, and clocks this far apart, is about the clocks
_FIX = "fix the cause, then run the same command again: it resumes"
_WAIT = "once it is available again, run the same command again: it resumes; fewer --workers reduce its load"
_CREDENTIALS = "check access_key and secret_key (or the AWS credential chain), and their privileges in this bucket"


class UnsupportedRequestError(DocumentError):
    """The server does not support what a request asks for (501), such as a condition."""


class NeedsDigestError(DocumentError):
    """The server requires ``Content-MD5``, as buckets with Object Lock do."""


class MissingBucketError(BackendError):
    """The bucket is not there."""


class ExpiredCredentialsError(DeniedError):
    """The credentials have expired; newer ones may be valid."""


class WrongRegionError(DeniedError):
    """The request was signed for another region than the bucket's, which is ``region`` if the server names it."""

    def __init__(self, message: str, *, hint: str | None = None, region: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.region = region


@frozen
class Answer:
    """An error as a server sent it: HTTP status, and what its body and headers say."""

    status: int
    code: str = ""
    message: str = ""
    server_time: str | None = None
    region: str | None = None
    retry_after: float | None = None

    @property
    def said(self) -> str:
        """Status and code."""
        return f"{self.status} {self.code}".strip()


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn errors of obstore and boto3 into ours. ``FileNotFoundError`` for a missing key is left as it is."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    from obstore.exceptions import AlreadyExistsError, BaseError  # noqa: PLC0415

    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise _error(where, Answer(404, "NoSuchBucket")) from None
        raise
    except RedirectAnswer as redirect:
        raise redirected(where, redirect.location) from None
    except RegionAnswer as told:
        raise _error(where, Answer(400, "AuthorizationHeaderMalformed", region=told.region)) from None
    except AlreadyExistsError:
        raise _error(where, Answer(412, "PreconditionFailed")) from None
    except ClientError as error:
        answer = _of_boto(error.response)
        if answer.status == 404 and answer.code != "NoSuchBucket":  # noqa: PLR2004
            raise FileNotFoundError from None
        raise _error(where, answer) from None
    except (BotoCoreError, BaseError, OSError, RuntimeError) as error:
        raise _of_obstore(where, error) from None


def _of_boto(response: dict[str, Any]) -> Answer:
    about, said = response["ResponseMetadata"], response.get("Error", {})
    headers = about.get("HTTPHeaders", {})
    code = str(said.get("Code", ""))
    is_bare = code.isdigit()  # botocore's own words for an answer without a body
    return Answer(
        about.get("HTTPStatusCode", 0),
        "" if is_bare else code,
        "" if is_bare else str(said.get("Message", "")),
        said.get("ServerTime") or headers.get("date"),
        said.get("Region") or headers.get("x-amz-bucket-region"),
        seconds_asked(headers),
    )


def _of_obstore(where: str, error: Exception) -> Exception:
    """Return the error for one that was raised by obstore, or by boto3 before there was an answer."""
    text = str(error)
    found = _STATUS.search(text)
    if f" {NO_PROXY}," in text or (found and int(found[1]) in STATUSES):
        return redirected(where, None)
    if found is None:
        return _unreachable(where, error)

    def named(name: str) -> str | None:
        match = re.search(_FIELD.format(name), text)
        return match[1] if match else None

    code, message = named("Code") or "", named("Message") or ""
    return _error(where, Answer(int(found[1]), code, message, named("ServerTime"), named("Region")))


_QUERY = re.compile(r"(?<=[^\s\"'])\?[^\s\"']+")


def _unreachable(where: str, error: Exception) -> BackendError:
    name = type(error).__name__
    if name == "RuntimeError":  # what botocore raises for new credentials that have expired already
        return ExpiredCredentialsError(f"{where}: no credentials: {scrub(str(error))}", hint=_CREDENTIALS)
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"):
        return BackendError(f"{where}: no credentials: {scrub(str(error))}", hint=_CREDENTIALS)
    first = scrub(str(error).strip().splitlines()[0]) if str(error).strip() else name
    first = _QUERY.sub("", first)  # a signature, and the token of a session, may stand there
    return TransientError(
        f"{where}: no answer: {first}", hint="check that the endpoint is right and that the server is running"
    )


def _error(where: str, answer: Answer) -> Exception:
    return (
        _of_document(where, answer)
        or _of_backend(where, answer)
        or DocumentError("refused", f"{where} refused it ({answer.said}){sentence(answer.message)}")
    )


def _of_document(where: str, answer: Answer) -> DocumentError | None:
    """Return the error where the answer is about one document."""
    status, code, said = answer.status, answer.code, f"({answer.said}){sentence(answer.message)}"
    if status == 412 or code in ("PreconditionFailed", "ConditionalRequestConflict"):  # noqa: PLR2004
        return DocumentError("destination_occupied", "an object exists there already")
    if code in _OTHER_BYTES:
        return DocumentError("not_confirmed", f"the server received other bytes than were sent {said}")
    if status == 501 or code == "NotImplemented":  # noqa: PLR2004
        return UnsupportedRequestError("refused", f"{where} does not support this request {said}")
    if code == "InvalidObjectState":
        return DocumentError("archived", f"it is in an archive class of {where}; it must be restored first {said}")
    if status == 400 and _NEEDS_MD5.search(f"{code} {answer.message}"):  # noqa: PLR2004
        return NeedsDigestError("refused", f"{where} refused it {said}")
    return None


def _of_backend(where: str, answer: Answer) -> BackendError | None:
    """Return the error where the answer is about the whole bucket, or all requests."""
    status, code, said = answer.status, answer.code, f"({answer.said}){sentence(answer.message)}"
    apart = _apart(answer)
    if code == "NoSuchBucket":
        error: BackendError = MissingBucketError(f"{where}: the bucket does not exist, or was deleted", hint=_FIX)
    elif is_full(status, code, answer.message):
        error = BackendError(f"{where}: the store is full {said}", hint=FULL_HINT)
    elif apart is not None:
        hint = "correct the wrong clock (for example with NTP), then run the same command again: it resumes"
        error = BackendError(f"{where}: the clocks differ {said}; {apart}", hint=hint)
    elif code in _EXPIRED:
        error = ExpiredCredentialsError(
            f"{where}: access denied {said}: the credentials have expired", hint=_CREDENTIALS
        )
    elif code in _OTHER_REGION:
        error = WrongRegionError(
            f"{where}: the request was signed for another region {said}"
            + (f"; the bucket is in {answer.region}" if answer.region else ""),
            hint="check region and url, and AWS_DEFAULT_REGION",
            region=answer.region,
        )
    elif status in _DENIED or code in _CREDENTIAL_CODES:
        error = DeniedError(f"{where}: access denied {said}", hint=_CREDENTIALS)
    elif code in _WRONG_PLACE:
        error = BackendError(f"{where}: the server refuses the bucket {said}", hint="check bucket, region and url")
    elif status in _TRANSIENT or code in ("SlowDown", "RequestTimeout"):
        throttled = status in _THROTTLED or code == "SlowDown"
        error = TransientError(
            f"{where}: server error {said}", hint=_WAIT, retry_after=answer.retry_after, throttled=throttled
        )
    else:
        return None
    return error


def _apart(answer: Answer) -> str | None:
    """Return how far the clocks are apart, if that is why a request was refused."""
    found = clocks(answer.server_time)
    if answer.code == "RequestTimeTooSkewed":
        return found[1] if found else "the server does not report its time"
    is_bare = answer.status in (400, 403) and not answer.code
    return found[1] if is_bare and found and abs(found[0]) > _SKEW_SECONDS else None
