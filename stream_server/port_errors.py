"""What is said of a port that cannot be had."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

__all__ = ["saying_which"]


@contextlib.contextmanager
def saying_which(setting: str, host: str, port: int, option: str | None = None) -> Iterator[None]:
    """Say of a port that cannot be had which it is, and what to do.

    Args:
        setting: that names it.
        host: address.
        port: number.
        option: of the command line that names another; None: the server can do without the port.
    """
    try:
        yield
    except OSError as error:
        # asyncio's own text repeats the address; the resolver's numbers are not the system's.
        known = error.errno is not None and error.errno > 0
        reason = os.strerror(error.errno or 0) if known else error.strerror or str(error)
        if error.errno != errno.EADDRINUSE:
            remedy = "expected an address of this machine and a port this user may have"
        elif option is not None:
            remedy = f"stop the program that has it, or choose another one with {option}"
        else:
            remedy = (
                "stop the program that has it, choose another one, or set it to -1 to do without"
            )
        raise OSError(f"got {setting} {port} at {host}: {reason.lower()}; {remedy}") from error
