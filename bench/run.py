"""rl against podman, side by side in one run: `make bench`, or `make bench BENCH=--quick`. Writes Markdown to stdout.

Every figure is the median of rounds in which the peers take turns, so that a slow moment of the machine meets both.
Same image, from the same registry on loopback; same network mode; podman on its native overlay driver.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.fakes import sample_images
from tests.fakes.docker_registry import DockerRegistry
from tests.fakes.leaks import processes

ALPINE = "library/alpine:latest"
DEBIAN = "library/debian-root:latest"
PARALLEL = 32
SOURCES = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list.d/ubuntu.sources", "/etc/apt/sources.list")

STORAGE_CONF = '[storage]\ndriver = "overlay"\ngraphroot = "{home}/storage"\nrunroot = "{run}/containers"\n'
CONTAINERS_CONF = '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
REGISTRIES_CONF = '[[registry]]\nlocation = "{host}"\ninsecure = true\n'


class Peer(NamedTuple):
    """One engine: its command with global options, and how it names the process that stays beside a container."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    monitor: Callable[[Peer, str], int]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.command, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> None:
        finish(self.start(*arguments))

    def output(self, *arguments: str) -> str:
        command = [*self.command, *arguments]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout.strip()


def finish(process: subprocess.Popen[bytes]) -> None:
    _, error = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(f"{process.args!r} ended with {process.returncode}: {error.decode(errors='replace')[-2000:]}")


class Row(NamedTuple):
    """One line of the result: the samples of each peer, in the peers' order."""

    title: str
    unit: str
    samples: tuple[list[float], ...]
    target: str = ""

    def markdown(self) -> str:
        cells = [_cell(samples, self.unit) for samples in self.samples]
        medians = [median(samples) for samples in self.samples if samples]
        ratio = f"{medians[0] / medians[1]:.2f}" if len(medians) == 2 and medians[1] else ""
        return f"| {self.title} | {' | '.join(cells)} | {ratio} | {self.target} |"


def _cell(samples: list[float], unit: str) -> str:
    if not samples:
        return ""
    figures = 1 if unit == "ms" else 2 if unit == "s" else 1
    return f"{median(samples):.{figures}f} {unit} ({min(samples):.{figures}f} to {max(samples):.{figures}f})"


def take_turns(peers: Sequence[Peer], rounds: int, measure: Callable[[Peer], float]) -> tuple[list[float], ...]:
    """Each round asks every peer once, in an order that turns; the first round warms up and is not counted."""
    samples: tuple[list[float], ...] = tuple([] for _ in peers)
    for number in range(rounds + 1):
        order = range(len(peers)) if number % 2 else range(len(peers) - 1, -1, -1)
        for index in order:
            value = measure(peers[index])
            if number:
                samples[index].append(value)
    return samples


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def milliseconds(*arguments: str) -> Callable[[Peer], float]:
    return lambda peer: 1000 * seconds(lambda: peer.run(*arguments))


# ---- the peers


@contextmanager
def engines(rl: str, place: str, host: str) -> Iterator[tuple[Peer, Peer]]:
    """rl and podman, each with a home of its own in `place`."""
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "USER": os.environ.get("USER", ""),
    }
    homes = {}
    for name in ("rl", "podman"):
        homes[name] = {"HOME": f"{place}/{name}/home", "XDG_RUNTIME_DIR": f"{place}/{name}/run", **environment}
        os.makedirs(f"{place}/{name}/home/.config/containers", mode=0o700)
        os.makedirs(f"{place}/{name}/run", mode=0o700)
    settings = Path(f"{place}/podman/home/.config/containers")
    run = homes["podman"]["XDG_RUNTIME_DIR"]
    (settings / "storage.conf").write_text(STORAGE_CONF.format(home=homes["podman"]["HOME"], run=run))
    (settings / "containers.conf").write_text(CONTAINERS_CONF)
    (settings / "registries.conf").write_text(REGISTRIES_CONF.format(host=host))
    ours = Peer("rl", (rl,), homes["rl"], rl_monitor)
    theirs = Peer("podman", ("podman",), homes["podman"], podman_monitor)
    info = json.loads(theirs.output("info", "--format", "json"))["store"]
    if info["graphDriverName"] != "overlay" or "overlay.mount_program" in info["graphOptions"]:
        raise SystemExit(f"podman is not on native overlay: {info['graphDriverName']}, {info['graphOptions']}")
    try:
        yield ours, theirs
    finally:
        ours.run("rm", "--force", "--all")
        theirs.run("rm", "--force", "--all", "--time", "0")
        theirs.run("system", "migrate")  # ends its pause process
        subprocess.run(["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", place], check=True)


