"""What MongoDB and its driver raise, said in the suite's words. A test fails for an error that is not sorted here.

UNREACHABLE  -> Unavailable 503: a server is away, electing, too slow, or refuses our credentials
TOO_LARGE    -> TooLarge 413: a state above the 16 MB of a document
UNSTORABLE   -> InvalidRequest 422: what JSON can say and BSON can't (NUL in a field's name, integers over 64 bits)
OURS         -> left alone (500): a mistake in the adapter or its settings
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bson.errors import BSONError, InvalidDocument
from pymongo import errors

from lakegate_chassis.problems import InvalidRequest, TooLarge, Unavailable

UNREACHABLE = (
    errors.ConnectionFailure,
    errors.ExecutionTimeout,
    errors.WriteConcernError,
    errors.CursorNotFound,
    errors.ProtocolError,
)
TOO_LARGE = (errors.DocumentTooLarge,)
UNSTORABLE = (InvalidDocument, OverflowError, UnicodeEncodeError)
OURS = (
    errors.OperationFailure,
    errors.InvalidOperation,
    errors.ConfigurationError,
    errors.InvalidName,
    errors.CollectionInvalid,
    errors.EncryptionError,
    BSONError,
)
# Answers to a command that say as much as a lost connection. The driver knows those of a stepped-down primary itself.
UNREACHABLE_CODES = {
    6: "HostUnreachable",
    7: "HostNotFound",
    13: "Unauthorized",
    18: "AuthenticationFailed",
    64: "WriteConcernTimeout",
    89: "NetworkTimeout",
    91: "ShutdownInProgress",
    100: "UnsatisfiableWriteConcern",
    112: "WriteConflict",
    133: "FailedToSatisfyReadPreference",
    134: "ReadConcernMajorityNotAvailableYet",
    262: "ExceededTimeLimit",
    11600: "InterruptedAtShutdown",
    11602: "InterruptedDueToReplStateChange",
    14031: "OutOfDiskSpace",
}


@contextmanager
def translated() -> Iterator[None]:
    """Raises Unavailable, TooLarge, InvalidRequest. After an Unavailable a write may or may not have happened."""
    try:
        yield
    except (errors.PyMongoError, BSONError, OverflowError, UnicodeEncodeError) as error:
        if isinstance(error, errors.DuplicateKeyError):
            raise
        if is_unreachable(error):
            raise Unavailable("The document store can't be reached or is busy. Try again shortly.") from error
        if isinstance(error, TOO_LARGE):
            raise TooLarge(
                "The document store takes 16 MB for one version of a dataset; this one is larger."
            ) from error
        if isinstance(error, UNSTORABLE):
            raise InvalidRequest(f"The document store can't hold a part of this: {error}") from error
        raise


def is_unreachable(error: Exception) -> bool:
    if isinstance(error, errors.OperationFailure) and error.code in UNREACHABLE_CODES:
        return True
    timed_out = isinstance(error, errors.PyMongoError) and error.timeout
    return timed_out or isinstance(error, UNREACHABLE)
