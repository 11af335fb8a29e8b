"""image/change: --change of rl import."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.errors import UsageError
from rootless.image import change
from rootless.oci.image import ContainerConfig


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (['CMD ["sh", "-l"]'], {"Cmd": ["sh", "-l"]}),
        (['CMD=["sh"]'], {"Cmd": ["sh"]}),
        (["cmd echo a b"], {"Cmd": ["/bin/sh", "-c", "echo a b"]}),
        (['ENTRYPOINT=["/init"]'], {"Entrypoint": ["/init"]}),
        (["ENV A=1 B='2 3'", "ENV A=4"], {"Env": ["A=4", "B=2 3"]}),
        (["ENV PATH /bin:/usr/bin"], {"Env": ["PATH=/bin:/usr/bin"]}),
        (["ENV=A=b=c"], {"Env": ["A=b=c"]}),
        (["LABEL a=b", "LABEL c=d"], {"Labels": {"a": "b", "c": "d"}}),
        (["EXPOSE 80 53/UDP 90-91"], {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}}}),
        (['VOLUME ["/data"]', "VOLUME /a /b"], {"Volumes": {"/data": {}, "/a": {}, "/b": {}}}),
        (["WORKDIR /w", "USER 1:2", "STOPSIGNAL SIGINT"], {"WorkingDir": "/w", "User": "1:2", "StopSignal": "SIGINT"}),
    ],
)
def test_instructions(texts: list[str], expected: dict[str, Any]) -> None:
    config = ContainerConfig()
    for text in texts:
        change.apply(config, text)
    assert config == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CMD",
        "RUN x",
        'CMD ["sh"',
        "CMD [1]",
        "ENV =x",
        "ENV A=1 B",
        "EXPOSE 0",
        "EXPOSE 1/x",
        "EXPOSE y",
        "EXPOSE 9-1",
    ]
    + ["VOLUME data", "WORKDIR here", 'ENV A="b'],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        change.apply(ContainerConfig(), text)
