"""The registry client against real registries: schemes, authorization, mirrors, faults, lies."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rootless.errors import Error, RegistryError
from rootless.image import credentials, registry
from rootless.image.credentials import Credentials
from rootless.image.registry import Event, Repository
from rootless.oci import descriptor as d
from rootless.oci.descriptor import Descriptor
from rootless.oci.image import Manifest, parse_manifest
from rootless.oci.reference import Reference, parse
from rootless.settings import Mirror, Settings
from tests.fakes.docker_registry import PASSWORD, USERNAME, Certificate, DockerRegistry, tar_of
from tests.fakes.fault_proxy import Fault, Plan, fault_proxy
from tests.fakes.scripted_server import Answer, Request, scripted_server
from tests.fakes.token_server import IDENTITY_TOKEN, token_server

NO_SETTINGS = Settings()
LAYER = tar_of({"data": os.urandom(700_000)})


@pytest.fixture(scope="module")
def served() -> Iterator[DockerRegistry]:
    """A registry with `team/app:1` and `public/app:1`, both of one layer."""
    with DockerRegistry() as server:
        server.push_image("team/app", "1", [LAYER])
        server.push_image("public/app", "1", [LAYER])
        yield server


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home: no credentials, certificates, proxies or registries.conf of the machine."""
    for name in (*credentials_variables(), *(name for name in os.environ if name.lower().endswith("_proxy"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "registries.conf").touch()
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    return tmp_path


def credentials_variables() -> tuple[str, ...]:
    return ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG")


def connect(
    name: str, *, settings: Settings = NO_SETTINGS, events: list[Event] | None = None, **options: object
) -> Repository:
    report = None if events is None else events.append
    return Repository.connect(parse(name), settings=settings, on_event=report, **options)  # type: ignore[arg-type]


def fetch(repository: Repository, tag: str = "1") -> Manifest:
    fetched = repository.manifest(tag)
    manifest = parse_manifest(fetched.body, fetched.media_type)
    assert isinstance(manifest, Manifest)
    return manifest


def read(repository: Repository, descriptor: Descriptor, *, breaks: list[str] | None = None) -> bytes:
    """The whole blob as the transfer layer reads it: on from where the last connection broke."""
    data = b""
    while True:
        try:
            with repository.blob(descriptor, offset=len(data)) as stream:
                data = data[: stream.offset]
                for chunk in stream:
                    data += chunk
            return data
        except registry.Interrupted as error:
            if breaks is None:
                raise
            breaks.append(error.message)


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


# ---- the plain way


def test_manifest_and_blob(served: DockerRegistry) -> None:
    with connect(f"{served.host}/team/app:1") as repository:
        manifest = fetch(repository)
        head = repository.head_manifest("1")
        fetched = repository.manifest("1")
        assert head.digest == fetched.digest == digest(fetched.body)
        assert (head.media_type, head.size) == (d.MEDIA_TYPE_MANIFEST, len(fetched.body))
        assert repository.manifest(fetched.digest) == fetched
        blob = read(repository, manifest.layers[0])
        assert digest(blob) == manifest.layers[0].digest
        with repository.blob(manifest.layers[0], offset=1000) as stream:
            assert stream.offset == 1000
            assert b"".join(stream) == blob[1000:]


def test_missing_content_is_told_apart(served: DockerRegistry) -> None:
    with connect(f"{served.host}/team/app:1") as repository:
        with pytest.raises(registry.NoSuchContent, match="manifest unknown"):
            repository.manifest("none")
        with pytest.raises(registry.NoSuchContent):
            repository.head_manifest("none")
        with pytest.raises(registry.NoSuchContent), repository.blob(Descriptor("x", digest(b"none"), 4)):
            pass


def test_many_threads_share_a_repository(served: DockerRegistry) -> None:
    with connect(f"{served.host}/team/app:1") as repository:
        layer = fetch(repository).layers[0]
        found: list[str] = []
        threads = [threading.Thread(target=lambda: found.append(digest(read(repository, layer)))) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [layer.digest] * 16


# ---- TLS


def test_certificates_of_certs_d_are_trusted(served: DockerRegistry, home: Path, tmp_path: Path) -> None:
    pair = Certificate.make(tmp_path)
    with DockerRegistry(served.storage, tls=pair) as server:
        name = f"{server.host}/team/app:1"
        with (
            connect(name, tls_verify=True) as repository,
            pytest.raises(registry.Unreachable, match="cannot trust the certificate"),
        ):
            repository.manifest("1")
        with connect(name, tls_verify=False) as repository:
            fetch(repository)
        directory = home / ".config/containers/certs.d" / server.host
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes(pair.certificate.read_bytes())
        with connect(name, tls_verify=True) as repository:
            fetch(repository)


def test_plain_http_needs_permission(served: DockerRegistry) -> None:
    with (
        connect(f"{served.host}/team/app:1", tls_verify=True) as repository,
        pytest.raises(registry.Unreachable, match="it answers in plain HTTP") as caught,
    ):
        repository.manifest("1")
    assert caught.value.hint is not None and "--tls-verify=false" in caught.value.hint


def test_nobody_listens() -> None:
    began = time.monotonic()
    with connect("127.0.0.1:1/x") as repository, pytest.raises(registry.Unreachable, match="connection refused"):
        repository.manifest("latest")
    assert time.monotonic() - began < 2


def test_unknown_host() -> None:
    with (
        connect("registry.invalid/x") as repository,
        pytest.raises(registry.Unreachable, match=r"cannot connect to registry\.invalid"),
    ):
        repository.manifest("latest")


# ---- authorization


def test_basic(served: DockerRegistry, home: Path) -> None:
    with DockerRegistry(served.storage, basic=True) as server:
        name = f"{server.host}/team/app:1"
        with connect(name) as repository, pytest.raises(registry.AccessDenied) as caught:
            repository.manifest("1")
        assert caught.value.hint is not None and f"rl login {server.host}" in caught.value.hint
        with pytest.raises(registry.AccessDenied):
            registry.login(server.host, Credentials(username=USERNAME, password="wrong"), settings=Settings())
        assert credentials.find(server.host) is None
        stored = registry.login(server.host, Credentials(username=USERNAME, password=PASSWORD), settings=Settings())
        assert stored.plain
        assert Path(stored.where).stat().st_mode & 0o777 == 0o600
        with connect(name) as repository:
            read(repository, fetch(repository).layers[0])


def test_logins_are_shared_with_skopeo(served: DockerRegistry, home: Path) -> None:
    """What one of the two stores, the other uses."""
    with DockerRegistry(served.storage, basic=True) as server:
        image = f"docker://{server.host}/team/app:1"
        stored = registry.login(server.host, Credentials(username=USERNAME, password=PASSWORD), settings=Settings())
        skopeo("inspect", "--tls-verify=false", "--authfile", stored.where, image)
        credentials.erase(server.host)
        theirs = home / ".config/containers/auth.json"
        skopeo(
            "login",
            "--tls-verify=false",
            "--authfile",
            str(theirs),
            "-u",
            USERNAME,
            "-p",
            PASSWORD,
            server.host,
        )
        with connect(f"{server.host}/team/app:1") as repository:
            fetch(repository)


def skopeo(*arguments: str) -> None:
    subprocess.run(["skopeo", *arguments], check=True, capture_output=True)


def test_bearer(served: DockerRegistry, tmp_path: Path) -> None:
    with token_server(tmp_path) as tokens, DockerRegistry(served.storage, token=tokens.auth) as server:
        with connect(f"{server.host}/public/app:1") as repository:
            read(repository, fetch(repository).layers[0])
        assert len(tokens.server.requests) == 1, "one token serves the manifest and the blobs"
        assert "scope=repository%3Apublic%2Fapp%3Apull" in tokens.server.requests[0].path
        with connect(f"{server.host}/team/app:1") as repository, pytest.raises(registry.AccessDenied):
            repository.manifest("1")
        good = Credentials(username=USERNAME, password=PASSWORD)
        registry.login(server.host, good, settings=Settings())
        with connect(f"{server.host}/team/app:1") as repository:
            fetch(repository)
        with (
            connect(f"{server.host}/team/app:1", credentials=Credentials(username="bob", password="x")) as repository,
            pytest.raises(registry.AccessDenied, match="incorrect username or password"),
        ):
            repository.manifest("1")


def test_identity_token(served: DockerRegistry, tmp_path: Path) -> None:
    with token_server(tmp_path) as tokens, DockerRegistry(served.storage, token=tokens.auth) as server:
        with connect(f"{server.host}/team/app:1", credentials=Credentials(identity_token=IDENTITY_TOKEN)) as repository:
            fetch(repository)
        assert [request.method for request in tokens.server.requests] == ["POST"]
        assert b"grant_type=refresh_token" in tokens.server.requests[0].body


def test_a_refused_token_is_renewed() -> None:
    """The registry forgets tokens before their time, as one that restarts does."""
    good = {"Bearer t1"}
    issued: list[str] = []

    def answer(request: Request) -> Answer:
        if request.path.startswith("/token"):
            issued.append(f"t{len(issued) + 1}")
            good.add(f"Bearer {issued[-1]}")
            return Answer(200, json.dumps({"token": issued[-1]}).encode())
        if request.headers.get("authorization") not in good:
            return Answer(
                401, headers={"WWW-Authenticate": f'Bearer realm="http://{request.headers["host"]}/token",service="s"'}
            )
        return Answer(200, b"{}", {"Content-Type": d.MEDIA_TYPE_MANIFEST})

    with scripted_server(answer) as server, connect(f"{server.host}/x") as repository:
        repository.manifest("latest")
        good.clear()
        repository.manifest("latest")
        repository.manifest("latest")
    assert issued == ["t1", "t2"]


# ---- redirects


def test_authorization_stays_with_its_host() -> None:
    """A blob that is stored elsewhere is fetched without the registry's credentials, and with the range."""

    def storage(request: Request) -> Answer:
        return Answer(206, b"cdef", {"Content-Range": "bytes 2-5/6"})

    with scripted_server(storage) as other:

        def answer(request: Request) -> Answer:
            if "authorization" not in request.headers:
                return Answer(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            return Answer(307, headers={"Location": f"http://{other.host}/stored"})

        with (
            scripted_server(answer) as server,
            connect(f"{server.host}/x", credentials=Credentials(username="a", password="b")) as repository,
            repository.blob(Descriptor("x", digest(b"abcdef"), 6), offset=2) as stream,
        ):
            assert b"".join(stream) == b"cdef"
        assert [request.path for request in other.requests] == ["/stored"]
        assert "authorization" not in other.requests[0].headers
        assert other.requests[0].headers["range"] == "bytes=2-"


def test_redirect_loops_end() -> None:
    with (
        scripted_server(lambda request: Answer(302, headers={"Location": request.path})) as server,
        connect(f"{server.host}/x") as repository,
        pytest.raises(RegistryError, match="redirects more than 10 times"),
    ):
        repository.manifest("latest")


def test_nothing_secret_leaves_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry in verified TLS can neither redirect us to plain HTTP nor have our password sent there for a token."""
    pair = Certificate.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))  # also: the system's authorities are those of OpenSSL
    answers = iter(
        [
            Answer(200, b"{}"),
            Answer(307, headers={"Location": "http://127.0.0.1:1/x"}),
            Answer(401, headers={"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/token"'}),
        ]
    )
    with (
        scripted_server(lambda _: next(answers), tls=pair.context()) as server,
        connect(f"{server.host}/x", tls_verify=True, credentials=Credentials(username="a", password="b")) as repository,
    ):
        repository.manifest("latest")
        with pytest.raises(RegistryError, match="redirects to .* not an https address"):
            repository.manifest("latest")
        with pytest.raises(RegistryError, match="sends us for a token to .* not an https address"):
            repository.manifest("latest")


# ---- mirrors


def test_mirrors_come_first_and_fail_over(served: DockerRegistry) -> None:
    events: list[Event] = []
    mirrors = {"docker.io": (Mirror("127.0.0.1:1"), Mirror(served.host))}
    with connect("docker.io/team/app:1", settings=Settings(mirrors=mirrors), events=events) as repository:
        layer = fetch(repository).layers[0]
        assert digest(read(repository, layer)) == layer.digest
    assert [(event.host, event.failed) for event in events if isinstance(event, registry.Mirror)] == [
        ("127.0.0.1:1", True),
        (served.host, False),
    ]


def test_what_failed_before_is_said() -> None:
    settings = Settings(mirrors={"registry.invalid": (Mirror("127.0.0.1:1"),)})
    with connect("registry.invalid/x", settings=settings) as repository, pytest.raises(registry.Unreachable) as caught:
        repository.manifest("latest")
    assert caught.value.message.startswith("cannot connect to registry.invalid: ")
    assert caught.value.context == "before that, the mirrors failed: cannot connect to 127.0.0.1:1: connection refused"


def test_credentials_are_not_shown_to_mirrors() -> None:
    def answer(request: Request) -> Answer:
        return Answer(401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    with scripted_server(answer) as mirror, scripted_server(answer) as server:
        settings = Settings(mirrors={server.host: (Mirror(mirror.host),)})
        given = Credentials(username="a", password="b")
        with (
            connect(f"{server.host}/x", settings=settings, credentials=given) as repository,
            pytest.raises(registry.AccessDenied),
        ):
            repository.manifest("latest")
        assert [request.headers.get("authorization") for request in mirror.requests] == [None]
        assert server.requests[-1].headers["authorization"] == "Basic " + base64.b64encode(b"a:b").decode()


# ---- proxies


def test_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request) -> Answer:
        return Answer(200 if request.method == "GET" else 501, b"{}")

    with scripted_server(answer) as proxy:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.host}")
        monkeypatch.setenv("no_proxy", "direct.invalid")
        with connect("registry.invalid/x", tls_verify=False) as repository:
            repository.manifest("latest")
        with connect("direct.invalid/x", tls_verify=False) as repository, pytest.raises(registry.Unreachable):
            repository.manifest("latest")
    assert [(request.method, request.path) for request in proxy.requests] == [
        ("CONNECT", "registry.invalid:443"),
        ("GET", "http://registry.invalid/v2/x/manifests/latest"),
    ]


def test_the_address_of_docker_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_server(lambda _: Answer(403)) as proxy, connect("alpine") as repository:
        monkeypatch.setenv("https_proxy", f"http://{proxy.host}")
        with pytest.raises(registry.Unreachable, match="cannot reach registry-1.docker.io through the proxy: "):
            repository.manifest("latest")
    assert [(request.method, request.path) for request in proxy.requests] == [("CONNECT", "registry-1.docker.io:443")]


# ---- faults


def test_waits_as_it_is_told(served: DockerRegistry) -> None:
    events: list[Event] = []
    script = (Fault(kind="limit", seconds=1), Fault(kind="busy", seconds=0), Fault(kind="refuse"))
    with (
        fault_proxy(served.host, Plan(script=script)) as proxy,
        connect(f"{proxy.host}/team/app:1", events=events) as repository,
    ):
        fetch(repository)
    waits = [event for event in events if isinstance(event, registry.Waiting)]
    assert waits[0].seconds == 1
    assert all(wait.seconds > 0.05 for wait in waits), "a wait of nothing is no wait"
    assert "429" in waits[0].why and "503" in waits[1].why
    assert len(waits) == 3


def test_a_long_wait_is_refused(served: DockerRegistry) -> None:
    plan = Plan(script=[Fault(kind="limit", seconds=86400)])
    with (
        fault_proxy(served.host, plan) as proxy,
        connect(f"{proxy.host}/team/app:1") as repository,
        pytest.raises(registry.Unavailable, match="429") as caught,
    ):
        repository.manifest("1")
    assert caught.value.retry_after == 86400


def test_closing_ends_a_wait(served: DockerRegistry) -> None:
    plan = Plan(script=[Fault(kind="limit", seconds=60)])
    waiting = threading.Event()
    with fault_proxy(served.host, plan) as proxy:
        repository = Repository.connect(
            parse(f"{proxy.host}/team/app:1"), settings=Settings(), on_event=lambda _: waiting.set()
        )

        def close() -> None:
            waiting.wait(10)
            repository.close()

        threading.Thread(target=close).start()
        began = time.monotonic()
        with pytest.raises(registry.Interrupted):
            repository.manifest("1")
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", ["reset", "truncate"])
def test_broken_blobs_are_resumed(served: DockerRegistry, kind: str) -> None:
    """Whatever came before a break counts: the proxy never sends a byte twice."""
    script = [Fault(kind=kind, after=after) for after in (0, 1, 100_000, 299_999)]  # type: ignore[arg-type]
    breaks: list[str] = []
    with (
        fault_proxy(served.host, Plan(path="/blobs/", script=script)) as proxy,
        connect(f"{proxy.host}/team/app:1") as repository,
    ):
        layer = fetch(repository).layers[0]
        before = proxy.served
        assert digest(read(repository, layer, breaks=breaks)) == layer.digest
        if kind == "truncate":
            assert proxy.served - before == layer.size
    assert len(breaks) == 4


def test_random_resets(served: DockerRegistry) -> None:
    """Half of all responses break somewhere, for every seed the blob arrives."""
    for seed in range(5):
        plan = Plan(seed=seed, weights={"reset": 0.3, "truncate": 0.2, "busy": 0.1}, reach=(0, 400_000))
        with (
            fault_proxy(served.host, plan) as proxy,
            connect(f"{proxy.host}/team/app:1", tls_verify=False) as repository,
        ):
            layer = fetch(repository).layers[0]
            assert digest(read(repository, layer, breaks=[])) == layer.digest


def test_a_server_that_ignores_ranges(served: DockerRegistry) -> None:
    plan = Plan(path="/blobs/", weights={"ignore-range": 1.0})
    with fault_proxy(served.host, plan) as proxy, connect(f"{proxy.host}/team/app:1") as repository:
        layer = fetch(repository).layers[0]
        with repository.blob(layer, offset=1000) as stream:
            assert stream.offset == 0
            assert digest(b"".join(stream)) == layer.digest


def test_abort_ends_a_blocked_read(served: DockerRegistry) -> None:
    plan = Plan(path="/blobs/", script=[Fault(kind="stall", after=1000, seconds=30)])
    with fault_proxy(served.host, plan) as proxy, connect(f"{proxy.host}/team/app:1") as repository:
        layer = fetch(repository).layers[0]
        with repository.blob(layer) as stream:
            threading.Timer(0.2, stream.abort).start()
            began = time.monotonic()
            with pytest.raises(registry.Interrupted):
                for _ in stream:
                    pass
            assert time.monotonic() - began < 5


@pytest.mark.parametrize("encrypted", [False, True])
def test_closing_ends_a_request_without_an_answer(encrypted: bool, tmp_path: Path) -> None:
    """A server that accepts and never answers must not hold up a Ctrl-C."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tls = Certificate.make(tmp_path).context()
        asked = threading.Event()

        def serve() -> None:
            """Read a request (a TLS hello where that is not wanted is answered by a close)."""
            while True:
                connection, _ = silent.accept()
                if encrypted:
                    connection = tls.wrap_socket(connection, server_side=True)
                held.append(connection)
                if connection.recv(65536).startswith(b"GET"):
                    break
                connection.close()
            asked.set()

        held: list[socket.socket] = []
        server = threading.Thread(target=serve)
        server.start()
        repository = connect(f"127.0.0.1:{silent.getsockname()[1]}/x", tls_verify=False)

        def close() -> None:
            asked.wait(10)
            time.sleep(0.1)  # the client is in recv(2) by now, or will find the socket shut
            repository.close()

        closer = threading.Thread(target=close)
        closer.start()
        began = time.monotonic()
        with pytest.raises(registry.Interrupted):
            repository.manifest("latest")
        assert time.monotonic() - began < 5
        for thread in (server, closer):
            thread.join()
        for connection in held:
            connection.close()


def test_connections_are_used_again() -> None:
    """Challenges, tokens, manifests, errors and blobs all leave the connection fit for the next request."""

    def answer(request: Request) -> Answer:
        if request.path.startswith("/token"):
            return Answer(200, b'{"token": "t"}')
        if "authorization" not in request.headers:
            realm = f"http://{request.headers['host']}/token"
            return Answer(401, b"denied", {"WWW-Authenticate": f'Bearer realm="{realm}"'})
        if "/blobs/" in request.path:
            return Answer(200, b"abcdef")
        return Answer(404, b"{}") if request.path.endswith("none") else Answer(200, b"{}")

    with scripted_server(answer) as server, connect(f"{server.host}/x") as repository:
        for _ in range(3):
            repository.manifest("latest")
            repository.head_manifest("latest")
            assert read(repository, Descriptor("x", digest(b"abcdef"), 6)) == b"abcdef"
            with pytest.raises(registry.NoSuchContent):
                repository.manifest("none")
    assert len({request.port for request in server.requests}) == 1


# ---- lies


def lying(answer: Callable[[Request], Answer], act: Callable[[Repository], object], message: str) -> None:
    with (
        scripted_server(answer) as server,
        connect(f"{server.host}/x") as repository,
        pytest.raises(Error, match=message),
    ):
        act(repository)


def test_a_manifest_must_have_its_digest() -> None:
    body = b'{"schemaVersion": 2}'
    wanted = digest(b"something else")
    lying(
        lambda _: Answer(200, body),
        lambda r: r.manifest(wanted),
        f"has the digest {digest(body)} and should have {wanted}",
    )
    stated = {"Docker-Content-Digest": wanted}
    lying(lambda _: Answer(200, body, stated), lambda r: r.manifest("latest"), f"and should have {wanted}")
    lying(
        lambda _: Answer(200, body, {"Docker-Content-Digest": "../x"}),
        lambda r: r.manifest("latest"),
        "invalid digest '../x'",
    )


def test_an_endless_manifest_is_cut_off() -> None:
    lying(lambda _: Answer(200, b" " * (5 << 20)), lambda r: r.manifest("latest"), "has more than 4194304 bytes")


def test_a_blob_must_have_its_size() -> None:
    def blob(repository: Repository) -> None:
        with repository.blob(Descriptor("x", digest(b"abcdef"), 6)) as stream:
            for _ in stream:
                pass

    lying(lambda _: Answer(200, b"abcdefg"), blob, "is 7 bytes long and should be 6")
    chunked = Answer(200, b"7\r\nabcdefg\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"})
    lying(lambda _: chunked, blob, "is larger than the 6 bytes")


def test_a_range_that_was_not_asked_for_is_not_believed() -> None:
    def answer(request: Request) -> Answer:
        if "range" in request.headers:
            return Answer(206, b"bcdef", {"Content-Range": "bytes 1-5/6"})
        return Answer(200, b"abcdef")

    with (
        scripted_server(answer) as server,
        connect(f"{server.host}/x") as repository,
        repository.blob(Descriptor("x", digest(b"abcdef"), 6), offset=3) as stream,
    ):
        assert (stream.offset, b"".join(stream)) == (0, b"abcdef")


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "", "ftp://x/y", "https://"])
def test_a_token_realm_must_be_a_web_address(realm: str) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    lying(lambda _: Answer(401, headers=challenge), lambda r: r.manifest("latest"), "which is not an https address")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\r\\nX: y"}'])
def test_a_token_must_be_one(body: bytes) -> None:
    def answer(request: Request) -> Answer:
        if request.path.startswith("/token"):
            return Answer(200, body)
        return Answer(401, headers={"WWW-Authenticate": f'Bearer realm="http://{request.headers["host"]}/token"'})

    lying(answer, lambda r: r.manifest("latest"), "the token server .* gave no")


def test_messages_of_a_registry_are_tamed() -> None:
    told = json.dumps({"errors": [{"code": "DENIED", "message": "\x1b[31mno\nway"}]}).encode()
    with (
        scripted_server(lambda _: Answer(403, told)) as server,
        connect(f"{server.host}/x") as repository,
        pytest.raises(registry.AccessDenied) as caught,
    ):
        repository.manifest("latest")
    assert caught.value.message.isprintable() and "no way" in caught.value.message


def test_reference_of_a_repository(served: DockerRegistry) -> None:
    with connect(f"{served.host}/team/app:1") as repository:
        assert repository.reference == Reference(served.host, "team/app", "1")
