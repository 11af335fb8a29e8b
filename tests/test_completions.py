"""completions/ is what the declarations make, and the bash script does what a user at the tab key expects."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from rootless.cli.completion import SHELLS
from tests.fakes.sample_images import REPOSITORY

DIRECTORY = REPOSITORY / "completions"
FILES = {"bash": "rl.bash", "zsh": "_rl", "fish": "rl.fish"}

# A stand-in for `rl`, which the script asks for names.
STUB = """
rl() {
    case "$1 $2" in
        "ps -a") printf 'web\\ndb\\n' ;;
        "ps --format") echo web ;;
        "images "*) printf 'alpine:latest\\nlocalhost:5000/x:1\\n' ;;
    esac
}
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_files_are_current(shell: str) -> None:
    assert (DIRECTORY / FILES[shell]).read_text(encoding="utf-8") == SHELLS[shell](), "run tools/generate"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_takes_the_script(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([program, "-n", str(DIRECTORY / FILES[shell])], check=True)


def completions(line: str) -> set[str]:
    """What bash offers at the end of the line."""
    script = f"""{STUB}
compopt() {{ :; }}
. {DIRECTORY / FILES["bash"]}
COMP_LINE=$1 COMP_POINT=${{#1}}
_rl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script, "bash", line], check=True, capture_output=True, text=True, cwd="/")
    assert not done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("rl sto", {"stop"}),
        ("rl image ", {"pull", "ls", "list", "rm", "remove", "tag", "import", "load", "save", "inspect"}),
        ("rl --storage-driver ", {"overlay", "fuse-overlayfs", "fuse"}),
        ("rl --root /x sto", {"stop"}),
        ("rl run --ho", {"--hostname"}),
        ("rl run --pull n", {"never", "newer"}),
        ("rl run --pull=n", {"never", "newer"}),
        ("rl run --network h", {"host"}),
        ("rl run --name web al", {"alpine:latest"}),
        ("rl run --rm localhost:5000/x:", {"1"}),
        ("rl exec -it ", {"web"}),
        ("rl exec web --us", set()),
        ("rl stop web ", {"web"}),
        ("rl rm ", {"web", "db"}),
        ("rl container rm d", {"db"}),
        ("rl run -v /et", {"/etc"}),
        ("rl version ", set()),
    ],
)
def test_bash(line: str, offered: set[str]) -> None:
    assert completions(line) == offered
