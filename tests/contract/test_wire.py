"""Sul filo: la tabella dei verbi è chiusa, e nessun messaggio, per quanto storto, fa finire il laboratorio."""

from __future__ import annotations

import contextlib
import json
import socket
import string
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit import Lab, rundir
from labkit.errors import LabError, NotFoundError, ProtocolError
from labkit.protocol import HEADER, MAX_BODY, Decoder, Frame, Kind, pack, pack_json
from labkit.supervisor.verbs import VERBS

#: Aggiungere un verbo è dare un potere a chi sta sul filo: si fa apposta, anche qui.
_TABLE = """
archive_get archive_put attach browse capture create detach diff events exec export hello hold images inspect
interrupt kill layer layers_prune logs namespaces network_connect network_create network_disconnect network_inspect
network_ls network_prune network_rm pause plan plan_run plan_step plan_steps plan_undo process process_ask
process_close ps release rename resize restart rm rootfs run shutdown start stats stop top unpause update
volume_backup volume_create volume_inspect volume_ls volume_prune volume_restore volume_rm wait
"""
KNOWN = _TABLE.split()


class Raw:
    """Un client che manda byte qualunque."""

    def __init__(self, lab: Lab) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(5)
        self.sock.connect(next(f"{folder}/sock" for folder, record in rundir.live() if record.id == lab.id))
        self.decoder = Decoder()
        self.frames: list[Frame] = []
        assert self.receive().json()["id"] == lab.id

    def receive(self) -> Frame:
        while not self.frames:
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError
            self.frames += self.decoder.feed(data)
        return self.frames.pop(0)

    def answer(self, data: bytes) -> Frame:
        self.sock.sendall(data)
        return self.receive()

    def refusal(self, data: bytes) -> str:
        """Manda, riceve un rifiuto, e la presa è chiusa dall'altro capo."""
        frame = self.answer(data)
        while frame.kind != Kind.ERR:  # what was on its way before
            frame = self.receive()
        assert frame.json()["code"] == "protocol"
        with pytest.raises((EOFError, ConnectionError)):
            self.receive()
        return str(frame.json()["message"])


@pytest.fixture
def raw(lab: Lab) -> Iterator[Raw]:
    client = Raw(lab)
    yield client
    client.sock.close()


# ---- verbs


def test_the_table_of_verbs_is_closed() -> None:
    assert sorted(VERBS) == KNOWN


@pytest.mark.parametrize("verb", ["", "RUN", "os.system", "__init__", "VERBS", "run ", "lancia"])
def test_an_unknown_verb_is_refused(lab: Lab, verb: str) -> None:
    with pytest.raises(ProtocolError, match=f"non conosce il verbo «{verb}»"):
        lab.wire.call(verb)


@pytest.mark.parametrize("verb", [name for name in KNOWN if name != "shutdown"])
def test_an_argument_that_a_verb_does_not_have_is_refused(lab: Lab, verb: str) -> None:
    with pytest.raises(ProtocolError, match=f"Argomenti sbagliati per {verb}"):
        lab.wire.call(verb, argomento_inventato=1)


@pytest.mark.parametrize("request_", [None, [], "run", 7, {}, {"verb": "ps"}, {"args": {}}, {"verb": "ps", "args": []}])
def test_a_request_that_is_no_request_is_refused(raw: Raw, request_: Any) -> None:
    frame = raw.answer(pack_json(Kind.CALL, 1, request_))
    assert (frame.kind, frame.channel) == (Kind.ERR, 1)
    assert frame.json()["code"] == "protocol"
    assert raw.answer(pack_json(Kind.CALL, 1, {"verb": "ps", "args": {}})).kind == Kind.RET


WORDS = st.sampled_from(["", "busybox", "web", "true", "SIGTERM", "uts", "/etc", "0", "sleep 60", "\0", "à"])
SCALARS = st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | WORDS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)
_OPTIONS = (
    "command entrypoint name env env_file secrets templates hostname user workdir network attachments publish cap_add "
    "labels window restart health log stop_timeout mounts volumes_from"
)
SPECS = st.fixed_dictionaries(
    {"image": st.just("busybox")},
    optional=dict.fromkeys(_OPTIONS.split(), VALUES),
)
#: What is not here may be anything.
ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("all", "attach", "stdin", "follow", "force", "tty"), st.booleans() | VALUES),
    "spec": SPECS | VALUES,
}


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    verb = draw(st.sampled_from([name for name in KNOWN if name != "shutdown"]))
    code = VERBS[verb].__code__
    names = code.co_varnames[2 : code.co_argcount]
    return {
        "verb": verb,
        "args": {name: draw(ARGUMENTS.get(name, VALUES)) for name in names if draw(st.integers(0, 9))},
    }


@given(request=requests())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_whatever_it_holds_ends_the_lab(lab: Lab, request: dict[str, Any]) -> None:
    with Lab.connect(lab.id) as visitor:
        visitor.wire.open(request["verb"], **request["args"])
    assert lab.wire.call("images") == ["busybox", "host"]
    for container in lab.ps(all=True):
        with contextlib.suppress(NotFoundError):  # being born, and not able to
            container.rm(force=True)


