"""Il guardiano: sta sull'host, fa nascere il laboratorio e lo fa finire quando il client non c'è più.

Invariante: se muore il client, il guardiano o il supervisore, muoiono tutti. Il guardiano sorveglia
il pidfd del client e quello del supervisore; il supervisore riceve SIGKILL se muore il guardiano
(PR_SET_PDEATHSIG) e, essendo il PID 1 del laboratorio, porta con sé ogni processo: con loro il kernel
distrugge mount, reti e namespace. Sull'host resta una cartella, che il guardiano toglie.

Qui si vive con un solo thread, lo stesso namespace di rete e di mount dell'host e il namespace utente
del laboratorio: per questo il guardiano può aprire le porte dell'host e darle al laboratorio.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from labkit import rundir
from labkit.errors import BackendError, LabError
from labkit.kernel import libc, namespaces
from labkit.kernel.explain import from_os_error
from labkit.protocol import Kind, pack_json
from labkit.supervisor import labgroup
from labkit.supervisor.idmap import enter_user_namespace, subordinate_ids
from labkit.supervisor.labgroup import LabGroup

#: I namespace del laboratorio, oltre a quello utente.
LAB_NAMESPACES = ("uts", "mount", "pid", "ipc", "net", "cgroup")


def main() -> None:
    """``python -I -S -c … CONFIG``: CONFIG è il JSON con la presa, il pidfd del client e le scelte."""
    config = json.loads(sys.argv[1])
    wire = socket.socket(fileno=config["wire"])
    try:
        guard(config, wire)
    except OSError as problem:
        reason = from_os_error(problem).message
        refuse(wire, BackendError(f"Il laboratorio non può nascere: {reason}", "labkit doctor"))
    except LabError as problem:
        refuse(wire, problem)


def refuse(wire: socket.socket, problem: LabError) -> NoReturn:
    """Dice al client perché il laboratorio non c'è, e finisce."""
    wire.sendall(pack_json(Kind.ERR, 0, problem.to_dict()))
    sys.exit(1)


def guard(config: dict[str, Any], wire: socket.socket) -> None:
    """Tutta la vita del guardiano."""
    os.umask(0o077)
    pid = os.getpid()
    mode = choose_mode(config["backend"])
    starttime = rundir.start_time(pid)
    lab = LabGroup()
    if mode in ("root", "user", "nosub"):
        lab = labgroup.choose(rundir.cgroup_name(pid, starttime))
        for group in lab.folders:
            rundir.reap_cgroups(os.path.dirname(group))
    record = rundir.LabRecord(
        id=config["id"],
        guard_pid=pid,
        guard_starttime=starttime,
        client_pid=config["client_pid"],
        backend=config["backend"],
        mode=mode,
        created=time.time(),
        scratch=rundir.scratch(config["id"]),
        cgroups=lab.folders,
    )
    config["scratch"] = record.scratch
    folder = rundir.create(record)
    try:
        labgroup.make(lab)
        config["cgroup"] = lab.to_json()
        config["kmsg"] = labgroup.kernel_log()
        os.mkdir(f"{folder}/lab", 0o711)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        door.bind(f"{folder}/sock")
        door.listen(16)
        if mode == "vm":
            from labkit.supervisor import machine

            machine.keep_watch(config, folder, wire, door)
        else:
            keep_watch(config, mode, folder, wire, door)
    finally:
        labgroup.leave(lab)
        rundir.remove(folder)


def choose_mode(backend: str) -> str:
    """``root``, ``user`` (utente normale con una fila di subuid), ``nosub`` (un id solo), ``vm`` o ``fake``."""
    if backend == "fake":
        return "fake"
    if backend in ("uml", "qemu"):
        return "vm"
    if os.geteuid() == 0:
        return "root"
    return "user" if subordinate_ids() else "nosub"


def keep_watch(config: dict[str, Any], mode: str, folder: str, wire: socket.socket, door: socket.socket) -> None:
    """Crea il supervisore e aspetta: la sua fine, o quella del client."""
    client: int = config["client_pidfd"]
    real = mode != "fake"
    config = {**config, "mode": enter_user_namespace(mode) if real else mode, "folder": folder}
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid, pidfd = libc.clone3(namespaces.flags(LAB_NAMESPACES) if real else 0)
    if pid == 0:
        mine.close()
        become_supervisor(config, wire, door, theirs)
    wire.close()
    door.close()
    theirs.close()
    # Here, because what a dead lab left on the disk may belong to ids that exist only in this user namespace.
    rundir.reap(layers=real)
    poll = select.poll()
    for fd in (client, pidfd, mine.fileno()):
        poll.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if client in ready:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            break
        if pidfd in ready:
            break
        if mine.fileno() in ready and not serve(mine):
            poll.unregister(mine)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)


def become_supervisor(config: dict[str, Any], wire: socket.socket, door: socket.socket, guard: socket.socket) -> None:
    """Nel figlio: si lega alla vita del guardiano e diventa il supervisore. Non torna."""
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.heed_signals(signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores these two for itself
    # getppid() is 0 in a new pid namespace: only the socket tells whether the guard died before this line.
    if select.select([guard], [], [], 0)[0]:
        os._exit(1)
    from labkit.supervisor.server import serve_lab

    status = 70
    try:
        if "cgroup" in config:
            lab = LabGroup.from_json(config["cgroup"])
            labgroup.enter(lab)
            config["cgroup"] = lab.to_json() | {"name": config["cgroup"]["name"]}
        serve_lab(config, wire, door, guard)
        status = 0
    except LabError as error:
        wire.setblocking(True)
        wire.sendall(pack_json(Kind.ERR, 0, error.to_dict()))
    except BaseException:  # noqa: BLE001  the end of the process: it must be told, whatever it is
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def open_port(ip: str, port: int, protocol: str) -> socket.socket:
    """Una presa dell'host che aspetta: connessioni se è ``tcp``, pacchetti se è ``udp``."""
    if protocol == "tcp":
        return socket.create_server((ip, port), backlog=128)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.bind((ip, port))
    except OSError:
        sock.close()
        raise
    return sock


def serve(channel: socket.socket) -> bool:
    """Una richiesta del supervisore: aprire una porta dell'host. ``False`` quando non ne arriveranno più."""
    data = channel.recv(4096)
    if not data:
        return False
    request = json.loads(data)
    if "listen" not in request:  # a port no longer wanted: the guard kept nothing of it
        return True
    ip, port, protocol = request["listen"]
    try:
        with open_port(ip, port, protocol) as server:
            answer = json.dumps({"port": server.getsockname()[1]}).encode()
            socket.send_fds(channel, [answer], [server.fileno()])
    except OSError as problem:
        channel.send(json.dumps({"errno": problem.errno or 0, "text": problem.strerror or str(problem)}).encode())
    return True
