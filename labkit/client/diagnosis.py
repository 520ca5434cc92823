"""Dai fatti ai giudizi: per ogni cosa che serve al corso, se c'è, perché no, e il comando che ripara.

Funzioni pure da :class:`~labkit.client.machine.Machine` a :class:`~labkit.model.Feature`: gli stessi
fatti danno sempre lo stesso giudizio, e ogni macchina del mondo si può provare senza averla.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable

from labkit.client.machine import Disk, Machine
from labkit.client.remedies import MIB, PACKAGES, as_root, install, size, sysctl
from labkit.model import Feature

Rule = Callable[[Machine], Feature]

DOCKER_OPTIONS = "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined …"

#: The longest path of a Unix socket (sun_path in unix(7), without the final NUL).
SOCKET_PATH = 107

UNTRIED = "non ho potuto provarlo in tempo"


def user(m: Machine) -> Feature:
    if m.uid == 0:
        return Feature("user", "Chi sono", True, "root")
    return Feature("user", "Chi sono", True, f"{m.user or 'utente senza nome'} (uid {m.uid}), senza privilegi: va bene")


def where(m: Machine) -> Feature:
    title = "Dove gira"
    if "WSL 1" in m.where:
        remedy = "in PowerShell: wsl --set-version NOME_DELLA_DISTRIBUZIONE 2"
        return Feature("where", title, False, "in WSL 1, che non ha un kernel Linux vero: serve WSL 2", remedy)
    boxes = ", dentro ".join(m.where)
    return Feature("where", title, True, f"dentro {boxes}" if boxes else "direttamente sulla macchina")


def kernel(m: Machine) -> Feature:
    title, release = "Kernel Linux", m.release or "versione sconosciuta"
    if m.kernel >= (5, 11):
        return Feature("kernel", title, True, release)
    if m.kernel == (0, 0):
        return Feature("kernel", title, None, f"{release}: non capisco se basta (serve 5.11)")
    return Feature(
        "kernel", title, False, f"{release} è troppo vecchio: serve almeno 5.11", "aggiorna la distribuzione e riavvia"
    )


def _tried(m: Machine, name: str) -> tuple[bool | None, int, str]:
    """How an experiment went: outcome, errno, step."""
    answer = m.probes.get(name, {})
    return answer.get("ok"), int(answer.get("errno") or 0), str(answer.get("step") or "")


def _why(number: int, step: str) -> str:
    """For a refusal nobody foresaw: the kernel's own words."""
    name = errno.errorcode.get(number, str(number))
    return f"il kernel ha rifiutato {step or 'la richiesta'} ({name}: {os.strerror(number)})"


def userns(m: Machine) -> Feature:
    key, title = "userns", "Namespace utente"
    ok, number, step = _tried(m, "userns")
    if ok:
        return Feature(key, title, True, "si creano" if m.uid == 0 else "un utente normale può crearne")
    if ok is None:
        return Feature(key, title, None, UNTRIED, "labkit doctor")
    return Feature(key, title, False, *_userns_blocked(m, number, step))


def _userns_blocked(m: Machine, number: int, step: str) -> tuple[str, str]:
    """Who says no. The order matters: from what is certain to what is left."""
    if number in (errno.EINVAL, errno.ENOSYS):
        return "questo kernel è compilato senza (CONFIG_USER_NS)", "usa il kernel della tua distribuzione"
    if m.sysctls.get("user.max_user_namespaces") == "0":
        return "user.max_user_namespaces vale 0: nessuno può crearne", sysctl(m, "user.max_user_namespaces", "15000")
    if number in (errno.ENOSPC, errno.EUSERS):
        limit = "si è raggiunto il numero massimo, o troppi sono uno dentro l'altro"
        return limit, "labkit clean"
    if number == errno.ENOENT:
        return "non c'è /proc, e le mappe degli utenti si scrivono lì", as_root(m, "mount -t proc proc /proc")
    if m.seccomp == 2 and _tried(m, "filtered")[0] is False:
        return _filtered(m)
    if m.sysctls.get("kernel.unprivileged_userns_clone") == "0" and m.uid != 0:
        name = "kernel.unprivileged_userns_clone"
        return f"{name} vale 0: solo root può crearne", sysctl(m, name, "1")
    if m.sysctls.get("kernel.apparmor_restrict_unprivileged_userns") == "1" and number in (errno.EPERM, errno.EACCES):
        return _apparmor(m)
    if number == errno.EPERM and m.chroot:
        return (
            "siamo in un chroot, e il kernel non crea namespace utente in un chroot",
            as_root(m, "systemd-nspawn -D CARTELLA_DEL_CHROOT"),
        )
    if m.seccomp == 2:
        return _filtered(m)
    if number == errno.EPERM and step == "unshare":
        return (
            "il kernel non lo permette: siamo in un chroot, o il nostro utente non esiste nel namespace in cui viviamo",
            "esci dal chroot, o apri JupyterLab fuori dal container",
        )
    if number == errno.EACCES:
        return "un modulo di sicurezza (SELinux o simile) lo vieta", as_root(m, "ausearch -m avc -ts recent")
    return _why(number, step), "esegui il corso su una macchina con un kernel di distribuzione"


