"""The compiled parts of the package: two cffi modules and the core program. Everything else is in pyproject.toml."""

from __future__ import annotations

import os
import runpy

from setuptools import setup
from setuptools.command.build_ext import build_ext

BUILD = "rootless/_lowlevel/build.py"


class BuildCompiled(build_ext):
    """Compiles the core program beside the cffi modules: in place for an editable install, else into the wheel's tree."""

    def run(self) -> None:
        super().run()
        target = os.path.dirname(BUILD) if self.inplace else os.path.join(self.build_lib, os.path.dirname(BUILD))
        os.makedirs(target, exist_ok=True)
        runpy.run_path(BUILD)["build_program"](target)


setup(
    cffi_modules=[f"{BUILD}:core", "rootless/_lowlevel/build_seccomp.py:seccomp_builder"],
    cmdclass={"build_ext": BuildCompiled},
    scripts=["tools/rl"],
)
