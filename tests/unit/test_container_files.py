"""Containers as files: making and naming them, finding them again, and what their files say of what they do."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rootless.engine import container
from rootless.engine.container import Draft, State
from rootless.engine.request import CreateRequest, Mount
from rootless.errors import Conflict, NotFound, StoreError, UsageError
from rootless.network.ports import PublishedPort
from rootless.paths import Paths
from rootless.userns import enter
from tests.fakes.containers import commit, described, empty_paths

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return empty_paths(tmp_path)


def at_rest(paths: Paths) -> bool:
    return os.listdir(paths.tmp) == ["partial"]


# ---- making


def test_a_container_appears_whole_and_comes_back_as_it_was(paths: Paths) -> None:
    request = CreateRequest("alpine", ("a", ""), mounts=(Mount("tmpfs", None, "/t"),), remove=True)
    port = PublishedPort("127.0.0.1", 8080, 80)
    with Draft(paths, "f" * 64) as draft:
        made = described(draft.id, draft.take_name("web"), request=request, ports=(port,), volumes={"/v": "x"})
        assert container.identifiers(paths) == []
        draft.commit(made, durable=True)
    found = container.load(paths, made.id)
    assert found == made
    assert type(found.request.mounts[0]) is Mount and type(found.ports[0]) is PublishedPort
    assert sorted(os.listdir(paths.container(made.id))) == ["container.json", "lock", "rootfs", "upper", "work"]
    assert os.readlink(paths.name("web")) == f"../containers/{made.id}"
    assert at_rest(paths)


def test_what_is_not_committed_leaves_nothing(paths: Paths) -> None:
    with pytest.raises(ZeroDivisionError), Draft(paths, "f" * 64) as draft:
        draft.take_name("web")
        assert os.listdir(paths.names) == ["web"]
        raise ZeroDivisionError
    assert at_rest(paths) and os.listdir(paths.names) == [] and container.identifiers(paths) == []


def test_a_name_is_one_containers(paths: Paths) -> None:
    made = commit(paths, "web")
    with Draft(paths, "f" * 64) as draft:
        with pytest.raises(Conflict, match=f"^the name 'web' is taken by container {made.id[:12]}$"):
            draft.take_name("web")
        assert draft.take_name(None) != "web"
    assert os.listdir(paths.names) == ["web"]


def test_a_name_is_taken_while_its_container_is_being_made(paths: Paths) -> None:
    with Draft(paths, "e" * 64) as first, Draft(paths, "f" * 64) as second:
        first.take_name("web")
        with pytest.raises(Conflict, match="is taken by container eeeeeeeeeeee"):
            second.take_name("web")


KILLED = """
import os, sys
from rootless.engine.container import Draft
from rootless.paths import Paths
draft = Draft(Paths(sys.argv[1] + "/s", sys.argv[1] + "/r", "", ""), "e" * 64).__enter__()
draft.take_name("web")
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_maker_leaves_is_free(paths: Paths, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=REPOSITORY, check=False)
    assert os.listdir(paths.names) == ["web"] and len(os.listdir(paths.tmp)) == 2
    made = commit(paths, "web")
    assert container.resolve(paths, "web") == made.id


@pytest.mark.parametrize("target", ["../containers/" + "d" * 64, "../containers/gone", "nonsense"])
def test_a_name_that_leads_nowhere_is_free(paths: Paths, target: str) -> None:
    os.symlink(target, paths.name("web"))
    with pytest.raises(NotFound):
        container.resolve(paths, "web")
    assert container.resolve(paths, commit(paths, "web").id) == container.resolve(paths, "web")


def test_of_many_makers_one_gets_the_name(paths: Paths, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from rootless.errors import Conflict\n"
        "from rootless.paths import Paths; from tests.fakes.containers import commit; place = sys.argv[1]\n"
        "try: commit(Paths(place + '/s', place + '/r', '', ''), 'web')\nexcept Conflict: sys.exit(3)"
    )
    os.symlink("../containers/" + "d" * 64, paths.name("web"))  # a stale one, that all want to free
    makers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY) for _ in range(5)]
    assert sorted(maker.wait() for maker in makers) == [0, 3, 3, 3, 3]
    assert len(container.identifiers(paths)) == 1 and at_rest(paths)


@pytest.mark.parametrize("name", ["ab", "A1", "0-_.", "a" * 128])
def test_names_by_dockers_rule(name: str) -> None:
    container.check_name(name)


@pytest.mark.parametrize("name", ["", "a", "-ab", ".ab", "_ab", "a b", "a/b", "..", "aä", "äa", "²a", "a\n", "a" * 129])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        container.check_name(name)


# ---- finding


def test_a_container_is_found_by_name_id_and_the_beginning_of_its_id(paths: Paths) -> None:
    first = commit(paths, "web", container_id="ab1" + "0" * 61)
    second = commit(paths, "ab2", container_id="ab2" + "0" * 61)
    for text in ("web", first.id, first.id[:12], "ab1"):
        assert container.resolve(paths, text) == first.id
    commit(paths, "other", container_id="ab20" + "1" * 60)
    assert container.resolve(paths, "ab2") == second.id, "a name before the beginning of an id"
    with pytest.raises(Conflict, match="3 containers have an id that begins with 'ab'"):
        container.resolve(paths, "ab")
    for text in ("we", "abc", "AB1", first.id + "0", "x" * 300):
        with pytest.raises(NotFound):
            container.resolve(paths, text)
    for text in ("", ".", "..", "../names/web", "/"):
        with pytest.raises(UsageError):
            container.resolve(paths, text)