def _container(m: Machine) -> str:
    """The container that we are in, if any: Docker, Podman, lxc…"""
    return next((box for box in m.where if not box.startswith(("una macchina", "WSL", "User Mode"))), "")


def _filtered(m: Machine) -> tuple[str, str]:
    inside = _container(m)
    reason = f"{inside or 'il container o il servizio in cui siamo'} li vieta con un filtro seccomp"
    if inside in ("Docker", "Podman", ""):
        return reason, DOCKER_OPTIONS.replace("docker", "podman" if inside == "Podman" else "docker", 1)
    return reason, "apri JupyterLab fuori da questo container"


def _apparmor(m: Machine) -> tuple[str, str]:
    python = m.executable or "/usr/bin/python3"
    profile = f'abi <abi/4.0>,\\nprofile labkit "{python}" flags=(unconfined) {{\\n  userns,\\n}}\\n'
    allow = f"printf '{profile}' > /etc/apparmor.d/labkit && apparmor_parser -r /etc/apparmor.d/labkit"
    everyone = sysctl(m, "kernel.apparmor_restrict_unprivileged_userns", "0")
    return (
        "AppArmor li vieta ai programmi senza un profilo (la regola di Ubuntu)",
        f"{everyone}   # vale fino al riavvio; per sempre e solo per questo Python: {as_root(m, allow)}",
    )


def subuid(m: Machine) -> Feature:
    key, title = "subuid", "Più utenti in un container"
    if m.uid == 0:
        if m.ids >= 65536:
            return Feature(key, title, True, "root li ha già tutti")
        reason = f"nel namespace utente in cui viviamo ne esistono solo {m.ids}"
        return Feature(key, title, False, reason, "apri JupyterLab fuori dal container")
    ok, _, step = _tried(m, "subuid")
    if ok:
        return Feature(key, title, True, f"{m.probes['subuid'].get('count', 'molti')} utenti (subuid e newuidmap)")
    if not m.user:
        line = f"studente:x:{m.uid}:{m.uid}::/tmp:/bin/sh"
        reason = f"l'uid {m.uid} non ha un nome in /etc/passwd: nel container ci sarà solo root"
        return Feature(key, title, False, reason, as_root(m, f"echo {line} >> /etc/passwd"))
    if step in ("/etc/subuid", "/etc/subgid"):
        last = m.free_subid + 65535
        add = f"usermod --add-subuids {m.free_subid}-{last} --add-subgids {m.free_subid}-{last} {shlex.quote(m.user)}"
        reason = f"in {step} manca una fascia di utenti per {m.user}: nel container ci sarà solo root"
        return Feature(key, title, False, reason, as_root(m, add))
    if "newuidmap" not in m.programs or "newgidmap" not in m.programs:
        reason = "mancano newuidmap e newgidmap: nel container ci sarà solo root"
        return Feature(key, title, False, reason, install(m, "uidmap"))
    if m.no_new_privs:
        reason = "no_new_privs è acceso: newuidmap non può usare i suoi privilegi, nel container ci sarà solo root"
        remedy = "docker run senza --security-opt no-new-privileges" if m.where else "apri un terminale nuovo"
        return Feature(key, title, False, reason, remedy)
    if step in ("newuidmap", "newgidmap"):
        program = m.programs[step]
        reason = f"{step} non ha i privilegi per scrivere la mappa: nel container ci sarà solo root"
        return Feature(key, title, False, reason, as_root(m, f"chown root {program} && chmod u+s {program}"))
    reason = "senza namespace utente non serve" if ok is False else "non ho potuto provarlo"
    return Feature(key, title, None, reason)


