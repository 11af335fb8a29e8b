"""A request's way into container.json and back."""

from __future__ import annotations

import json
import types
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.engine import request as module
from rootless.engine.request import CreateRequest, Device, Mount, Namespaces, Ulimit, from_json, to_json
from rootless.network.ports import PublishedPort

HINTS = typing.get_type_hints(CreateRequest)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type, NamedTuples by their fields; short, since what matters is shapes."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        return st.one_of(*map(values, arguments))
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(values(arguments[0]), max_size=2).map(tuple)
        return st.tuples(*map(values, arguments))
    if hasattr(hint, "_fields"):
        return st.builds(hint, **{name: values(kind) for name, kind in typing.get_type_hints(hint).items()})
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(st.characters(exclude_categories=[]), max_size=4), int: st.integers(-1, 2**40), bool: st.booleans(), type(None): st.none(),
    }  # fmt: skip
    return simple[hint]


# One field at a time, besides the image: fields do not know of each other, and fifty strategies at once are slow.
fields = st.sampled_from([name for name in HINTS if name != "image"]).flatmap(
    lambda name: st.tuples(st.just(name), values(HINTS[name]))
)


@settings(max_examples=400, deadline=None)
@given(st.lists(fields, max_size=3).map(dict))
def test_a_request_comes_back_as_it_was(given_fields: dict[str, Any]) -> None:
    request = CreateRequest("alpine", **given_fields)
    copy = from_json(json.loads(json.dumps(to_json(request))))
    assert copy == request
    assert shape(copy) == shape(request)


def shape(value: Any) -> Any:
    """The classes of a value: == takes a NamedTuple for the tuple of its fields, and 1 for True."""
    return (type(value), *map(shape, value)) if isinstance(value, tuple) else type(value)


def test_every_field_at_once() -> None:
    request = CreateRequest(
        image="a", command=("x", ""), entrypoint=(), name="n", environment=(("A", "1"), ("B", None)),
        mounts=(Mount("bind", "/a", "/b", ("ro", "U")), Mount("volume", None, "/v", make_source=True)), devices=(Device("/dev/x", "/dev/y"),),
        ports=(PublishedPort("::1", 80, 8080, "udp", 90),), expose=((80, "tcp"),), namespaces=Namespaces(network="none", pid="host"),
        labels=(("k", ""),), ulimits=(Ulimit("nofile", -1, -1),), tls_verify=False, stop_signal=9, umask=0, oom_score_adj=0,
    )  # fmt: skip
    assert from_json(json.loads(json.dumps(to_json(request)))) == request


def test_only_what_was_said_is_kept() -> None:
    assert to_json(CreateRequest("alpine")) == {"image": "alpine"}
    assert to_json(CreateRequest("alpine", entrypoint=()))["entrypoint"] == ()


def test_a_field_of_tuples_of_our_own_is_known_as_one() -> None:
    """A new NamedTuple in the request would come back as a plain tuple, were it not listed."""
    nested = {
        name for name, hint in HINTS.items() if any(hasattr(part, "_fields") for part in (hint, *typing.get_args(hint)))
    }
    assert nested == set(module._NESTED) | {"namespaces"}


@pytest.mark.parametrize(
    "document", [{}, {"image": "a", "unheard": 1}, {"image": "a", "mounts": [{"kind": "bind"}]}, {"image": "a", "mounts": [7]}, [1], "text", None]
)  # fmt: skip
def test_what_is_no_request_is_refused(document: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        from_json(document)
