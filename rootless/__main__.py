"""The entry of `python -m rootless`, of the installed command and of the frozen executable."""

from __future__ import annotations

from rootless.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