def _inside(
    m: Machine, key: str, title: str, name: str, good: str, bad: Callable[[int, str], tuple[str, str]]
) -> Feature:
    """What can be tried only inside a user namespace: without one there is nothing to say."""
    if _tried(m, "userns")[0] is not True:
        return Feature(key, title, None, "senza namespace utente non si può provare")
    ok, number, step = _tried(m, name)
    if ok is None:
        return Feature(key, title, None, UNTRIED, "labkit doctor")
    return Feature(key, title, ok, good) if ok else Feature(key, title, False, *bad(number, step))


def namespaces(m: Machine) -> Feature:
    missing = m.probes.get("kinds", {}).get("missing") or {}

    def bad(number: int, step: str) -> tuple[str, str]:
        if not missing:
            return _why(number, step), ""
        names = ", ".join(sorted(missing))
        if set(missing.values()) <= {errno.EINVAL, errno.ENOSYS}:
            return f"questo kernel non ha: {names}", "usa il kernel della tua distribuzione"
        limits = " ".join(f"user.max_{'mnt' if kind == 'mount' else kind}_namespaces=15000" for kind in sorted(missing))
        return f"rifiutati: {names}", as_root(m, f"sysctl -w {limits}")

    good = "mount, uts, ipc, pid, net, cgroup e time: ci sono tutti"
    return _inside(m, "namespaces", "Gli altri sette namespace", "kinds", good, bad)


def overlay(m: Machine) -> Feature:
    key, title = "overlay", "File a strati (overlay)"

    def bad(number: int, step: str) -> tuple[str, str]:
        if number == errno.ENODEV:
            return "il modulo overlay del kernel non è caricato", as_root(m, "modprobe overlay")
        if m.kernel < (5, 11):
            return "serve un kernel dalla versione 5.11", "aggiorna la distribuzione e riavvia"
        return _why(number, step), as_root(m, "modprobe overlay")

    if _tried(m, "overlay")[0] is not True and _tried(m, "overlay_disk")[0]:
        return _inside(m, key, title, "overlay_disk", "funziona, con lo strato scrivibile su disco", bad)
    return _inside(m, key, title, "overlay", "funziona, con lo strato scrivibile in memoria", bad)


def tmpfs_xattr(m: Machine) -> Feature:
    key, title = "tmpfs_xattr", "Strati in memoria (tmpfs)"
    feature = _inside(m, key, title, "tmpfs_xattr", "il tmpfs ha gli attributi user.*", lambda *_: ("", ""))
    if feature.ok is False:
        reason = "il tmpfs di questo kernel non ha gli attributi user.* (arrivano con 6.6): si usa il disco"
        return Feature(key, title, None, reason)
    return feature


def proc(m: Machine) -> Feature:
    def bad(number: int, step: str) -> tuple[str, str]:
        if m.masked:
            some = ", ".join(m.masked[:2])
            return f"/proc è in parte coperto ({some}…): il kernel non ne concede uno nuovo", DOCKER_OPTIONS
        return _why(number, step), ""

    return _inside(m, "proc", "Un /proc per container", "proc", "si monta in un namespace pid nuovo", bad)


def cgroup(m: Machine) -> Feature:
    title, version = "Versione dei cgroup", m.cgroups.version
    if version == "v2":
        return Feature("cgroup", title, True, "v2")
    if not version:
        remedy = as_root(m, "mount -t cgroup2 none /sys/fs/cgroup")
        return Feature("cgroup", title, False, "nessuna gerarchia è montata", remedy)
    return Feature("cgroup", title, True, f"{version}: le lezioni mostrano v1 e v2 fianco a fianco")


