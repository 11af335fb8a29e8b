"""The entry of `python -m rootless`, of the installed command and of the frozen executable."""

from __future__ import annotations

import gc
import os
from typing import NoReturn

from rootless.cli.main import main


def run() -> NoReturn:
    """Run the command line of this process, and leave at once: taking the interpreter apart would cost `rl run` some 4 ms. `main` has flushed what was printed."""
    os._exit(main())


# Importing makes tens of thousands of objects that all stay; looking for garbage among them costs 4 ms.
gc.set_threshold(100_000)

if __name__ == "__main__":
    run()
