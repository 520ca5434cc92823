"""Registri che mentono, che rinviano dove non si deve, che si interrompono: niente va perso, niente sfugge."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from labkit.errors import InvalidError, LabError
from labkit.images import registry_origin, registry_transport
from labkit.images.config import History
from labkit.images.descriptor import Platform
from labkit.images.digest import Digest
from labkit.images.image import Image, Layer
from labkit.images.reference import Reference
from labkit.images.registry import Registry
from labkit.images.registry_auth import Credentials, challenges, may_know, stored_credentials
from labkit.images.registry_origin import Origin, RegistryError, check_move
from labkit.images.registry_pull import pull
from labkit.images.registry_transport import Transport
from labkit.images.store import Store
from tests.unit.images.tars import entry, tar

AMD64 = Platform("linux", "amd64")
ROOT = Path(__file__).resolve().parents[3]
IMAGE = Image.empty(AMD64).append(Layer.from_tar(tar(entry("f", random.Random(1).randbytes(900_000)))), History())
LAYER = IMAGE.layers[0].descriptor
DATA = IMAGE.layers[0].open().read()

Handler = BaseHTTPRequestHandler
Answer = Callable[[Handler], bool]


class Server(ThreadingHTTPServer):
    """Un registro che ha :data:`IMAGE`, e che si comporta male come gli si dice."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Honest)
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        #: Asked first: a true answer means that it has answered.
        self.odd: Answer = lambda handler: False

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that goes away is what many of these tests want

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def paths(self, part: str) -> list[dict[str, str]]:
        return [headers for _, path, headers in self.seen if part in path]


class _Honest(Handler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def send(self, status: int, body: bytes = b"", **headers: str) -> bool:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        return True

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if not self.server.odd(self):
                honest(self)
        except OSError:
            self.close_connection = True

    def do_POST(self) -> None:
        self.do_GET()


def honest(handler: Handler) -> None:
    if "/manifests/" in handler.path:
        kind = IMAGE.manifest.media_type
        handler.send(200, IMAGE.manifest.raw, Content_Type=kind, Docker_Content_Digest=IMAGE.digest)
    else:
        body = DATA if blob(handler) else IMAGE.config.raw
        first = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        if first:
            handler.send(206, body[first:], Content_Range=f"bytes {first}-{len(body) - 1}/{len(body)}")
        else:
            handler.send(200, body)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield one
        one.shutdown()
        thread.join()


@pytest.fixture
def other() -> Iterator[Server]:
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield one
        one.shutdown()
        thread.join()


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "immagini"))


@pytest.fixture(autouse=True)
def no_docker_configuration(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def fetch(store: Store, server: Server, credentials: Credentials | None = None) -> Registry:
    known = Registry(server.address, credentials=credentials, transport=Transport(sleep=lambda seconds: None))
    pull(store, Reference(server.address, "corso/x", "1"), AMD64, registry=known)
    return known


def untouched(store: Store) -> bool:
    """Nessuna immagine, e niente che si veda della fetta sbagliata."""
    return store.images() == () and not store.blobs.has(LAYER) and store.check() == ()


def once(answer: Answer) -> Answer:
    """La prima volta risponde così, poi onestamente."""
    done: list[bool] = []

    def odd(handler: Handler) -> bool:
        if done:
            return False
        found = answer(handler)
        if found:
            done.append(True)
        return found

    return odd


def blob(handler: Handler) -> bool:
    return LAYER.digest.encoded in handler.path


def test_the_honest_one_works(server, store):
    fetch(store, server)
    assert store.image(f"{server.address}/corso/x:1") == IMAGE


# ---------------------------------------------------------------- lies


@pytest.mark.parametrize("body", [b"x" * LAYER.size, DATA[:-1] + b"?", DATA + b"?", DATA * 2])
def test_a_blob_that_is_not_the_promised_one_is_never_seen(server, store, body):
    server.odd = lambda handler: blob(handler) and handler.send(200, body)
    with pytest.raises((InvalidError, RegistryError)):
        fetch(store, server)
    assert untouched(store)


def test_a_blob_without_end_stops_at_its_size(server, store):
    def endless(handler: Handler) -> bool:
        if not blob(handler):
            return False
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    server.odd = endless
    with pytest.raises(RegistryError, match="più byte"):
        fetch(store, server)
    assert untouched(store)


@pytest.mark.parametrize("digest", [IMAGE.digest, None], ids=["impronta", "tag"])
def test_a_manifest_that_is_not_the_promised_one_is_refused(server, store, digest):
    fake = IMAGE.manifest.raw + b" "
    server.odd = lambda handler: handler.send(200, fake, Docker_Content_Digest=IMAGE.digest)
    name = Reference(server.address, "corso/x", "" if digest else "1", Digest(digest) if digest else None)
    with pytest.raises(InvalidError, match="non è quello promesso"):
        pull(store, name, AMD64, registry=Registry(server.address))
    assert untouched(store)


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"[" * 100_000),
        (200, b"x" * (5 << 20)),
        (200, b"<html>"),
        (418, b"non json"),
        (404, b'{"errors": [{"message": "\\u001b[31mrosso"}]}'),
        (404, b'{"errors": "x"}'),
        (403, b"[" * 60_000),
        (500, b"{}"),
        (429, b"{}"),
    ],
)
def test_every_strange_answer_is_one_sentence(server, store, answer):
    server.odd = lambda handler: handler.send(*answer)
    with pytest.raises(LabError) as problem:
        fetch(store, server)
    assert "\x1b" not in str(problem.value)
    assert untouched(store)