def limits(m: Machine) -> Feature:
    key, title = "limits", "Limiti di memoria, CPU e processi"
    missing = [name for name in ("memory", "cpu", "pids") if name not in m.cgroups.usable]
    if not missing:
        return Feature(key, title, True, "posso scrivere i controller memory, cpu e pids")
    names = ", ".join(missing)
    if m.uid == 0 or _container(m):
        remedy = "docker run --privileged …" if _container(m) else "mount -o remount,rw /sys/fs/cgroup"
        return Feature(key, title, False, f"i cgroup non si possono scrivere ({names})", remedy)
    if m.cgroups.version == "v2" and m.systemd:
        unit = "/etc/systemd/system/user@.service.d"
        text = r"[Service]\nDelegate=cpu cpuset io memory pids\n"
        command = f"mkdir -p {unit} && printf '{text}' > {unit}/labkit.conf && systemctl daemon-reload"
        reason = f"systemd non mi ha delegato: {names}"
        return Feature(key, title, False, reason, f"{as_root(m, command)}   # poi esci e rientra nella sessione")
    if "WSL 2" in m.where:
        reason = "WSL 2 senza systemd non delega i cgroup a un utente normale"
        remedy = as_root(m, r"printf '[boot]\nsystemd=true\n' >> /etc/wsl.conf")
        return Feature(key, title, False, reason, f"{remedy}   # poi, in PowerShell: wsl --shutdown")
    if m.cgroups.version in ("v1", "ibrida") and m.systemd:
        reason = f"con i cgroup {m.cgroups.version} solo root può porre limiti"
        grub = "echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX systemd.unified_cgroup_hierarchy=1\"'"
        command = f"{grub} > /etc/default/grub.d/labkit.cfg && update-grub"
        if m.family == "fedora":
            command = "grubby --update-kernel=ALL --args=systemd.unified_cgroup_hierarchy=1"
        return Feature(key, title, False, reason, f"{as_root(m, command)}   # poi riavvia")
    reason = "qui solo root può porre limiti (nessun systemd che deleghi)"
    command = "sudo -E labkit lab" if "sudo" in m.programs else "su -c 'labkit lab'"
    return Feature(key, title, False, reason, command)


def bridge(m: Machine) -> Feature:
    def bad(number: int, step: str) -> tuple[str, str]:
        if number in (errno.EOPNOTSUPP, errno.ENODEV) and step in ("bridge", "veth"):
            return f"il modulo {step} del kernel non è caricato", as_root(m, f"modprobe {step}")
        return _why(number, step), as_root(m, "modprobe -a veth bridge")

    good = "si creano in una rete propria, senza toccare quella della macchina"
    return _inside(m, "bridge", "Rete virtuale (veth, bridge)", "bridge", good, bad)


def nft(m: Machine) -> Feature:
    key, title = "nft", "Filtri di rete (nftables)"

    def bad(number: int, step: str) -> tuple[str, str]:
        return f"il kernel non ha nftables ({errno.errorcode.get(number, number)})", as_root(m, "modprobe nf_tables")

    feature = _inside(m, key, title, "nft", "kernel e programma ci sono", bad)
    if feature.ok and "nft" not in m.programs:
        return Feature(key, title, False, "il kernel li ha, manca il programma nft", install(m, "nft"))
    return feature


def qemu(m: Machine) -> Feature:
    program = m.programs.get(f"qemu-system-{m.arch}")
    if program:
        return Feature("qemu", "Macchine virtuali (QEMU)", True, program)
    what = f"qemu-{m.arch}"
    remedy = install(m, what) if what in PACKAGES else "installa QEMU per questa architettura"
    return Feature("qemu", "Macchine virtuali (QEMU)", False, f"qemu-system-{m.arch} non è installato", remedy)


def kvm(m: Machine) -> Feature:
    key, title = "kvm", "Virtualizzazione veloce (KVM)"
    slow = "QEMU funziona lo stesso, più lento"
    ok, number, step = _tried(m, "kvm")
    if ok:
        started, code, _ = _tried(m, "qemu_kvm")
        if started is False and code != errno.ENOENT:
            return Feature(key, title, None, f"/dev/kvm si apre, ma QEMU non parte con KVM: {slow}")
        return Feature(key, title, True, "QEMU parte con KVM" if started else "/dev/kvm crea una macchina virtuale")
    if number in (errno.EACCES, errno.EPERM) and step == "open":
        join = as_root(m, f"usermod -aG kvm {shlex.quote(m.user)}")
        return Feature(key, title, None, f"/dev/kvm c'è ma non posso aprirlo: {slow}", f"{join}   # poi esci e rientra")
    reason = f"qui /dev/kvm non c'è: {slow}" if number in (errno.ENOENT, errno.ENXIO, errno.ENODEV) else slow
    return Feature(key, title, None, reason)