def rl_monitor(peer: Peer, name: str) -> int:
    identity = json.loads(peer.output("inspect", name))[0]["Id"]
    state = Path(peer.environment["XDG_RUNTIME_DIR"], "rl", "containers", identity, "state.json")
    return int(json.loads(state.read_text())["monitorPid"])


def podman_monitor(peer: Peer, name: str) -> int:
    return int(json.loads(peer.output("inspect", name))[0]["State"]["ConmonPid"])


def proportional_size(pid: int) -> int:
    """PSS in KiB: shared pages count in part (proc(5), smaps_rollup)."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


# ---- the measurements


def container_rows(peers: tuple[Peer, Peer], host: str, rounds: int) -> Iterator[Row]:
    image = f"{host}/{ALPINE}"
    for network, target in (("slirp4netns", "0.40"), ("none", "0.40")):
        run = milliseconds("run", "--rm", "--network", network, image, "true")
        yield Row(f"`run --rm --network {network} alpine true`", "ms", take_turns(peers, rounds, run), target)
    for peer in peers:
        peer.run("run", "-d", "--name", "bench", "--network", "none", image, "sleep", "3600")
    yield Row("`exec bench true`", "ms", take_turns(peers, rounds, milliseconds("exec", "bench", "true")))
    yield Row("`ps`, one container running", "ms", take_turns(peers, rounds, milliseconds("ps")))
    resident = tuple([float(proportional_size(peer.monitor(peer, "bench")))] for peer in peers)
    yield Row("the process beside a container (monitor, conmon), PSS", "KiB", resident, "1.00")
    for peer in peers:
        peer.run("rm", "-f", "bench")
    at_once = max(3, rounds // 6)
    yield Row(
        f"{PARALLEL} `run --rm --network none` at once",
        "s",
        take_turns(peers, at_once, lambda peer: parallel(peer, image)),
    )


def parallel(peer: Peer, image: str) -> float:
    def act() -> None:
        for process in [peer.start("run", "--rm", "--network", "none", image, "true") for _ in range(PARALLEL)]:
            finish(process)

    return seconds(act)


def pull_rows(peers: tuple[Peer, Peer], host: str, rounds: int, size: int) -> Iterator[Row]:
    image = f"{host}/{DEBIAN}"

    def pull(peer: Peer) -> float:
        duration = seconds(lambda: peer.run("pull", "-q", image))
        peer.run("rmi", image)
        return duration

    title = f"`pull` of a Debian root, {size // 1000_000} MB unpacked, one layer"
    yield Row(title, "s", take_turns(peers, rounds, pull), "0.50")
    peaks = take_turns(peers, 2, lambda peer: peak_of_pull(peer, image))
    yield Row("peak memory of that pull, PSS of all its processes", "MiB", peaks, "< 200 MiB")


def peak_of_pull(peer: Peer, image: str) -> float:
    """MiB. Sampled every 20 ms over the process and all below it, in a run of its own: sampling costs time."""
    process = peer.start("pull", "-q", image)
    over = threading.Event()
    peak = 0

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.02):
            total = 0
            for pid in descendants(process.pid):
                try:
                    total += proportional_size(pid)
                except OSError:
                    continue  # it ended meanwhile
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        finish(process)
    finally:
        over.set()
        watcher.join()
    peer.run("rmi", image)
    return peak / 1024


def descendants(pid: int) -> Iterator[int]:
    yield pid
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                yield from descendants(int(child))
    except OSError:
        return  # it ended meanwhile


def frozen_rows(frozen: str, rl: Peer, host: str, rounds: int) -> Iterator[Row]:
    """The one-file executable on rl's own store, in the column of rl."""
    peer = rl._replace(command=(frozen,))
    for words in (("version",), ("run", "--rm", "--network", "none", f"{host}/{ALPINE}", "true")):
        samples = take_turns([peer], rounds, milliseconds(*words))
        yield Row(
            f"the frozen executable ({os.path.getsize(frozen) / 1e6:.1f} MB): `{' '.join(words[:2])}`",
            "ms",
            (*samples, []),
        )


