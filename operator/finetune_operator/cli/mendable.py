"""Errors that whoever types a command can mend."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import click

CANNOT_LISTEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)
PORT = click.IntRange(0, 65535)


@contextmanager
def told_in_one_line(*kinds: type[Exception]) -> Iterator[None]:
    """Errors of these kinds, and ports that cannot be had, end the command with one line and exit code 1.

    All others keep their traceback: they are for a bug report.
    """
    try:
        yield
    except kinds as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        if error.errno not in CANNOT_LISTEN:
            raise
        raise click.ClickException(f"{error.strerror or error}; choose another port or address") from error
