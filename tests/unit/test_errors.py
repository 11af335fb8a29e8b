"""Errors as values: their exit codes, their words, and their way through a pipe (userns.enter.inside pickles them)."""

from __future__ import annotations

import errno
import pickle

import pytest

from rootless import errors


@pytest.mark.parametrize(
    "kind, code",
    [(errors.Error, 125), (errors.UsageError, 125), (errors.CannotInvoke, 126), (errors.CommandNotFound, 127)],
)
def test_exit_codes_are_those_of_docker_run(kind: type[errors.Error], code: int) -> None:
    assert kind.exit_code == code


def test_an_error_survives_pickling() -> None:
    error = errors.HostError("cannot do it", context="line 1", hint="try that")
    error.number = errno.EACCES
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.HostError
    assert (copy.message, copy.context, copy.hint, copy.number) == ("cannot do it", "line 1", "try that", errno.EACCES)
    assert str(copy) == "cannot do it"


def test_reasons_are_the_kernels_in_lower_case() -> None:
    assert errors.reason(errno.EACCES) == "permission denied"
    assert errors.reason(OSError(errno.ENOENT, "ignored")) == "no such file or directory"
    assert errors.reason(OSError("without a number")) == "success"