def test_the_limit_of_downloads_says_when_to_come_back(server, store):
    server.odd = lambda handler: handler.send(429, b'{"errors":[{"code":"TOOMANYREQUESTS"}]}', Retry_After="3600")
    with pytest.raises(RegistryError, match="limite di download") as problem:
        fetch(store, server)
    assert "fra 3600 secondi" in problem.value.remedy
    assert len(server.seen) == 1, "chi dice di aspettare un'ora non va disturbato"


def huge(config: int, layer: int) -> bytes:
    data = json.loads(IMAGE.manifest.raw)
    data["config"]["size"] = config
    data["layers"][0]["size"] = layer
    return json.dumps(data).encode()


def test_what_could_never_fit_is_not_even_begun(server, store):
    good = IMAGE.manifest.config.size
    for raw, why in ((huge(5 << 20, 10), "sono troppi"), (huge(good, 1 << 60), "Il disco è troppo pieno")):
        server.odd = lambda handler, raw=raw: "/manifests/" in handler.path and handler.send(200, raw)
        with pytest.raises(LabError, match=why):
            fetch(store, server)
    assert untouched(store)
    assert server.paths(LAYER.digest.encoded) == []


FULL = """
import sys
sys.path.insert(0, sys.argv[1])
from labkit.errors import LabError
from labkit.images import registry_pull
from labkit.images.reference import parse
from labkit.images.store import Store
from labkit.images.descriptor import Platform
registry_pull._Pull._check_room = lambda *arguments: None
store = Store("immagini")
try:
    registry_pull.pull(store, parse(sys.argv[2]), Platform("linux", "amd64"))
except LabError as problem:
    print(problem.message, store.images(), __import__("os").listdir("immagini/ingest"))
"""


@pytest.mark.root
def test_a_disk_that_fills_up_in_the_middle_gets_its_room_back(server, store, tmp_path):
    command = 'mount -t tmpfs -o size=500k tmpfs "$0" && cd "$0" && exec "$@"'
    name = f"{server.address}/corso/x:1"
    argv = ["unshare", "--mount", "sh", "-c", command, tmp_path, sys.executable, "-c", FULL, ROOT, name]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stdout == "Non riesco a scaricare un pezzo dell'immagine: il disco è pieno. () []\n", done.stderr


# ---------------------------------------------------------------- flaky


def test_a_passing_fault_is_tried_again(server, store):
    server.odd = once(lambda handler: handler.send(503))
    fetch(store, server)
    assert store.image(f"{server.address}/corso/x:1") == IMAGE