# ---- the images


def debian_root() -> bytes:
    """A Debian root with python3, gcc and git as a tar, made once and kept in the cache."""
    cache = Path(os.environ["HOME"], ".cache", "rl-bench")
    archive = cache / "debian-root.tar"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        print("making a Debian root with mmdebstrap", file=sys.stderr)
        suite = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
        assert suite
        sources = [str(path) for path in map(Path, SOURCES) if path.exists()]
        command = ["mmdebstrap", "--quiet", "--mode=unshare", "--variant=minbase", "--include=python3,gcc,git"]
        unfinished = cache / "new.tar"
        subprocess.run([*command, suite[1], str(unfinished), *sources[:1]], check=True)
        unfinished.rename(archive)
    return archive.read_bytes()


# ---- the report


def machine(place: str, rl: Peer) -> Iterator[str]:
    processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = re.search(r'^PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text(), re.MULTILINE)
    disk = subprocess.run(["stat", "-f", "-c", "%T", place], check=True, capture_output=True, text=True).stdout.strip()
    yield f"{processor[1] if processor else os.uname().machine}, {os.cpu_count()} cores, {memory:.0f} GiB, {disk}"
    yield f"Linux {os.uname().release}, {system[1] if system else ''}, Python {sys.version.split()[0]}"
    programs = ("podman", "crun", "conmon", "slirp4netns")
    versions = [
        subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
        for program in programs
    ]
    commit = subprocess.run(
        ["git", "-c", "safe.directory=*", "rev-parse", "--short", "HEAD"],
        cwd=sample_images.REPOSITORY,
        capture_output=True,
        text=True,
    )
    yield f"{rl.output('--version')} (commit {commit.stdout.strip() or 'unknown'}); {'; '.join(versions)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="rl against podman; Markdown on stdout")
    parser.add_argument("--rl", default=str(sample_images.REPOSITORY / ".venv/bin/rl"))
    parser.add_argument("--frozen", default=str(sample_images.REPOSITORY / "dist/rl"))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="few rounds, and no pull of the Debian root")
    options = parser.parse_args()
    rounds = 5 if options.quick else options.rounds
    place = tempfile.mkdtemp(prefix="rlb-", dir="/var/tmp")
    with DockerRegistry() as registry:
        sample_images.push(registry, "library/alpine", ["latest"])
        size = 0
        if not options.quick:
            root = debian_root()
            size = len(root)
            registry.push_image(DEBIAN.partition(":")[0], "latest", [root], config={"Cmd": ["/bin/bash"]})
            del root
        with engines(options.rl, place, registry.host) as peers:
            print("# rl against podman\n\nWritten by `make bench`; medians, with the extremes in brackets.\n")
            print("\n".join(f"- {line}" for line in machine(place, peers[0])))
            print("\n| what | rl | podman | ratio | to reach |\n| --- | --- | --- | --- | --- |")
            for peer in peers:
                peer.run("pull", "-q", f"{registry.host}/{ALPINE}")
            rows = [container_rows(peers, registry.host, rounds)]
            if os.path.exists(options.frozen):
                rows.append(frozen_rows(options.frozen, peers[0], registry.host, rounds))
            if not options.quick:
                rows.append(pull_rows(peers, registry.host, max(3, rounds // 6), size))
            for group in rows:
                for row in group:
                    print(row.markdown(), flush=True)
                    print(row.markdown(), file=sys.stderr)
        if left := processes(place):
            raise SystemExit("left behind:\n" + "\n".join(map(str, left)))


if __name__ == "__main__":
    main()
