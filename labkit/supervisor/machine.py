"""Il guardiano di una macchina virtuale: la accende, le porta le connessioni, la spegne e non lascia niente.

Come :mod:`labkit.supervisor.guard`, ma al posto del supervisore c'è una macchina: un programma (User
Mode Linux o QEMU) con un canale verso il PID 1 che gira dentro (:mod:`labkit.supervisor.guest`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import Any

from labkit import rundir
from labkit.errors import BackendError
from labkit.kernel import libc
from labkit.supervisor import disks, warden
from labkit.supervisor.loop import Loop
from labkit.supervisor.mux import Mux

#: Byte del disco della macchina: un file vuoto, che sull'host non occupa niente finché lei non ci scrive.
DISK = 64 << 20

#: Secondi che la macchina ha per spegnersi da sola quando il client ha finito.
_GRACE = 3.0


def keep_watch(config: dict[str, Any], folder: str, wire: socket.socket, door: socket.socket) -> None:
    """Accende la macchina e fa da ponte finché uno dei due finisce."""
    # If the warden is killed, the processes of the machine come to us, and end_children() buries them.
    libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    rundir.reap(layers=False)
    volumes, lock, reason = disks.take(config["volumes"])
    write_init(config, folder, reason)
    with open(f"{folder}/disk", "wb") as disk:
        disk.truncate(DISK)
    mine, theirs = socket.socketpair()
    console = os.open(f"{folder}/console", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    places = {"{channel}": str(theirs.fileno()), "{folder}": folder}
    words = config["vm"]["command"]
    if volumes:
        os.symlink(volumes, f"{folder}/volumes")  # a path of the folder: not every path fits on a command line
        words = [*words, *config["vm"]["volumes"]]
    command = [fill(word, places) for word in words]
    pid = warden.start(command, config["vm"]["env"], folder, theirs.fileno(), console, config["client_pidfd"])
    theirs.close()
    os.close(console)
    pidfd = os.pidfd_open(pid)
    try:
        bridge = Bridge(mine, wire.dup(), door, config["vm"]["window"], config["client_pidfd"], pidfd)
        bridge.run()
        if not bridge.mux.answered:
            raise explain_death(folder)
        wire.close()
        wait_end(pidfd, _GRACE)
    finally:
        warden.end_children()
        os.close(pidfd)
        if lock >= 0:
            os.close(lock)


def fill(word: str, places: dict[str, str]) -> str:
    """Mette nella riga di comando quello che si sa solo adesso."""
    for name, value in places.items():
        word = word.replace(name, value)
    return word


def write_init(config: dict[str, Any], folder: str, no_volumes: str) -> None:
    """Il programma che il kernel ospite esegue per primo: labkit, con la sua configurazione dentro."""
    vm = config["vm"]
    guest = {
        "id": config["id"],
        "backend": config["backend"],
        "code": config["code"],
        "paths": config["paths"],
        "path": os.environ.get("PATH", os.defpath),
        "visible": vm["visible"],
        "channel": vm["channel"],
        "modules": vm["modules"],
        "window": vm["window"],
        "no_volumes": no_volumes,
    }
    text = f"#!{vm['python']} -IS\nimport sys\nsys.path.insert(0, {vm['source']!r})\n"
    text += f"from labkit.supervisor.guest import main\nmain({guest!r})\n"
    path = f"{folder}/init"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o755)


def wait_end(pidfd: int, seconds: float) -> None:
    """Aspetta che la macchina si spenga da sola."""
    import select

    select.select([pidfd], [], [], seconds)


class Bridge:
    """Il capo del canale sull'host: il primo client, quelli che bussano, le porte pubblicate."""

    def __init__(
        self, channel: socket.socket, wire: socket.socket, door: socket.socket, window: int, client: int, machine: int
    ) -> None:
        self.loop = Loop()
        self.door = door
        self.machine = machine
        self.ports: dict[int, socket.socket] = {}
        self.mux = Mux(
            self.loop,
            channel.detach(),
            window=window,
            patient=True,
            opened=lambda target: None,
            message=self._message,
            lost=self._stop,
        )
        self.mux.connect(wire, "wire")
        door.setblocking(False)
        self.loop.read(door.fileno(), self._knock)
        self.loop.read(client, lambda fd: self._kill())
        self.loop.read(machine, lambda fd: self._stop())

    def run(self) -> None:
        self.loop.run()
        for listener in (self.door, *self.ports.values()):
            listener.close()

    def _stop(self) -> None:
        self.loop.running = False

    def _kill(self) -> None:
        """Il client è morto: la macchina non ha più nessuno per cui vivere."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.machine, signal.SIGKILL)
        self._stop()

    def _knock(self, fd: int) -> None:
        with contextlib.suppress(OSError):
            self.mux.connect(self.door.accept()[0], "door")

    def _message(self, message: dict[str, Any]) -> None:
        """Il supervisore, là dentro, vuole una porta dell'host, o non la vuole più."""
        if "ready" in message:
            self.mux.tell(now=time.time())
            return
        if "unlisten" in message:
            listener = self.ports.pop(message["unlisten"], None)
            if listener:
                self.loop.forget(listener.fileno())
                listener.close()
            return
        ip, port, _ = message["listen"]
        try:
            listener = socket.create_server((ip, port), backlog=128)
        except OSError as problem:
            self.mux.tell(errno=problem.errno or 0, text=problem.strerror or str(problem))
            return
        listener.setblocking(False)
        number = listener.getsockname()[1]
        self.ports[number] = listener
        self.loop.read(listener.fileno(), lambda fd: self._visitor(number))
        self.mux.tell(port=number)

    def _visitor(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self.mux.connect(self.ports[number].accept()[0], f"port-{number}")


def explain_death(folder: str) -> BackendError:
    """Perché la macchina non è arrivata a rispondere: le ultime righe della sua console."""
    try:
        with open(f"{folder}/console", encoding="utf-8", errors="replace") as file:
            tail = file.read()[-600:].strip()
    except OSError:
        tail = ""
    said = tail or "(niente)"
    return BackendError(f"La macchina virtuale si è spenta prima di rispondere. La sua console diceva: {said}")