def test_a_transfer_that_is_cut_goes_on_from_there(server, store):
    def cut(handler: Handler) -> bool:
        if not blob(handler):
            return False
        first = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        part = DATA[first : first + 300_000]
        handler.send_response(206 if first else 200)
        handler.send_header("Content-Length", str(len(DATA) - first))
        handler.send_header("Content-Range", f"bytes {first}-{len(DATA) - 1}/{len(DATA)}")
        handler.end_headers()
        handler.wfile.write(part)
        handler.close_connection = True
        return True

    server.odd = cut
    fetch(store, server)
    ranges = [headers.get("Range") for headers in server.paths(LAYER.digest.encoded)]
    assert ranges[0] is None
    assert len(ranges) >= 4
    assert all(span and span != "bytes=0-" for span in ranges[1:])
    assert store.check() == ()


def test_a_registry_that_cannot_go_on_starts_again(server, store):
    with store.blobs.partial(LAYER) as partial:
        partial.write(DATA[:1000])
    server.odd = lambda handler: blob(handler) and handler.send(200, DATA)
    fetch(store, server)
    assert server.paths(LAYER.digest.encoded)[0]["Range"] == "bytes=1000-"
    assert store.check() == ()


def test_half_a_blob_of_yesterday_is_finished_today(server, store):
    with store.blobs.partial(LAYER) as partial:
        partial.write(DATA[:500_000])
    fetch(store, server)
    assert [headers.get("Range") for headers in server.paths(LAYER.digest.encoded)] == ["bytes=500000-"]
    assert store.check() == ()


def test_a_registry_that_is_not_there_is_one_sentence(store):
    with pytest.raises(RegistryError, match="non risponde sulla porta 9") as problem:
        Registry("127.0.0.1:9", transport=Transport(sleep=lambda seconds: None)).tags("x")
    assert "curl" in problem.value.remedy


def drip(handler: Handler) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)


def silent(handler: Handler) -> bool:
    time.sleep(5)
    return True


def dripping_headers(handler: Handler) -> bool:
    while True:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: " if not handler.close_connection else b"x")
        handler.close_connection = True
        time.sleep(0.05)


@pytest.mark.parametrize("odd", [drip, silent, dripping_headers])
def test_a_slow_drip_has_an_end(server, store, monkeypatch, odd):
    monkeypatch.setattr(registry_transport, "SILENCE", 0.4)
    monkeypatch.setattr(registry_transport, "ANSWER", 0.6)
    monkeypatch.setattr(registry_transport, "TRIES", 1)
    server.odd = odd
    start = time.monotonic()
    with pytest.raises(RegistryError):
        fetch(store, server)
    assert time.monotonic() - start < 20


SLOW = """
import sys
sys.path.insert(0, sys.argv[1])
from labkit.images.registry_pull import *
from labkit.images.reference import parse
print("via", flush=True)
pull(Store(sys.argv[2]), parse(sys.argv[3]), Platform("linux", "amd64"))
"""


def test_ctrl_c_stops_a_download_at_once(server, store):
    server.odd = lambda handler: blob(handler) and drip(handler)
    argv = [sys.executable, "-c", SLOW, ROOT, store.root, f"{server.address}/corso/x:1"]
    # A background job of a shell is deaf to Ctrl-C, and its children too.
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip
    assert child.stdout
    child.stdout.readline()
    while not server.paths(LAYER.digest.encoded):
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, said = child.communicate(timeout=20)
    assert b"KeyboardInterrupt" in said
    assert time.monotonic() - start < 15
    assert untouched(store)


# ---------------------------------------------------------------- redirects and tokens

SECRET = Credentials("anna", "segretissimo")
BASIC = "Basic " + base64.b64encode(b"anna:segretissimo").decode()


def ask_basic(handler: Handler) -> bool:
    return "Authorization" not in handler.headers and handler.send(401, WWW_Authenticate='Basic realm="x"')


def test_a_redirect_is_followed_without_the_credentials(server, other, store):
    def odd(handler: Handler) -> bool:
        return ask_basic(handler) or (
            blob(handler) and handler.send(307, Location=f"{other.url}{handler.path}?firma=1")
        )

    server.odd = odd
    fetch(store, server, SECRET)
    assert store.image(f"{server.address}/corso/x:1") == IMAGE
    assert server.paths(LAYER.digest.encoded)[-1]["Authorization"] == BASIC
    assert other.seen
    assert all("Authorization" not in headers for _, _, headers in other.seen)


