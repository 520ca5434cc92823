"""Il namespace utente del laboratorio: chi è root là dentro, e chi è fuori (user_namespaces(7)).

Tre modi: ``root`` (root resta root, ma con potere solo qui dentro), ``user`` (un utente normale con
una fila di subuid, scritta da newuidmap), ``nosub`` (un utente normale e basta: dentro esiste solo root).
"""

from __future__ import annotations

import os
import pwd

from labkit.errors import BackendError, KernelError
from labkit.kernel import libc

_BLOCKED = "labkit doctor dice che cosa lo blocca (Ubuntu: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0)"


def subordinate_ids() -> tuple[tuple[int, int], tuple[int, int]] | None:
    """La prima fila di subuid e di subgid dell'utente, come ``(primo, quanti)``; ``None`` se manca qualcosa."""
    if not (_installed("newuidmap") and _installed("newgidmap")):
        return None
    uid, name = os.getuid(), ""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        pass
    users, groups = _range("/etc/subuid", name, uid), _range("/etc/subgid", name, uid)
    return (users, groups) if users and groups else None


def _installed(program: str) -> bool:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return any(os.access(f"{folder}/{program}", os.X_OK) for folder in folders)


def _range(path: str, name: str, uid: int) -> tuple[int, int] | None:
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                owner, _, rest = line.strip().partition(":")
                first, _, count = rest.partition(":")
                if owner in (name, str(uid)) and first.isdecimal() and count.isdecimal() and int(count):
                    return int(first), int(count)
    except OSError:
        pass
    return None


def enter_user_namespace(mode: str) -> str:
    """Porta chi chiama in un namespace utente nuovo, come root là dentro; torna il modo che ha funzionato.

    Un aiutante nato prima resta nel namespace di partenza: solo da lì si possono scrivere le mappe.
    """
    uid, gid, pid = os.getuid(), os.getgid(), os.getpid()
    if mode == "nosub":
        _unshare_user()
        _map_one(uid, gid)
        return mode
    ask, asked = os.pipe()
    answer, answered = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(asked)
        os.read(ask, 1)
        os.write(answered, _write_maps(mode, pid).encode()[:500] or b"ok")
        os._exit(0)
    os.close(ask)
    os.close(answered)
    try:
        _unshare_user()
        os.write(asked, b"x")
        result = os.read(answer, 500).decode()
    finally:
        os.close(asked)
        os.close(answer)
        os.waitpid(helper, 0)
    if result != "ok":
        if mode == "user":  # newuidmap refused: the kernel still lets us map ourselves.
            _map_one(uid, gid)
            return "nosub"
        raise BackendError(
            f"Il laboratorio non può nascere: la mappa degli utenti è stata rifiutata ({result}).", _BLOCKED
        )
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    return mode


def _unshare_user() -> None:
    try:
        libc.unshare(libc.CLONE_NEWUSER)
    except KernelError as problem:
        raise BackendError(
            f"Questa macchina non permette di creare un namespace utente ({problem.name}): senza non c'è laboratorio.",
            _BLOCKED,
        ) from None


def _map_one(uid: int, gid: int) -> None:
    for path, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        try:
            with open(f"/proc/self/{path}", "w", encoding="ascii") as file:
                file.write(text)
        except OSError as problem:
            raise BackendError(
                f"Il namespace utente c'è, ma il kernel rifiuta {path} ({os.strerror(problem.errno or 0)}).",
                _BLOCKED,
            ) from None


def _write_maps(mode: str, pid: int) -> str:
    """Nell'aiutante: scrive le mappe di ``pid``; torna che cosa è andato storto, o ""."""
    import subprocess  # only in the helper: the supervisor stays small, so that its forks are fast

    try:
        if mode == "root":
            for which in ("uid_map", "gid_map"):
                # Identity over whatever this namespace has: on a plain host, all of it.
                with open(f"/proc/self/{which}", encoding="ascii") as file:
                    rows = [line.split() for line in file]
                with open(f"/proc/{pid}/{which}", "w", encoding="ascii") as file:
                    file.write("".join(f"{inside} {inside} {count}\n" for inside, _, count in rows))
            return ""
        found = subordinate_ids()
        if not found:
            return "manca la fila di subuid"
        for tool, own, (first, count) in (("newuidmap", os.getuid(), found[0]), ("newgidmap", os.getgid(), found[1])):
            done = subprocess.run(
                [tool, str(pid), "0", str(own), "1", "1", str(first), str(count)],
                capture_output=True, text=True, timeout=5, check=False,
            )  # fmt: skip
            if done.returncode:
                return done.stderr.strip() or f"{tool}: uscita {done.returncode}"
        return ""
    except (OSError, subprocess.SubprocessError) as problem:
        return str(problem)
