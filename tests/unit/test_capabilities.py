"""Le capability: nomi, insiemi, e l'effetto vero su un processo."""

import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import InvalidError, NotFoundError
from labkit.kernel import capabilities as caps

HEADER = Path("/usr/include/linux/capability.h")
sets = st.frozensets(st.sampled_from(sorted(caps.ALL)))


def test_names_and_numbers_are_those_of_the_kernel_header() -> None:
    if not HEADER.exists():
        pytest.skip("linux-libc-dev is not installed")
    found = re.findall(r"^#define (CAP_\w+)\s+(\d+)$", HEADER.read_text(), re.MULTILINE)
    assert dict(caps.CAPABILITIES) == {name: int(value) for name, value in found}


def test_docker_gives_fourteen_and_none_is_the_whole_root() -> None:
    assert len(caps.DOCKER_DEFAULT) == 14
    assert caps.DOCKER_DEFAULT < caps.ALL
    assert not caps.DOCKER_DEFAULT & {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_ADMIN", "CAP_SYS_MODULE"}


@pytest.mark.parametrize("spelling", ["CAP_NET_RAW", "NET_RAW", "net_raw", " cap_net_raw "])
def test_every_spelling_of_docker_is_understood(spelling: str) -> None:
    assert caps.parse(spelling) == {"CAP_NET_RAW"}


def test_a_slip_gets_a_suggestion() -> None:
    with pytest.raises(InvalidError, match="«NET_RAV» non esiste") as problem:
        caps.parse("NET_RAV")
    assert problem.value.remedy == "forse CAP_NET_RAW"


@pytest.mark.parametrize("bad", ["", "CAP_", "41", "ALL;", "NET RAW"])
def test_nonsense_is_refused(bad: str) -> None:
    with pytest.raises(InvalidError):
        caps.parse(bad)


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], [], caps.DOCKER_DEFAULT),
        (["NET_ADMIN"], [], caps.DOCKER_DEFAULT | {"CAP_NET_ADMIN"}),
        ([], ["NET_RAW"], caps.DOCKER_DEFAULT - {"CAP_NET_RAW"}),
        ([], ["ALL"], frozenset()),
        (["CHOWN"], ["ALL"], {"CAP_CHOWN"}),
        (["ALL"], [], caps.ALL),
        (["all"], ["SYS_ADMIN"], caps.ALL - {"CAP_SYS_ADMIN"}),
        (["NET_RAW"], ["NET_RAW"], caps.DOCKER_DEFAULT),
    ],
)
def test_add_and_drop_follow_docker(add: list[str], drop: list[str], expected: frozenset[str]) -> None:
    assert caps.compute(add, drop) == expected


@given(sets, sets)
def test_sys_admin_comes_only_to_those_who_ask(add: frozenset[str], drop: frozenset[str]) -> None:
    result = caps.compute(add - {"CAP_SYS_ADMIN"}, drop)
    assert "CAP_SYS_ADMIN" not in result
    assert result <= caps.DOCKER_DEFAULT | add


@given(sets)
def test_a_mask_and_its_names_are_the_same_set(wanted: frozenset[str]) -> None:
    assert caps.names(caps.mask(wanted)) == wanted


def test_a_capability_without_a_name_is_shown_by_number() -> None:
    assert caps.names(1 << 41) == {"CAP_41"}


def in_child(action: Callable[[], None]) -> str:
    """Esegue ``action`` in un figlio e torna il suo errore («» se è andata bene)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException:  # noqa: BLE001 - the child reports whatever happened and ends
            os.write(writer, traceback.format_exc().encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as stream:
        report = stream.read()
    os.waitpid(pid, 0)
    return report


@pytest.mark.skipif(os.geteuid() != 0, reason="the bounding set needs CAP_SETPCAP")
@pytest.mark.parametrize("wanted", [caps.DOCKER_DEFAULT, frozenset(), frozenset({"CAP_CHOWN"})])
def test_what_is_dropped_is_gone_from_every_set(wanted: frozenset[str]) -> None:
    def child() -> None:
        caps.limit_to(wanted)
        now = caps.read()
        assert now["CapBnd"] == now["CapEff"] == now["CapPrm"] == wanted, now
        assert now["CapInh"] == now["CapAmb"] == frozenset(), now

    assert in_child(child) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="the bounding set needs CAP_SETPCAP")
def test_a_plain_user_of_a_container_has_none_and_cannot_have_more_than_the_bound() -> None:
    def child() -> None:
        caps.bound(caps.DOCKER_DEFAULT)
        os.setgroups([])
        os.setgid(1000)
        os.setuid(1000)
        caps.keep(())
        now = caps.read()
        assert now["CapEff"] == now["CapPrm"] == now["CapInh"] == now["CapAmb"] == frozenset(), now
        assert now["CapBnd"] == caps.DOCKER_DEFAULT

    assert in_child(child) == ""


def test_the_last_capability_of_this_kernel_is_read_from_proc() -> None:
    assert caps.last() == int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def test_numbers_the_kernel_does_not_know_are_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(caps, "last", lambda: 5)
    monkeypatch.setattr(caps.libc, "prctl", lambda option, n=0, *rest: asked.append(n))
    caps.bound({"CAP_CHOWN"})
    assert asked == [1, 2, 3, 4, 5]


def test_numbers_newer_than_our_names_are_dropped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(caps, "last", lambda: 42)
    monkeypatch.setattr(caps.libc, "prctl", lambda option, n=0, *rest: asked.append(n))
    caps.bound(caps.ALL)
    assert asked == [41, 42]


def test_a_process_that_is_gone_is_one_sentence() -> None:
    with pytest.raises(NotFoundError, match="non c'è più"):
        caps.read(2**22 + 1)
