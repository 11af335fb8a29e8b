"""Builds the C core: the cffi module `_core` (out of line) and the static program `rl-core`, from the same sources.

    python rootless/_lowlevel/build.py             all, in place
    python rootless/_lowlevel/build.py --asan DIR  the program with ASan and UBSan, dynamically linked, into DIR

`core` is the `ffi` object that setuptools' cffi_modules wants; `build_program` is called by setup.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import cffi

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = "rl-core"

# In the order in which a reader should take them.
CHILD_SOURCES = ("child.c", "mounts.c", "terminal.c", "creds.c", "init.c", "report.c")
PROGRAM_SOURCES = (
    "main.c",
    "monitor.c",
    "join.c",
    "launch.c",
    "plan.c",
    "streams.c",
    "log.c",
    "state.c",
    *CHILD_SOURCES,
    "files.c",
    "unpack.c",
    "tar.c",
    "pax.c",
    "blocks.c",
    "whiteouts.c",
    "beneath.c",
    "finish.c",
    "pack.c",
    "tree.c",
)
MODULE_SOURCES = ("host.c", "mounts.c", "plan.c", "report.c")

WARNINGS = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
# musl-tools brings no kernel headers; those of the host's libc come last, so that musl's own win.
MUSL_FLAGS = ("-static", "-idirafter", "/usr/include", "-idirafter", f"/usr/include/{os.uname().machine}-linux-gnu")


def _declarations() -> str:
    """The part of core.h and host.h that cffi's parser understands: enums and structs, without the preprocessor."""
    text = []
    for name in ("core.h", "host.h"):
        with open(os.path.join(HERE, name), encoding="ascii") as file:
            lines = [line for line in file if not line.startswith("#")]
        text.append("".join(lines))
    constants = "#define RL_PLAN_MAGIC ...\n#define RL_DATA_MAX ...\n"
    return constants + "".join(text) + _REPORT


_REPORT = """
int rl_send(int socket, uint32_t type, const void *payload, size_t size, int descriptor);
ssize_t rl_receive(int socket, uint32_t *type, void *payload, size_t capacity, int *descriptor);
"""


def _core() -> cffi.FFI:
    ffi = cffi.FFI()
    ffi.cdef(_declarations().replace("1u << ", "1 << ").replace("16u << 20", "16 << 20"))
    ffi.set_source(
        "rootless._lowlevel._core",
        '#include "core.h"\n#include "host.h"\n#include "report.h"\n',
        sources=[os.path.join("rootless", "_lowlevel", source) for source in MODULE_SOURCES],
        include_dirs=[HERE],
        extra_compile_args=["-std=gnu11", "-O2"],
    )
    return ffi


def build_program(directory: str, *, sanitize: bool = False) -> str:
    """Compile rl-core into `directory`; returns its path. Static: with musl where musl-gcc is installed (smaller), else with the system's libc."""
    target = os.path.join(directory, PROGRAM)
    sources = [os.path.join(HERE, source) for source in PROGRAM_SOURCES]
    if sanitize:
        command = [os.environ.get("CC", "cc"), "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    elif shutil.which("musl-gcc"):
        command = ["musl-gcc", "-O2", *MUSL_FLAGS, "-s"]
    else:
        command = [os.environ.get("CC", "cc"), "-O2", "-static", "-s"]
    temporary = f"{target}.{os.getpid()}"
    subprocess.run([*command, *WARNINGS, "-o", temporary, *sources], check=True)
    os.chmod(temporary, 0o755)
    os.rename(temporary, target)
    return target


core = _core()


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--asan"]:
        build_program(arguments[1], sanitize=True)
        return
    build_program(HERE)
    top = os.path.dirname(os.path.dirname(HERE))
    core.compile(tmpdir=top, verbose=False)


if __name__ == "__main__":
    main(sys.argv[1:])
