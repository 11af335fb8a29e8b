"""Imports point down only (docs/architecture.md, "Layers"), and each third-party package has one importer."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "rootless"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "paths", "settings"}),
    frozenset({"oci", "store", "_lowlevel"}),
    frozenset({"fuse_overlay", "slirp", "userns"}),
    frozenset({"image", "runtime", "network"}),
    frozenset({"engine"}),
    frozenset({"cli"}),
)
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units}

IMPORTERS = {
    "typer": {"cli.typer_face"},
    "click": {"cli.typer_face"},
    "rich": {"cli.console"},
    "requests": {"image.http"},
    "urllib3": {"image.http"},  # the connection below requests: its errors and retries
    "isal": {"image.compression"},
    "zstandard": {"image.compression"},
    "cffi": {"_lowlevel.build", "_lowlevel.build_seccomp"},
}

COMPILED = {"_lowlevel._core": "_lowlevel", "_lowlevel._seccomp": "_lowlevel.seccomp"}

# `errors`, `paths` and `settings` stand in one row and know one another; everywhere else a row holds independent packages.
GROUND = LAYERS[0]

PURE = {
    *("engine.spec", "runtime.plan", "runtime.capabilities", "userns.idmap", "fuse_overlay.merge", "network.ports"),
    *(f"oci.{path.stem}" for path in (PACKAGE / "oci").glob("*.py")),
}
IMPURE_MODULES = {"socket", "subprocess", "tempfile", "shutil", "pathlib", "requests", "fcntl", "mmap", "select"}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(module: str) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of each import in a module of ours, also those within functions."""
    path = MODULES[module]
    package = ["rootless", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, node.module or ""]).rstrip(".")
            for alias in node.names:  # `from .. import errors` names a module, `from ..errors import Error` does not
                name = f"{origin}.{alias.name}"
                yield (
                    node.lineno,
                    name if name.removeprefix("rootless.") in MODULES.keys() | COMPILED.keys() else origin,
                )


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    unit = module.split(".")[0]
    if unit in ("__init__", "__main__", ""):
        return
    wrong = []
    for line, name in imports(module):
        if not name.startswith("rootless."):
            continue
        other = name.split(".")[1]
        allowed = other == unit or LEVEL.get(other, -1) < LEVEL[unit] or {unit, other} <= GROUND
        if not allowed or other == "__main__":
            wrong.append(f"rootless/{module.replace('.', '/')}.py:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_every_unit_has_a_layer() -> None:
    units = {module.split(".")[0] for module in MODULES} - {"__init__", "__main__"}
    assert units <= LEVEL.keys()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_third_party_packages_have_one_importer(module: str) -> None:
    ours = {"rootless", *sys.stdlib_module_names}
    for line, name in imports(module):
        top = name.split(".")[0]
        if top not in ours:
            assert module in IMPORTERS.get(top, ()), f"rootless/{module.replace('.', '/')}.py:{line} imports {top}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_compiled_modules_have_one_importer(module: str) -> None:
    for line, name in imports(module):
        compiled = name.removeprefix("rootless.")
        assert COMPILED.get(compiled, module) == module, f"rootless/{module.replace('.', '/')}.py:{line} imports {name}"


@pytest.mark.parametrize("module", sorted(PURE & MODULES.keys()))
def test_pure_modules_do_no_io(module: str) -> None:
    for line, name in imports(module):
        assert name.split(".")[0] not in IMPURE_MODULES, f"rootless/{module}:{line} imports {name}"
    for node in ast.walk(ast.parse(MODULES[module].read_bytes())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("open", "print", "input", "exec", "eval"), f"{module}:{node.lineno}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_the_front_end_prints_or_exits(module: str) -> None:
    if module.split(".")[0] in ("cli", "__main__") or module == "_lowlevel.build":
        return
    for node in ast.walk(ast.parse(MODULES[module].read_bytes())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "exit", "sys.exit", "sys.stdout.write"), f"{module}:{node.lineno} {called}"