def test_redirects_in_a_ring_have_an_end(server, store):
    server.odd = lambda handler: handler.send(302, Location=handler.path + "x")
    with pytest.raises(RegistryError, match="in tondo"):
        fetch(store, server)
    assert len(server.seen) == registry_transport.MOST_REDIRECTS + 1


@pytest.mark.parametrize(
    ("start", "target"),
    [
        ("https://r.example", "http://r.example/x"),
        ("https://r.example", "http://127.0.0.1/x"),
        ("https://r.example", "https://127.0.0.1/x"),
        ("https://r.example", "https://localhost/x"),
        ("https://r.example", "https://[::1]/x"),
        ("https://r.example", "https://[::ffff:127.0.0.1]/x"),
        ("https://r.example", "https://10.0.0.1/x"),
        ("https://r.example", "https://dentro.example/x"),
        ("https://r.example", "https://169.254.169.254/latest"),
        ("http://127.0.0.1:5000", "http://r.example/x"),
        ("https://r.example", "ftp://r.example/x"),
        ("https://r.example", "file:///etc/passwd"),
        ("https://r.example", "https://anna:x@r.example/"),
        ("https://r.example", "https://r.example:99999/"),
        ("https://r.example", "https:///x"),
    ],
)
def test_nobody_is_sent_where_one_must_not_go(start, target, monkeypatch):
    names = {"r.example": {"198.41.0.4"}, "dentro.example": {"198.41.0.4", "192.168.1.1"}}
    monkeypatch.setattr(registry_origin, "addresses", lambda host: names.get(host, {host}))
    with pytest.raises(RegistryError):
        check_move(Origin.of(start), Origin.of(target), "un rinvio")


def test_a_registry_of_the_house_may_send_inside_the_house(monkeypatch):
    names = {"r.casa": {"192.168.1.1"}, "dati.casa": {"192.168.1.2"}, "cdn.example": {"198.41.0.4"}}
    monkeypatch.setattr(registry_origin, "addresses", lambda host: names[host])
    for start, target in (("r.casa", "dati.casa"), ("r.casa", "cdn.example"), ("r.casa", "r.casa")):
        check_move(Origin.of(f"https://{start}"), Origin.of(f"https://{target}"), "un rinvio")
    with pytest.raises(RegistryError, match="dentro la tua rete"):
        check_move(Origin.of("https://cdn.example"), Origin.of("https://r.casa"), "un rinvio")