# ---- frames


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HEADER.pack(0, 1, 0),
        HEADER.pack(99, 1, 0),
        HEADER.pack(Kind.CALL, 1, MAX_BODY + 1),
        pack(Kind.CALL, 1, b"{non JSON"),
        pack(Kind.CALL, 1, b"\xff\xfe"),
        pack(Kind.CALL, 1, b""),
        pack(Kind.CALL, 1, b"[" * 200_000),
        pack(Kind.CALL, 1, b"9" * 10_000),
        pack(Kind.STDIO, 1, b""),
    ],
    ids=["http", "kind 0", "kind 99", "too long", "bad JSON", "not UTF-8", "empty", "deep", "long number", "no stream"],
)
def test_who_does_not_speak_the_language_is_told_and_shown_the_door(lab: Lab, raw: Raw, data: bytes) -> None:
    if data == pack(Kind.STDIO, 1, b""):
        lab.run("busybox", "true")  # there must be an event to tell
        raw.sock.sendall(pack_json(Kind.CALL, 1, {"verb": "events", "args": {"follow": True}}))
        assert raw.receive().channel == 1
    assert raw.refusal(data)


def test_a_channel_holds_one_request_at_a_time(raw: Raw) -> None:
    call = pack_json(Kind.CALL, 1, {"verb": "process_close", "args": {"label": "nessuno"}})
    assert raw.answer(call).kind == Kind.RET
    assert raw.answer(call).kind == Kind.RET, "a closed channel can be used again"
    waiting = pack_json(Kind.CALL, 2, {"verb": "events", "args": {"follow": True}})
    assert "Due richieste sullo stesso canale" in raw_last(raw, waiting + waiting)


def raw_last(raw: Raw, data: bytes) -> str:
    raw.sock.sendall(data)
    last: Frame | None = None
    with pytest.raises((EOFError, ConnectionError)):
        while True:
            last = raw.receive()
    assert last is not None
    return str(last.json().get("message"))


def test_frames_cut_anywhere_are_put_together_again(raw: Raw) -> None:
    data = pack_json(Kind.CALL, 7, {"verb": "images", "args": {}})
    for byte in data[:-1]:
        raw.sock.sendall(bytes((byte,)))
    frame = raw.answer(data[-1:])
    assert (frame.kind, frame.channel, frame.json()) == (Kind.RET, 7, ["busybox", "host"])


def test_many_requests_in_one_breath_are_all_answered(raw: Raw) -> None:
    raw.sock.sendall(b"".join(pack_json(Kind.CALL, n, {"verb": "images", "args": {}}) for n in range(1, 200)))
    assert [raw.receive().channel for _ in range(1, 200)] == list(range(1, 200))


def test_a_ping_comes_back(raw: Raw) -> None:
    assert raw.answer(pack(Kind.PING, 5, b"eco")) == Frame(Kind.PING, 5, b"eco")


def test_bytes_for_nobody_are_dropped(raw: Raw) -> None:
    raw.sock.sendall(pack(Kind.STDIO, 42, b"\0ciao") + pack(Kind.RET, 3, b"1") + pack(Kind.EVENT, 3, b"1"))
    assert raw.answer(pack(Kind.PING, 1)).kind == Kind.PING


def test_a_visitor_that_leaves_in_the_middle_of_a_frame_does_no_harm(lab: Lab, raw: Raw) -> None:
    raw.sock.sendall(pack_json(Kind.CALL, 1, {"verb": "images", "args": {}})[:-3])
    raw.sock.close()
    assert lab.wire.call("images") == ["busybox", "host"]


def test_an_attached_program_is_stopped_only_by_who_is_attached(lab: Lab, raw: Raw) -> None:
    channel = lab.open_run("busybox", ["sleep", "60"])
    channel.receive(timeout=20)
    for verb in ("interrupt", "resize"):
        args = {"channel": channel.number} | ({"rows": 1, "columns": 1} if verb == "resize" else {})
        frame = raw.answer(pack_json(Kind.CALL, 1, {"verb": verb, "args": args}))
        assert frame.json()["code"] == "not-found"
    with pytest.raises(LabError, match="non c'è più un processo"):
        lab.wire.call("interrupt", channel=99999)
    channel.interrupt("SIGKILL")
    assert channel.result["exit_code"] == 137


def test_the_alphabet_of_errors_crosses_the_wire_as_data(lab: Lab, raw: Raw) -> None:
    frame = raw.answer(pack_json(Kind.CALL, 1, {"verb": "inspect", "args": {"name": "nessuno"}}))
    data = json.loads(frame.body)
    assert set(data) == {"code", "message", "remedy", "details"}
    assert data["code"] == "not-found"
    assert set(data["code"]) <= set(string.ascii_lowercase + "-")
