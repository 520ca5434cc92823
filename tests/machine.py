"""La quarta via delle prove: pytest dentro una macchina User Mode Linux, root di un kernel con i soli cgroup v2.

La macchina è quella di ``Lab(backend="uml")``; al posto del supervisore il suo PID 1 esegue pytest. Legge i file
dell'host senza poterli cambiare, scrive su un disco suo, e alla fine manda il rapporto sul canale e si spegne.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from labkit.backends import kernels, uml
from labkit.kernel import libc, mounts
from labkit.kernel import rtnetlink as rt
from labkit.supervisor import guest, machine, warden

ROOT = Path(__file__).resolve().parent.parent

#: Il disco della macchina, vuoto, con un ext4: un tmpfs, in Linux 6.1, non tiene gli attributi di overlay.
DISK = 4 << 30
MEMORY = "2G"

#: Secondi che un giro di prove ha per finire.
PATIENCE = 1800

#: Che cosa la macchina prende dall'ambiente di chi prova, e come sa di essere lei.
ENVIRONMENT = ("CI", "TERM", "COLUMNS")
SIGN = "LABKIT_TEST_MACHINE"

_REPORT = Path("/root/report.xml")


def here() -> bool:
    """Se queste prove girano già dentro la macchina."""
    return SIGN in os.environ


def run(pytest: Sequence[str], seconds: float = PATIENCE) -> tuple[int, str]:
    """Esegue un pytest là dentro, che scrive sullo schermo; dà il codice d'uscita e il rapporto JUnit.

    Vuoti (1 e nessun rapporto) se la macchina si spegne prima, o se passano ``seconds`` secondi.
    """
    kernel = kernels.uml(lambda sentence: print(sentence, flush=True))
    vm = uml.machine(kernel.binary, kernel.modules, MEMORY)
    with _folder() as folder:
        _write_init(folder, pytest, vm)
        _make_disk(folder / "disk")
        mine, theirs = socket.socketpair()
        places = {"{channel}": str(theirs.fileno()), "{folder}": str(folder)}
        command = [machine.fill(word, places) for word in (*vm["command"], "quiet", "loglevel=1")]
        # A Ctrl-C reaches the warden too: what it leaves comes to us.
        libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
        over, held = os.pipe()
        pid = warden.start(command, vm["env"], str(folder), theirs.fileno(), 1, over)
        theirs.close()
        os.close(over)
        try:
            return _listen(mine, seconds)
        finally:
            os.close(held)  # the warden ends whatever of the machine is still there
            os.waitpid(pid, 0)
            warden.end_children()
            libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 0)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lk-machine-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_init(folder: Path, pytest: Sequence[str], vm: dict[str, Any]) -> None:
    color = "yes" if os.isatty(1) else "no"
    config = {
        "pytest": [*pytest, f"--color={color}", f"--junit-xml={_REPORT}"],
        "visible": uml.visible([vm["modules"], str(ROOT)]),
        "modules": vm["modules"],
        "channel": vm["channel"],
        "path": f"{ROOT}/.venv/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "env": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }
    init = folder / "init"
    init.write_text(
        f"#!{vm['python']} -IS\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"from tests.machine import inside\ninside({config!r})\n"
    )
    init.chmod(0o755)


def _make_disk(path: Path) -> None:
    with open(path, "wb") as disk:
        disk.truncate(DISK)
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", str(path)], check=True, env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    )


def _listen(channel: socket.socket, seconds: float) -> tuple[int, str]:
    """La risposta della macchina: il codice d'uscita su una riga, poi il rapporto."""
    channel.settimeout(seconds)
    with channel, channel.makefile("rb") as stream:
        try:
            first = stream.readline()
            return (int(first), stream.read().decode()) if first else (1, "")
        except TimeoutError:
            return 1, ""


# ---- from here on, inside


def inside(config: dict[str, Any]) -> NoReturn:
    """Tutta la vita della macchina, dal suo PID 1."""
    try:
        guest.keep_only(config["visible"])
        guest.prepare(config)
        _make_writable()
        _raise_loopback()
        channel = guest.open_channel(config["channel"])
        code = _wait_for(subprocess.Popen(config["pytest"], cwd=ROOT, env=_environment(config["env"])))
        with open(channel, "wb") as answer:
            answer.write(f"{code}\n".encode() + (_REPORT.read_bytes() if _REPORT.exists() else b""))
    except BaseException:  # noqa: BLE001  the end of a machine: say why on the console and switch off
        traceback.print_exc()
    finally:
        guest.power_off()


def _make_writable() -> None:
    mounts.mount("/dev/ubda", "/root", "ext4")
    os.mkdir("/root/tmp")
    os.chmod("/root/tmp", 0o1777)
    mounts.mount("/root/tmp", "/tmp", "", "bind")


def _raise_loopback() -> None:
    netlink = rt.Netlink()
    netlink.talk(rt.up_message(rt.LOOPBACK_INDEX))
    netlink.close()


def _environment(given: dict[str, str]) -> dict[str, str]:
    return {
        **os.environ,
        **given,
        SIGN: "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": "/root/hypothesis",
    }


def _wait_for(child: subprocess.Popen[bytes]) -> int:
    """Aspetta un figlio, e intanto seppellisce gli orfani: qui siamo il PID 1."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    # To try something there by hand: python -m tests.machine tests/kernel/test_rootfs.py
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *sys.argv[1:]])[0])
