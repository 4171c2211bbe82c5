"""What can be wrong with a place, by who can mend it."""


class StorageError(Exception):
    """A place could not be read or written. The message names the URI, what is wrong, and the mend."""


class UriError(StorageError):
    """A URI has a form that we do not know."""


class NotFoundError(StorageError):
    """There is nothing at a URI."""


class AccessDeniedError(StorageError):
    """The credentials are missing, wrong, or not enough."""


class UnavailableError(StorageError):
    """The place does not answer, or has no room left: time, or its owner, may mend it."""
