"""The errors of rl.

    Error                       rl itself failed                             exit code 125
     ├─ UsageError              the command line or a value in it is wrong   125
     ├─ NotFound                no such container, image, network …          125
     ├─ Conflict                a name or a thing is already taken           125
     ├─ HostError               the host refuses or lacks something          125
     ├─ RegistryError           a registry refuses, lies or is unreachable   125   (its kinds: image/registry.py)
     ├─ Malformed               a document is not what it says it is         125   (oci/descriptor.py)
     ├─ StoreError              the store on disk is damaged or foreign      125
     ├─ CannotInvoke            the command exists but cannot be executed    126
     └─ CommandNotFound         the command does not exist in the container  127

The codes are those of `docker run`. A message is lower case, has no full stop, and names the object and the act:
``cannot mount overlay on /x: permission denied``. `context` says where it happened, `hint` what the user can do.
Nothing reads meaning back from these texts: what a caller must tell apart is a class.
"""

from __future__ import annotations

import os


class Error(Exception):
    """A failure that ends in one clear line for the user.

    message: what failed, lower case, no full stop.
    context: optional, where: a file and line, a step, an operation of a plan.
    hint: optional, what the user can do about it, best a command.
    """

    exit_code = 125

    def __init__(self, message: str, *, context: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.context = context
        self.hint = hint


class UsageError(Error):
    """The command line, or a value given in it, is wrong."""


class NotFound(Error):
    """What the user named does not exist."""


class Conflict(Error):
    """A name is taken, or a thing is in a state that forbids the act."""


class HostError(Error):
    """The host refuses or lacks something that we need. number: the errno, where it was a system call that failed."""

    number: int | None = None


class RegistryError(Error):
    """A registry refused, could not be reached, or did not keep to the specification."""


class StoreError(Error):
    """The store on disk is damaged, foreign or of another version."""


class CannotInvoke(Error):
    """The command of the container exists but cannot be executed."""

    exit_code = 126


class CommandNotFound(Error):
    """The command of the container does not exist."""

    exit_code = 127


def reason(error: OSError | int) -> str:
    """The kernel's words for an errno, as our messages carry them: `Permission denied` -> `permission denied`."""
    number = error if isinstance(error, int) else (error.errno or 0)
    text = os.strerror(number)
    return text[:1].lower() + text[1:]
