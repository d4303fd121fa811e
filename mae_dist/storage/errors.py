"""What an object store's failure means: whether it may pass, and what to tell the user.

Reads only types, error codes and HTTP states, never the server's text: that may repeat a request's signature,
and an endpoint may carry a password.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit


class StorageError(OSError):
    """A place could not be read or written; the message says where, what and what would be right."""


class StorageNotFoundError(StorageError, FileNotFoundError):
    """There is nothing at a URI, while its bucket or disk could be reached."""


class StorageDamagedError(StorageError):
    """A file could be read, but its bytes are not those that were recorded."""


class BrokenAnswerError(Exception):
    """A store's answer is not whole; the same request may bring a whole one."""


_REFUSED = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
}
_DENIED = {"AccessDenied", "Forbidden", "403", "AllAccessDisabled", "UnauthorizedAccess"}
_MISSING = {"NoSuchKey", "NotFound", "404"}
_ELSEWHERE = {
    "PermanentRedirect",
    "301",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}
_TRANSIENT = {
    "SlowDown",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "ConditionalRequestConflict",
    "OperationAborted",
    # What arrived is not what was sent.
    "BadDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
}


def _answer(error: BaseException) -> tuple[str, int]:
    """(error code, HTTP status) of the store's answer; ("", 0) without one."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return "", 0
    code = str(response.get("Error", {}).get("Code", ""))
    return code, int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def error_code(error: BaseException) -> str:
    """The store's error code, "" if it gave none."""
    return _answer(error)[0]


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment: no answer, a cut one, a busy or broken server."""
    code, status = _answer(error)
    if code or status:
        return code in _TRANSIENT or status >= 500 or status == 429
    return isinstance(error, (*_no_answer(), *_half_answers()))


def _no_answer() -> tuple[type[BaseException], ...]:
    """What clients raise when no answer came."""
    from aiohttp import ClientError
    from botocore.exceptions import ConnectionError as NoConnectionError
    from botocore.exceptions import HTTPClientError

    return NoConnectionError, HTTPClientError, ClientError, TimeoutError, ConnectionError


def _half_answers() -> tuple[type[BaseException], ...]:
    """What clients raise when an answer was cut short or altered on its way."""
    from aiohttp import ClientPayloadError
    from botocore.exceptions import FlexibleChecksumError, IncompleteReadError, ResponseStreamingError
    from botocore.parsers import ResponseParserError

    return (
        BrokenAnswerError,
        ClientPayloadError,
        FlexibleChecksumError,
        IncompleteReadError,
        ResponseParserError,
        ResponseStreamingError,
    )


def endpoint() -> str:
    """Where requests go, as a user may see it (without a user name or password)."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not url:
        return "the default endpoint of AWS"
    try:
        parts = urlsplit(url)
        shown = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return "AWS_ENDPOINT_URL"
    return shown if parts.scheme and parts.hostname else "AWS_ENDPOINT_URL"


def explain(error: BaseException, *, uri: str, bucket: str, verb: str, waited_seconds: float) -> StorageError:
    """The StorageError for what went wrong when `verb` (read, write, ...) was tried at `uri`."""
    from botocore.exceptions import (
        CredentialRetrievalError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    code, status = _answer(error)
    kind = type(error).__name__
    if isinstance(
        error, NoCredentialsError | PartialCredentialsError | ProfileNotFound | CredentialRetrievalError
    ):
        return StorageError(
            f"{uri}: cannot {verb}: no usable credentials ({kind}); set AWS_ACCESS_KEY_ID and "
            f"AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
        )
    if code == "NoSuchBucket":
        return StorageError(
            f"{uri}: cannot {verb}: no bucket {bucket!r} at {endpoint()}; create it, or correct the name "
            f"or AWS_ENDPOINT_URL"
        )
    if code in _MISSING:
        return StorageNotFoundError(f"{uri}: no such file or folder")
    if code in _REFUSED:
        return StorageError(
            f"{uri}: cannot {verb}: {endpoint()} refused the credentials ({code}); check AWS_ACCESS_KEY_ID, "
            f"AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
        )
    if code in _DENIED or status == 403:
        return StorageError(
            f"{uri}: cannot {verb}: access denied; these credentials have no permission to {verb} in "
            f"bucket {bucket!r}"
        )
    if code in _ELSEWHERE:
        return StorageError(
            f"{uri}: cannot {verb}: bucket {bucket!r} is in another region ({code}); set AWS_DEFAULT_REGION"
        )
    if isinstance(error, ValueError) and not code:
        return StorageError(
            f"{uri}: cannot {verb}: a setting is not valid ({kind}); AWS_ENDPOINT_URL must look like "
            f"http://host:port and the bucket {bucket!r} like a bucket name"
        )
    if status == 412:
        return StorageError(f"{uri}: cannot {verb}: was replaced by another version meanwhile; start again")
    if isinstance(error, _half_answers()):
        return StorageError(
            f"{uri}: cannot {verb}: the answers of {endpoint()} came incomplete or altered for "
            f"{waited_seconds:.0f} s ({kind}); check what lies between here and the store"
        )
    if not code and is_transient(error):
        return StorageError(
            f"{uri}: cannot {verb}: no answer from {endpoint()} in {waited_seconds:.0f} s ({kind}); check "
            f"AWS_ENDPOINT_URL and the network"
        )
    return StorageError(f"{uri}: cannot {verb}: {endpoint()} answered {code or kind} (HTTP status {status})")