def test_what_is_no_container_is_not_listed(paths: Paths) -> None:
    made = commit(paths, "web")
    for name in ("notes", "g" * 64, "A" * 64):
        os.mkdir(f"{paths.containers}/{name}")
    assert container.identifiers(paths) == [made.id]
    assert container.identifiers(paths._replace(root="/nowhere")) == []


# ---- what it does

BOOT = container.boot_id()
OWN_START = enter.start_time(os.getpid())
EXIT = {"exitCode": 3, "signal": 0, "startedAt": "t1", "finishedAt": "t2", "logError": 0}
STARTED = {"startedAt": "t1"}
ALIVE = {
    "monitorPid": os.getpid(),
    "monitorStartTime": OWN_START,
    "pid": 7,
    "startTime": 8,
    "startedAt": "t0",
    "bootId": BOOT,
}
NOT_RUNNING = {
    "no state": None,
    "not started yet": ALIVE | {"startedAt": ""},
    "monitor dead": ALIVE | {"monitorPid": 2**22 + 1},
    "pid recycled": ALIVE | {"monitorStartTime": (OWN_START or 0) + 1},
    "another boot": ALIVE | {"bootId": "00000000-0000-0000-0000-000000000000"},
    "no monitor": ALIVE | {"monitorPid": 0},
}  # fmt: skip


def put(paths: Paths, *, state: Any = None, exit: Any = None, started: Any = None) -> str:
    made = commit(paths)
    os.mkdir(paths.runtime(made.id))
    for place, document in (
        (f"{paths.runtime(made.id)}/state.json", state),
        (f"{paths.container(made.id)}/exit.json", exit),
        (f"{paths.container(made.id)}/started.json", started),
    ):
        if document is not None:
            Path(place).write_text(document if isinstance(document, str) else json.dumps(document))
    return made.id


@pytest.mark.parametrize("exit, started", list(itertools.product((None, EXIT), (None, STARTED))))
def test_a_live_monitor_means_running_whatever_was_before(paths: Paths, exit: Any, started: Any) -> None:
    found = container.state(paths, put(paths, state=ALIVE, exit=exit, started=started))
    assert found == State("running", 7, 8, os.getpid(), OWN_START or 0, "t0")
    assert found.running


@pytest.mark.parametrize("state", NOT_RUNNING)
def test_without_one_the_last_record_counts(paths: Paths, state: str) -> None:
    told = NOT_RUNNING[state]
    ended = State("exited", started_at="t1", finished_at="t2", exit_code=3)
    assert container.state(paths, put(paths, state=told, exit=EXIT, started=STARTED)) == ended
    assert container.state(paths, put(paths, state=told, exit=EXIT)) == ended
    unseen = State("exited", started_at="t1", exit_code=137)
    assert container.state(paths, put(paths, state=told, started=STARTED)) == unseen
    assert container.state(paths, put(paths, state=told)) == State("created")


def test_a_container_without_a_runtime_directory_does_not_run(paths: Paths) -> None:
    assert container.state(paths, commit(paths).id) == State("created")


DAMAGED = ["{", "[]", "7", '"text"', "{}", '{"startedAt":7}', "null1", "[" * 100_000]


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize("file", ["state", "exit", "started"])
def test_damaged_files_are_an_error_of_the_store(paths: Paths, file: str, text: str) -> None:
    if file == "started" and "startedAt" in text:
        return  # it is whole
    with pytest.raises(StoreError, match=rf"{file}\.json is damaged"):
        container.state(paths, put(paths, **{file: text}))


@pytest.mark.parametrize("text", [*DAMAGED, '{"format":1}', '{"format":1,"id":"x"}'])
def test_a_damaged_container_is_an_error_of_the_store(paths: Paths, text: str) -> None:
    made = commit(paths, "web")
    Path(paths.container_record(made.id)).write_text(text)
    with pytest.raises(StoreError, match="damaged"):
        container.load(paths, made.id)
    assert container.resolve(paths, "web") == made.id, "it can still be named, to be removed"


@pytest.mark.parametrize("field", ["ports", "layers", "command", "request"])
@pytest.mark.parametrize("value", [7, None, [7], ["x"], {"x": 1}])
def test_a_field_of_the_wrong_shape(paths: Paths, field: str, value: Any) -> None:
    made = commit(paths, "web")
    path = Path(paths.container_record(made.id))
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    if field in ("layers", "command") and isinstance(value, list | dict):
        return  # what they hold is nobody's harm
    with pytest.raises(StoreError, match="damaged"):
        container.load(paths, made.id)


def test_a_container_of_a_later_rl_is_refused(paths: Paths) -> None:
    made = commit(paths, "web")
    Path(paths.container_record(made.id)).write_text('{"format":2}')
    with pytest.raises(StoreError, match="format 2, this rl reads format 1"):
        container.load(paths, made.id)
    with pytest.raises(NotFound):
        container.load(paths, "f" * 64)
