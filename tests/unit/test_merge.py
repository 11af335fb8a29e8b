"""The union rules against a naive model: layers applied one after another to a plain tree, as an unpacker of a flat root would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rootless.fuse_overlay import merge
from rootless.fuse_overlay.merge import Found, Kind, Removal

WHITEOUT = None
Tree = dict[bytes, Any]
"""A directory of a layer: name -> text of a file, Tree of a directory, or WHITEOUT. The key b"" means: opaque."""

NAMES = [b"a", b"b", b"c"]


class View:
    """merge.View of a Tree. spelled: names that also have a `.wh.` file beside what the layer holds."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    def kind(self, name: bytes) -> Kind | None:
        if name not in self.tree:
            return None
        value = self.tree[name]
        return Kind.WHITEOUT if value is WHITEOUT else Kind.DIRECTORY if isinstance(value, dict) else Kind.OTHER

    def opaque(self, name: bytes) -> bool:
        return b"" in self.tree[name]

    def entries(self) -> Iterable[tuple[bytes, Kind]]:
        for name, value in self.tree.items():
            kind = self.kind(name) if name else None
            if kind is not None:
                yield name, kind
            if isinstance(value, dict) and b"" in value:
                yield name, Kind.WHITEOUT


def layers(depth: int = 3) -> st.SearchStrategy[Tree]:
    leaf = st.one_of(st.just(WHITEOUT), st.text("xyz", max_size=2))
    tree: st.SearchStrategy[Any] = st.dictionaries(st.sampled_from(NAMES), leaf, max_size=3)
    for _ in range(depth):
        below = tree
        opaque = st.builds(lambda directory: {**directory, b"": True}, below)
        tree = st.dictionaries(st.sampled_from(NAMES), st.one_of(leaf, below, opaque), max_size=3)
    return tree


def apply(flat: Tree, layer: Tree) -> None:
    """The naive model: put one layer upon a plain tree."""
    for name, value in layer.items():
        if not name:
            continue
        if value is WHITEOUT:
            flat.pop(name, None)
        elif not isinstance(value, dict):
            flat[name] = value
        else:
            if not isinstance(flat.get(name), dict) or b"" in value:
                flat[name] = {}
            apply(flat[name], value)


def flattened(stack: list[Tree]) -> Tree:
    flat: Tree = {}
    for layer in reversed(stack):
        apply(flat, layer)
    return flat


def union(stack: list[Tree]) -> Tree:
    """All that the rules show."""
    views = [View(tree) for tree in stack]
    shown: Tree = {}
    for name, position in merge.merged(views).items():
        found = merge.look_up(views, name)
        assert found is not None
        assert found.positions[0] == position
        if found.kind is Kind.DIRECTORY:
            shown[name] = union([stack[position][name] for position in found.positions])
        else:
            shown[name] = stack[position][name]
    for name in NAMES:
        assert (merge.look_up(views, name) is not None) == (name in shown)
    return shown


@given(st.lists(layers(), min_size=1, max_size=4))
def test_union_is_the_layers_applied_in_order(stack: list[Tree]) -> None:
    assert union(stack) == flattened(stack)


class Overlay:
    """The upper layer over lower ones, changed as the rules say, beside the plain tree, changed directly."""

    def __init__(self, lower: list[Tree]) -> None:
        self.stack: list[Tree] = [{}, *lower]
        self.flat = flattened(lower)

    def versions(self, path: list[bytes]) -> list[Tree]:
        """The stack of the directory at a path, copied up."""
        stack = self.stack
        for name in path:
            found = merge.look_up([View(tree) for tree in stack], name)
            assert found is not None
            below = [stack[position][name] for position in found.positions]
            if found.positions[0] != 0:
                stack[0][name] = {}
                below.insert(0, stack[0][name])
            stack = below
        return stack

    def plain(self, path: list[bytes]) -> Tree:
        tree = self.flat
        for name in path:
            tree = tree[name]
        return tree

    def directories(self) -> Iterator[list[bytes]]:
        def walk(tree: Tree, path: list[bytes]) -> Iterator[list[bytes]]:
            yield path
            for name, value in sorted(tree.items()):
                if isinstance(value, dict):
                    yield from walk(value, [*path, name])

        return walk(self.flat, [])

    def remove(self, path: list[bytes], name: bytes) -> None:
        stack = self.versions(path)
        below = merge.look_up([View(tree) for tree in stack[1:]], name) is not None
        how = merge.removal(in_upper=stack[0].get(name) is not None, below=below)
        stack[0].pop(name, None)
        if how is not Removal.REMOVE:
            stack[0][name] = WHITEOUT
        del self.plain(path)[name]

    def put(self, path: list[bytes], name: bytes, value: Any) -> None:
        stack = self.versions(path)
        below = merge.look_up([View(tree) for tree in stack[1:]], name) is not None
        opaque = merge.must_be_opaque(directory=isinstance(value, dict), below=below)
        stack[0][name] = {**value, **({b"": True} if opaque else {})} if isinstance(value, dict) else value
        self.plain(path)[name] = {} if isinstance(value, dict) else value

    def movable(self, path: list[bytes], name: bytes) -> bool:
        found = merge.look_up([View(tree) for tree in self.versions(path)], name)
        assert found is not None
        return merge.may_move(found, upper=True)


@given(st.lists(layers(2), min_size=1, max_size=3), st.data())
def test_changes_show_as_on_a_plain_tree(lower: list[Tree], data: st.DataObject) -> None:
    before = repr(lower)
    overlay = Overlay(lower)
    for _ in range(data.draw(st.integers(1, 12))):
        path = data.draw(st.sampled_from(list(overlay.directories())))
        name = data.draw(st.sampled_from(NAMES))
        there = overlay.plain(path).get(name)
        if there is None:
            overlay.put(path, name, data.draw(st.sampled_from(["new", {}])))
        elif there == {} or not isinstance(there, dict):
            overlay.remove(path, name)
        elif overlay.movable(path, name):
            moved = overlay.plain(path)[name]
            assert name in overlay.versions(path)[0], "only what the upper layer alone holds can move"
            assert union([overlay.versions([*path, name])[0]]) == moved
        assert union(overlay.stack) == overlay.flat
    assert repr(lower) == before, "a lower layer was changed"


def test_hidden_names() -> None:
    assert merge.hidden_name(b".wh.file") == b"file"
    assert merge.hidden_name(b".wh..wh..opq") is None
    assert merge.hidden_name(b".wh.") is None
    assert merge.hidden_name(b"file") is None
    assert merge.reserved(b".wh..wh.plnk")
    assert not merge.reserved(b".what")


def test_moving() -> None:
    assert merge.may_move(Found(Kind.OTHER, (3,)), upper=True)
    assert merge.may_move(Found(Kind.DIRECTORY, (0,)), upper=True)
    assert not merge.may_move(Found(Kind.DIRECTORY, (0, 1)), upper=True)
    assert not merge.may_move(Found(Kind.DIRECTORY, (0,)), upper=False)