def test_a_token_is_fetched_once_for_everything(server, store):
    def odd(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            return handler.send(200, b'{"token": "gettone", "expires_in": 300}')
        realm = f'Bearer realm="{server.url}/token",service="registro"'
        return handler.headers.get("Authorization") != "Bearer gettone" and handler.send(401, WWW_Authenticate=realm)

    server.odd = odd
    fetch(store, server, SECRET)
    (token,) = server.paths("/token")
    assert token["Authorization"] == BASIC
    where = next(path for _, path, _ in server.seen if "/token" in path)
    assert where == "/token?service=registro&scope=repository%3Acorso%2Fx%3Apull"


def test_an_identity_token_is_exchanged_without_a_password(server, store):
    def odd(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            return handler.send(200, b'{"access_token": "gettone"}')
        realm = f'Bearer realm="{server.url}/token"'
        return "Authorization" not in handler.headers and handler.send(401, WWW_Authenticate=realm)

    server.odd = odd
    fetch(store, server, Credentials(identity_token="id"))
    assert [(command, path) for command, path, _ in server.seen if "token" in path] == [("POST", "/token")]


@pytest.mark.parametrize(
    "realm",
    ["https://ladro.example/t", "http://ladro.example/t", "file:///etc/passwd", "", "https://u:p@127.0.0.1/", "/token"],
)
def test_the_credentials_never_go_to_a_stranger(server, store, realm):
    server.odd = lambda handler: handler.send(401, WWW_Authenticate=f'Bearer realm="{realm}"')
    with pytest.raises(RegistryError) as problem:
        fetch(store, server, SECRET)
    assert "segretissimo" not in str(problem.value) + repr(problem.value.details)


def test_a_token_that_is_no_token_is_refused(server, store):
    def odd(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            return handler.send(200, json.dumps({"token": "a\r\nX: y"}).encode())
        return handler.send(401, WWW_Authenticate=f'Bearer realm="{server.url}/token"')

    server.odd = odd
    with pytest.raises(RegistryError, match="non ha dato un gettone"):
        fetch(store, server)


def test_wrong_credentials_are_said_once_and_never_shown(server, store):
    server.odd = lambda handler: handler.send(401, WWW_Authenticate='Basic realm="x"')
    with pytest.raises(RegistryError, match="bisogna dire chi sei") as problem:
        fetch(store, server, SECRET)
    assert len(server.seen) == 2
    assert problem.value.remedy == f"labkit login {server.address}"
    assert "segretissimo" not in repr(SECRET) + str(problem.value)


@pytest.mark.parametrize(
    ("registry", "realm", "good"),
    [
        ("quay.io", "quay.io", True),
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("example.com", "auth.example.com", True),
        ("registry-1.docker.io", "auth.docker.io.ladro.example", False),
        ("r.example", "example", False),
        ("notexample.com", "example.com", False),
        ("10.0.0.1", "1.10.0.0.1", False),
    ],
)
def test_the_realm_of_a_registry_is_its_own_domain(registry, realm, good):
    assert may_know(registry, realm) is good


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", {}),
        ("Basic", {"basic": {}}),
        ('Bearer realm="a,b\\"c", service=x', {"bearer": {"realm": 'a,b"c', "service": "x"}}),
        ('Basic realm="x", Bearer realm="y"', {"basic": {"realm": "x"}, "bearer": {"realm": "y"}}),
        ("Bearer realm=", {"bearer": {}}),
        ("=" * 10_000, {}),
        ("B " * 5_000, {"b": {}}),
    ],
)
def test_a_challenge_is_read_whatever_it_is(header, found):
    assert challenges(header) == found


# ---------------------------------------------------------------- the credentials of Docker


def config(tmp_path: Path, **fields: object) -> None:
    (tmp_path / "docker").mkdir(exist_ok=True)
    (tmp_path / "docker" / "config.json").write_text(json.dumps(fields))


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "docker-credential-prova"
    program.write_text(f"#!/bin/sh\nread server\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_the_credentials_are_those_of_docker_login(tmp_path):
    auth = base64.b64encode(b"anna:se:greto").decode()
    hub = "https://index." + "docker.io/v1/"
    config(
        tmp_path,
        auths={"r.example": {"auth": auth}, hub: {"auth": auth}, "https://v.example/v1/": {"identitytoken": "t"}},
    )
    assert stored_credentials("r.example") == Credentials("anna", "se:greto")
    assert stored_credentials("docker.io") == Credentials("anna", "se:greto")
    assert stored_credentials("v.example") == Credentials(identity_token="t")
    assert stored_credentials("altro.example") is None


def test_a_helper_is_asked_for_its_registry(tmp_path, monkeypatch):
    helper(tmp_path, monkeypatch, """[ "$server" = r.example ] && echo '{"Username":"anna","Secret":"x"}'""")
    config(tmp_path, credHelpers={"r.example": "prova"})
    assert stored_credentials("r.example") == Credentials("anna", "x")
    config(tmp_path, credsStore="prova")
    assert stored_credentials("r.example") == Credentials("anna", "x")
    assert stored_credentials("altro.example") is None


def test_a_helper_that_is_missing_or_says_nonsense_is_one_sentence(tmp_path, monkeypatch):
    config(tmp_path, credsStore="che-non-c-e")
    with pytest.raises(LabError, match="docker-credential-che-non-c-e"):
        stored_credentials("r.example")
    config(tmp_path, credsStore="../../bin/sh")
    with pytest.raises(LabError, match="non è un nome"):
        stored_credentials("r.example")
    helper(tmp_path, monkeypatch, "echo segretissimo")
    config(tmp_path, credsStore="prova")
    with pytest.raises(LabError) as problem:
        stored_credentials("r.example")
    assert "segretissimo" not in str(problem.value)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": []}', '{"auths": {"r.example": 5}}', '{"auths": {"r.example": {"auth": "%"}}}']
)
def test_a_strange_configuration_of_docker_is_no_crash(tmp_path, text):
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(text)
    if text == "{":
        with pytest.raises(LabError, match="Non riesco a leggere le credenziali"):
            stored_credentials("r.example")
    else:
        assert stored_credentials("r.example") is None
