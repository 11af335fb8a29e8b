"""Plans that nobody meant, against the decoder of the core under ASan and UBSan: refused, or good for everything that is then done with them."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless.runtime.plan import MAGIC, Kind, Operation, pack

HERE = Path(__file__).resolve().parent
LOWLEVEL = HERE.parent.parent / "rootless" / "_lowlevel"
HEADER, OPERATION = 16, 80

GOOD = [
    Operation(Kind.MONITOR, ("/store/c", "/run/c", None, "box")),
    Operation(Kind.REMOVE, ("/store/c", "/store/tmp/c", "/store/names/box")),
    Operation(Kind.LIKE, ("/l", "/u")),
    Operation(Kind.OVERLAY, ("/r", "userxattr", None, ("/l2", "/l1", "/u", "/w"))),
    Operation(Kind.HELPER, (("fuse-overlayfs", "-o", "x", "/r"),)),
    Operation(Kind.SETNS, ("/proc/1/ns/net",), (0x40000000,)),
    Operation(Kind.HOSTNAME, ("box",)),
    Operation(Kind.NETWORK, (("slirp4netns", "-c"),)),
    Operation(Kind.ROOT, ("/r",)),
    Operation(Kind.MOUNT, ("proc", "/proc", "proc", None), (14,)),
    Operation(Kind.BIND, ("/dev/null", "/dev/null"), (1, 0, 0, 0)),
    Operation(Kind.SYMLINK, ("/proc/self/fd", "/dev/fd")),
    Operation(Kind.TERMINAL_NEW, ("/dev/console",), (24, 80)),
    Operation(Kind.SYSCTL, ("net/ipv4/ping_group_range", "0 0")),
    Operation(Kind.MASK, ("/proc/keys",)),
    Operation(Kind.READONLY, ("/proc/sys",)),
    Operation(Kind.MKDIR, ("/work",), (0o755,)),
    Operation(Kind.PIVOT),
    Operation(Kind.USER, (struct.pack("=3I", 1, 2, 3),), (1, 1)),
    Operation(Kind.SECCOMP, (struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000),), (0,)),
    Operation(Kind.CWD, ("/work",)),
    Operation(Kind.READY),
    Operation(Kind.EXEC, (("/bin/sh", "/usr/bin/sh"), ("sh", "-c", "true"), ())),
]


class Driver:
    """The decoder, one process for all plans; it dies where a sanitizer complains."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )

    def accepts(self, plan: bytes) -> bool:
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._process.stdin.write(struct.pack("=I", len(plan)) + plan)
        answer = self._process.stdout.read(1)
        assert answer, self._process.stderr.read().decode(errors="replace")
        return answer == b"a"

    def close(self) -> None:
        _, complaint = self._process.communicate()
        assert self._process.returncode == 0, complaint.decode(errors="replace")  # leaks are told at the end


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    program = tmp_path_factory.mktemp("plan") / "plan-driver"
    sources = [str(HERE / "plan_driver.c"), str(LOWLEVEL / "plan.c")]
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fsanitize=address,undefined"]
    subprocess.run(
        ["cc", *flags, "-fno-sanitize-recover=all", f"-I{LOWLEVEL}", "-o", str(program), *sources], check=True
    )
    made = Driver(program)
    yield made
    made.close()


def test_a_good_plan_is_accepted(driver: Driver) -> None:
    assert driver.accepts(pack(GOOD, clone_flags=7))
    assert driver.accepts(pack([]))


@pytest.mark.parametrize("operation", [each for each in GOOD if each.texts], ids=lambda each: each.describe()[:20])
def test_an_operation_without_its_first_text_is_refused(driver: Driver, operation: Operation) -> None:
    """Guard: required_texts of plan.c. The child would pass a null pointer to strlen(3)."""
    if operation.kind in (Kind.USER, Kind.TERMINAL_NEW):  # may go without: no groups, no console
        return
    assert not driver.accepts(pack([operation._replace(texts=())]))


@pytest.mark.parametrize(
    "plan",
    [
        b"",
        struct.pack("=IIII", MAGIC, 16, 1, 0),
        struct.pack("=IIII", MAGIC, 16, 0xFFFFFFFF, 0),
        struct.pack("=IIII", MAGIC, 17, 0, 0),
        pack([Operation(Kind.EXEC, (("/bin/sh",), (), ()))]),
        pack([Operation(Kind.HELPER, ((),))]),
        pack([Operation(Kind.CWD, ("/",))])[:-1],
        pack([Operation(Kind.CWD, ("/",))] * 4097),
    ],
    ids=["empty", "short", "overflow", "size", "no argv", "no program", "no NUL", "too many"],
)
def test_a_broken_plan_is_refused(driver: Driver, plan: bytes) -> None:
    assert not driver.accepts(plan)


NUMBERS = st.one_of(
    st.sampled_from([0, 1, 7, 8, 16, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]),
    st.integers(0, 64),
    st.integers(HEADER, 4096),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_plan_is_refused_or_harmless(driver: Driver, data: st.DataObject) -> None:
    """Words of the header and of operations are replaced, bytes of the strings too, and the end is cut off: the driver touches what it accepts."""
    plan = bytearray(pack(data.draw(st.lists(st.sampled_from(GOOD), max_size=8)), clone_flags=0))
    for _ in range(data.draw(st.integers(1, 6))):
        if data.draw(st.booleans()) and len(plan) > HEADER:
            operation = data.draw(st.integers(0, (len(plan) - HEADER) // OPERATION))
            place = HEADER + operation * OPERATION + 4 * data.draw(st.integers(0, 9))
        else:
            place = data.draw(st.integers(0, max(0, len(plan) - 4)))
        plan[place : place + 4] = struct.pack("=I", data.draw(NUMBERS))
    if data.draw(st.booleans()):
        struct.pack_into("=I", plan, 4, len(plan))
    if data.draw(st.integers(0, 3)) == 0:
        plan = plan[: data.draw(st.integers(0, len(plan)))]
        if len(plan) >= HEADER:
            struct.pack_into("=II", plan, 0, MAGIC, len(plan))
    driver.accepts(bytes(plan))