def uml(m: Machine) -> Feature:
    key, title = "uml", "Kernel come programma (UML)"
    if "linux.uml" in m.programs:
        return Feature(key, title, True, m.programs["linux.uml"])
    if m.arch != "x86_64" or m.family != "debian":
        nowhere = "questa distribuzione non lo ha; non serve dove i namespace funzionano"
        return Feature(key, title, None, "esiste solo per x86_64" if m.arch != "x86_64" else nowhere)
    wanted = _tried(m, "userns")[0] is False
    why = "qui serve: dà un kernel suo al laboratorio" if wanted else "non serve dove i namespace funzionano"
    return Feature(key, title, False if wanted else None, f"non è installato; {why}", install(m, "uml"))


def busybox(m: Machine) -> Feature:
    key, title, path = "busybox", "BusyBox statico", m.programs.get("busybox", "")
    if m.static_busybox:
        return Feature(key, title, True, path)
    reason = f"{path} chiede le librerie della macchina: ne serve uno statico" if path else "non è installato"
    return Feature(key, title, False, reason, install(m, "busybox"))


def nginx(m: Machine) -> Feature:
    if path := m.programs.get("nginx"):
        return Feature("nginx", "Server web (nginx)", True, path)
    return Feature("nginx", "Server web (nginx)", False, "non è installato", install(m, "nginx"))


def memory(m: Machine) -> Feature:
    title, (total, available) = "Memoria", m.memory
    if total <= 0:
        return Feature("memory", title, None, "non so quanta ce n'è")
    reason = f"{size(available)} disponibili su {size(total)}"
    if available >= 512 * MIB:
        return Feature("memory", title, True, reason)
    remedy = "chiudi qualche programma, poi: labkit doctor"
    if "WSL 2" in m.where:
        remedy = r"in PowerShell: Add-Content $HOME\.wslconfig \"[wsl2]`nmemory=4GB\"; wsl --shutdown"
    return Feature("memory", title, False, f"{reason}: ne servono almeno 512 MiB", remedy)


def _space(key: str, title: str, disk: Disk, needed: int, remedy: str) -> Feature:
    if not disk.writable:
        return Feature(key, title, False, f"non posso scrivere in {disk.path}", remedy)
    if disk.free is None:
        return Feature(key, title, None, f"{disk.path}: non so quanto ce n'è")
    if disk.free < needed:
        return Feature(key, title, False, f"{disk.path}: restano {size(disk.free)}, ne servono {size(needed)}", remedy)
    return Feature(key, title, True, f"{disk.path}: {size(disk.free)} liberi")


def disk_run(m: Machine) -> Feature:
    remedy = f"export LABKIT_RUN=/var/tmp/labkit-{m.uid}"
    if len(os.fsencode(m.run.path)) > SOCKET_PATH - len("/direct-4194304-abcdef/sock"):
        reason = f"{m.run.path}: il percorso è troppo lungo per una presa (unix(7))"
        return Feature("disk_run", "Spazio per i laboratori", False, reason, remedy)
    return _space("disk_run", "Spazio per i laboratori", m.run, 100 * MIB, remedy)


def disk_home(m: Machine) -> Feature:
    remedy = "du -xh --max-depth=2 ~ | sort -h | tail   # cancella quello che non ti serve"
    if not m.home.writable:
        remedy = "export HOME=/una/cartella/tua"
    return _space("disk_home", "Spazio nella home", m.home, 500 * MIB, remedy)


def python(m: Machine) -> Feature:
    version = ".".join(str(n) for n in m.python)
    if m.python >= (3, 11):
        return Feature("python", "Python", True, version)
    return Feature("python", "Python", False, f"{version}: serve almeno 3.11", "aggiorna la distribuzione")


def jupyterlab(m: Machine) -> Feature:
    if m.jupyterlab:
        return Feature("jupyterlab", "JupyterLab", True, m.jupyterlab)
    return Feature("jupyterlab", "JupyterLab", False, "non è installato", "make setup   # nella cartella del corso")


#: Every judgement, in the order in which a person reads them.
RULES: tuple[Rule, ...] = (
    user, where, kernel, userns, subuid, namespaces, overlay, tmpfs_xattr, proc, bridge, nft,
    cgroup, limits, busybox, nginx, qemu, kvm, uml, memory, disk_run, disk_home, python, jupyterlab,
)  # fmt: skip
