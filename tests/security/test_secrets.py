"""Un segreto non si trova da nessuna parte fuori dal suo file: né nei processi, né nelle risposte, né su disco."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import Lab, rundir
from labkit.client.container import Container
from labkit.model import to_json

pytestmark = pytest.mark.kernel

#: Non deve stare per intero in questo file compilato, né fra gli argomenti delle prove.
SECRET = "-".join(["non", "si", "deve", "trovare", str(os.getpid()), os.urandom(8).hex()])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(backend="direct") as lab:
        yield lab


@pytest.fixture(params=[False, True], ids=["programma", "init"])
def container(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Container]:
    program = ["sh", "-c", "while [ ! -e /fine ]; do sleep 0.05; done; exec sleep 60"]
    one = lab.run("busybox", program, secrets={"db_password": SECRET}, init=request.param, detach=True, name="cassa")
    yield one
    one.rm(force=True)


def found_in(path: Path) -> bool:
    try:
        return SECRET.encode() in path.read_bytes()
    except OSError:
        return False


def test_the_program_has_its_secret(container: Container) -> None:
    assert container.exec("cat /run/secrets/db_password", quiet=True).output == SECRET


def test_no_process_carries_it_in_its_environment_or_arguments(lab: Lab, container: Container) -> None:
    people = [*lab.host_pids(), *(int(name) for name in os.listdir("/proc") if name.isdecimal())]
    assert len(set(people)) > 3
    assert [p for p in people for what in ("environ", "cmdline", "comm") if found_in(Path(f"/proc/{p}/{what}"))] == []
    inside = container.exec(["sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline"], quiet=True)
    assert "HOSTNAME" in inside.output
    assert SECRET not in inside.output


def test_no_answer_of_the_laboratory_tells_it(lab: Lab, container: Container) -> None:
    container.exec(["touch", "/fine"], quiet=True)
    answers: dict[str, Any] = {
        "inspect": to_json(container.inspect()),
        "ps": lab.wire.call("ps", all=True),
        "plan": to_json(container.plan.steps),
        "events": to_json(lab.events()),
        "logs": container.logs(),
        "top": container.top(),
        "repr": [repr(container), repr(container.inspect()), repr(container.plan), repr(lab.ps())],
        "drawing": container.plan._repr_mimebundle_(),
    }
    for name, answer in answers.items():
        assert SECRET not in json.dumps(answer, default=repr), name
    assert "db_password" in json.dumps(answers["plan"])


def test_no_file_of_the_laboratory_holds_it(lab: Lab, container: Container) -> None:
    """Né nella cartella sull'host, né in quella che vede solo il supervisore, dove stanno gli strati."""
    folder = Path(rundir.base()) / lab.id
    assert folder.is_dir()
    assert [str(path) for path in folder.rglob("*") if path.is_file() and found_in(path)] == []
    script = f"""
import os
home = {lab.wire.hello["folder"]!r}
needle = "-".join({SECRET.split("-")!r}).encode()
seen = 0
for where, folders, names in os.walk(home):
    for name in names:
        path = os.path.join(where, name)
        if os.path.isfile(path) and not os.path.islink(path):
            seen += 1
            if needle in open(path, "rb").read():
                print("trovato", path)
print("visti" if seen else "niente")
"""
    with lab.process("cerca") as process:
        channel = lab.wire.open("process_ask", label=process.label, verb="cell", args={"source": script})
        assert b"".join(data for _, data in channel).split() == [b"visti"]


def test_an_error_never_tells_it(lab: Lab) -> None:
    requests: list[dict[str, Any]] = [
        {"spec": {"image": "busybox", "secrets": ["altro"]}, "secrets": {"db_password": SECRET}},
        {"spec": {"image": "busybox", "secrets": ["a"]}, "secrets": {"a": f"!{SECRET}"}},
        {"spec": {"image": "busybox", "secrets": ["a"]}, "secrets": SECRET},
        {"spec": {"image": "busybox"}, "secrets": {SECRET: ""}, "altro": 1},
        {"spec": {"image": "manca", "secrets": ["a"]}, "secrets": {"a": "QQ=="}},
    ]
    for request in requests:
        with pytest.raises(Exception) as caught:
            lab.wire.call("run", attach=False, **request)
        assert SECRET not in str(caught.value), request["spec"]
    assert not lab.ps(all=True)


@pytest.mark.root
def test_the_supervisor_does_not_keep_it_in_its_memory(lab: Lab, container: Container) -> None:
    """Il valore sta in un memfd: nella memoria dei processi resta, al massimo, la cornice (base64) già letta."""
    looked = [pid for pid in lab.host_pids() if remembered(pid)]
    assert len(looked) >= 3  # the guard, the supervisor, the container


def remembered(pid: int) -> int:
    """Quanti byte ha letto della memoria di un processo, dopo aver controllato che il segreto non ci sia."""
    size = 0
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
            spans = [line.split()[0].split("-") for line in maps if " r" in line and "[v" not in line]
            for start, end in spans:
                memory.seek(int(start, 16))
                data = memory.read(int(end, 16) - int(start, 16))
                assert SECRET.encode() not in data, pid
                size += len(data)
    except OSError:  # it ended, or that piece of memory cannot be read
        pass
    return size


def test_a_secret_ends_with_its_container(lab: Lab) -> None:
    def held() -> int:
        with lab.process("conta") as process:
            code = (
                "import os; print(sum('secrets' in os.readlink(f'/proc/1/fd/{n}') for n in os.listdir('/proc/1/fd')))"
            )
            channel = lab.wire.open("process_ask", label=process.label, verb="cell", args={"source": code})
            return int(b"".join(data for _, data in channel))

    one = lab.run("busybox", ["sleep", "60"], secrets={"a": SECRET}, detach=True)
    assert held() == 1
    one.stop(grace=0)
    one.rm()
    assert held() == 0
