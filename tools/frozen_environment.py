"""Runs first in the one-file executable: what its bootloader put into the environment is not for our children.

LD_LIBRARY_PATH would make newuidmap, slirp4netns and FUSE helpers load our copies of their libraries; the loader of this process has read it
already. With _PYI_… variables another `rl`, started by this one, would live in our unpacked files, which go when we end.
"""

import os

for _name in [name for name in os.environ if name.startswith("_PYI_")]:
    del os.environ[_name]
os.environ.pop("LD_LIBRARY_PATH", None)
if "LD_LIBRARY_PATH_ORIG" in os.environ:
    os.environ["LD_LIBRARY_PATH"] = os.environ.pop("LD_LIBRARY_PATH_ORIG")
