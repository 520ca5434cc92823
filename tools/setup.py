"""Prepara questa macchina per il corso: i programmi di sistema che mancano e l'ambiente Python `.venv`.

    python3 tools/setup.py lab      quello che serve a chi studia (make lab)
    python3 tools/setup.py setup    anche quello che serve a make test
    python3 tools/setup.py bench    anche i programmi con cui make bench si confronta

Si può lanciare quante volte si vuole: rifà solo quello che manca, e la seconda volta finisce subito.
L'amministratore (sudo) serve soltanto per i pacchetti della distribuzione; se non c'è, si va avanti
senza e si dice che cosa non ci sarà. Usa solo la libreria standard.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OLDEST = (3, 11)
#: Where administrators' programs live: not on the PATH of a plain Debian user.
SBIN = ":/usr/local/sbin:/usr/sbin:/sbin"
GOALS = {"lab": ("lab",), "setup": ("lab", "test"), "test": ("lab", "test"), "bench": ("lab", "test")}


class SetupError(Exception):
    """Un passo senza il quale non si può andare avanti; il testo dice come riprendere."""


def say(text: str) -> None:
    print(text, flush=True)


# ---------------------------------------------------------------- programmi di sistema


def have(*programs: str) -> Callable[[], bool]:
    """Vero se nel PATH (anche quello dell'amministratore) c'è uno dei programmi."""
    path = os.environ.get("PATH", os.defpath) + SBIN
    return lambda: any(shutil.which(program, path=path) for program in programs)


def have_static_busybox() -> bool:
    """Un busybox statico: dentro un container vuoto non ci sono librerie da caricare."""
    path = shutil.which("busybox", path=os.environ.get("PATH", os.defpath) + SBIN)
    # PT_INTERP names the loader; a static ELF has none, so the loader's name is nowhere in its first page.
    return bool(path) and b"/ld-" not in Path(path or "").read_bytes()[:4096]


def have_file(*paths: str) -> Callable[[], bool]:
    return lambda: any(Path(path).exists() for path in paths)


@dataclass(frozen=True)
class Need:
    """Un programma di sistema: il pacchetto (Debian, Fedora, Arch; vuoto se non c'è), a che cosa serve, se c'è già."""

    apt: str
    dnf: str
    pacman: str
    why: str
    present: Callable[[], bool]
    goal: str


NEEDS = (
    Need("busybox-static", "busybox", "busybox", "l'immagine busybox delle lezioni", have_static_busybox, "lab"),
    Need("uidmap", "shadow-utils", "shadow", "più di un utente dentro un container", have("newuidmap"), "lab"),
    Need("nginx-light", "nginx", "nginx", "il server web delle lezioni", have("nginx"), "lab"),
    Need("chromium", "chromium", "chromium", "le prove nel browser", have("chromium"), "test"),
    Need("fonts-dejavu-core", "dejavu-sans-fonts", "ttf-dejavu", "i caratteri delle prove nel browser",
         have_file("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/dejavu-sans-fonts", "/usr/share/fonts/TTF"),
         "test"),
    Need("libatomic1", "libatomic", "gcc-libs", "chi guida il browser nelle prove",
         have_file(*(f"/usr/{lib}/libatomic.so.1" for lib in
                     ("lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib64", "lib"))), "test"),
    Need("hunspell", "hunspell", "hunspell", "il controllo dell'ortografia", have("hunspell"), "test"),
    Need("hunspell-it", "hunspell-it", "hunspell-it", "il dizionario italiano",
         have_file("/usr/share/hunspell/it_IT.dic"), "test"),
    Need("qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86", "le macchine virtuali delle lezioni 01 e 02",
         have("qemu-system-x86_64"), "lab"),
    Need("e2fsprogs", "e2fsprogs", "e2fsprogs", "il disco della macchina in cui si prova", have("mke2fs"), "test"),
    Need("npm", "npm", "npm", "la costruzione delle diapositive", have("npm"), "test"),
    Need("gcc", "gcc", "gcc", "il confronto con un programma C", have("gcc", "cc"), "test"),
    Need("libc6-dev", "glibc-devel", "glibc", "il confronto con un programma C",
         have_file("/usr/include/stdio.h"), "test"),
    Need("bubblewrap", "bubblewrap", "bubblewrap", "il confronto con bwrap", have("bwrap"), "test"),
    Need("crun", "crun", "crun", "il confronto con crun", have("crun"), "test"),
    Need("runc", "runc", "runc", "il confronto con runc", have("runc"), "test"),
    Need("skopeo", "skopeo", "skopeo", "lo scambio di immagini con skopeo", have("skopeo"), "test"),
    Need("umoci", "umoci", "", "lo scambio di immagini con umoci", have("umoci"), "test"),
    Need("docker-registry", "", "", "lo scambio di immagini con il registro di Docker",
         have("docker-registry"), "test"),
    Need("docker.io", "moby-engine", "docker", "lo scambio di immagini con Docker", have("dockerd"), "test"),
    Need("podman", "podman", "podman", "lo scambio di immagini con Podman", have("podman"), "test"),
)  # fmt: skip


#: The servers that a package brings with it: their units, each with the name of its program.
SERVICES = {
    "nginx-light": ("nginx.service",),
    "docker-registry": ("docker-registry.service",),
    "docker.io": ("docker.service", "docker.socket", "containerd.service"),
}


def missing(goal: str) -> list[Need]:
    return [need for need in NEEDS if need.goal in GOALS[goal] and not need.present()]


def install_command(needs: Iterable[Need]) -> str:
    """Il comando che installa i pacchetti su questa distribuzione; vuoto se non la si conosce."""
    for program, arguments, field in (
        ("apt-get", "install", "apt"), ("dnf", "install", "dnf"), ("pacman", "-S --needed", "pacman")
    ):  # fmt: skip
        if shutil.which(program):
            return " ".join([program, arguments, *filter(None, dict.fromkeys(getattr(need, field) for need in needs))])
    return ""


def privileged(argv: list[str]) -> list[str] | None:
    """Lo stesso comando da amministratore; ``None`` se qui non si può diventarlo."""
    if os.geteuid() == 0:
        return argv
    if not shutil.which("sudo"):
        return None
    # Without a terminal nobody can answer: sudo must fail at once, not wait.
    return ["sudo", *([] if sys.stdin.isatty() else ["-n"]), *argv]


def apt_install(packages: list[str]) -> bool:
    """Installa pacchetti Debian da amministratore; falso se qui non si può, o se non riesce."""
    options = ["--yes", "--quiet", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
    install = privileged(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", *options, *packages])
    update = privileged(["apt-get", "update", "--quiet"])
    if not install or not update or not shutil.which("apt-get"):
        return False
    if os.geteuid() != 0:
        say("Per installare i pacchetti, e solo per questo, serve l'amministratore: sudo può chiederti la password.")
    # The lists of a fresh machine are empty or old: fetch them only when they are needed.
    return subprocess.call(install) == 0 or (subprocess.call(update) == 0 and subprocess.call(install) == 0)


def install_system(needs: list[Need], goal: str) -> None:
    """Installa i programmi che mancano; se non riesce lo dice, e si va avanti senza."""
    say("Mancano: " + ", ".join(f"{need.apt} ({need.why})" for need in needs) + ".")
    with quiet({service for need in needs for service in SERVICES.get(need.apt, ())}):
        apt_install([need.apt for need in needs])
    left = [need for need in needs if not need.present()]
    if left:
        say("Non sono riuscito a installarli tutti. Si va avanti; senza di loro non ci saranno: ")
        say("".join(f"  - {need.why} ({need.apt})\n" for need in left) + "Per averli, da amministratore:")
        say("    " + (install_command(left) or "installa i pacchetti della tua distribuzione che li contengono"))
        say(f"e poi di nuovo:  make {goal}")


class quiet:  # noqa: N801  (used as a verb: with quiet(...))
    """I pacchetti di Debian che hanno un server lo accendono, ora e a ogni avvio (nginx sulla porta 80): qui no.

    Chi aveva già il programma non passa di qui. Con systemd l'unità è mascherata durante l'installazione e
    poi lasciata spenta: la accende chi vuole, con ``sudo systemctl enable --now nginx``. Senza systemd
    Debian non avvia servizi durante l'installazione.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self.services = sorted(services) if Path("/run/systemd/system").is_dir() else []

    def systemctl(self, *arguments: str) -> bool:
        argv = privileged(["systemctl", "--quiet", *arguments])
        return bool(argv) and subprocess.call(argv or []) == 0

    def __enter__(self) -> None:
        self.masked = [service for service in self.services if self.systemctl("mask", service)]

    def __exit__(self, *exc: object) -> None:
        for service in self.masked:
            self.systemctl("unmask", service)
            if have(service.partition(".")[0])():
                self.systemctl("disable", service)


# ---------------------------------------------------------------- l'ambiente Python


def readable_by_all(path: str) -> bool:
    """Vero se anche un altro utente può arrivare al file ed eseguirlo."""
    real = Path(path).resolve()
    return bool(real.stat().st_mode & 0o005) and all(parent.stat().st_mode & 0o001 for parent in real.parents)


def pythons() -> Iterator[str]:
    """Gli interpreti da provare, dal preferito: quelli del sistema, che ogni utente può leggere, e poi questo."""
    chosen = os.environ.get("PYTHON", "python3")
    yield from ([shutil.which(chosen) or chosen] if chosen != "python3" else [])
    yield "/usr/bin/python3"
    yield from (f"/usr/bin/python3.{minor}" for minor in range(14, OLDEST[1] - 1, -1))
    yield sys.executable


def choose_python() -> str:
    """Un Python abbastanza nuovo, con venv; da root, anche leggibile da tutti (le prove cambiano utente)."""
    without_venv = ""
    for python in pythons():
        if not os.access(python, os.X_OK) or (os.geteuid() == 0 and not readable_by_all(python)):
            continue
        if not recent(python):
            continue
        if subprocess.call([python, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL) == 0:
            return python
        without_venv = without_venv or python
    if not without_venv:
        raise SetupError(
            "Serve Python 3.11 o più nuovo, e qui non l'ho trovato.\n"
            "Su Debian 12, Ubuntu 24.04 o più nuovi: sudo apt-get install python3 python3-venv\n"
            "Se ne hai uno in un'altra cartella: make … PYTHON=/percorso/di/python3"
        )
    name = "python3-venv" if without_venv == "/usr/bin/python3" else Path(without_venv).name + "-venv"
    say(f"Manca {name}, che crea gli ambienti Python.")
    if apt_install([name]):
        return without_venv
    raise SetupError(f"Senza {name} non si può andare avanti. Da amministratore: apt-get install {name}")


def recent(python: str) -> bool:
    probe = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    return subprocess.call([python, "-c", probe], stderr=subprocess.DEVNULL) == 0


def fingerprint(lock: Path) -> str:
    """Cambia quando l'ambiente va rifatto: percorso, versioni bloccate, pyproject, file copiati all'installazione."""
    digest = hashlib.sha256(f"{ROOT}\n".encode())
    data = sorted(path for path in (ROOT / "share").rglob("*") if path.is_file())
    for path in [lock, ROOT / "pyproject.toml", *data]:
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def venv_python() -> str:
    return str(VENV / "bin" / "python")


def venv_works() -> bool:
    """Vero se `.venv` è di questa cartella (non una copia spostata) e il suo Python parte."""
    try:
        same = f"VIRTUAL_ENV={ROOT}/.venv" in (VENV / "bin" / "activate").read_text().replace('"', "").replace("'", "")
    except OSError:
        return False
    return same and recent(venv_python())


def pip(*arguments: str, total: int = 0) -> None:
    """pip con una riga di avanzamento; se fallisce si vede tutto quello che ha detto."""
    argv = [venv_python(), "-m", "pip", "--disable-pip-version-check", "install", "--no-input", *arguments]
    lines: list[str] = []
    done = 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as process:
        for line in process.stdout or ():
            lines.append(line)
            if total and line.startswith(("Collecting ", "Requirement already satisfied: ")):
                done += 1
                show_progress(done, total, line.replace("Collecting ", "").split(": ")[-1].split("==")[0].strip())
            elif total and line.startswith("Installing collected packages"):
                show_progress(total, total, "scaricati: li installo")
    if total and sys.stdout.isatty():
        print()
    if process.returncode:
        sys.stdout.write("".join(lines[-25:]))
        raise SetupError("pip non è riuscito: se è la rete (o il proxy), aspetta che torni; si riprende da qui.")


def show_progress(done: int, total: int, name: str) -> None:
    if sys.stdout.isatty():
        print(f"\r  {done:3d}/{total} {name[:50]:50s}", end="", flush=True)
    elif done == total or done % 25 == 0:
        say(f"  {done}/{total} {name}")


def prepare_venv(goal: str) -> bool:
    """Crea o aggiorna `.venv`; falso se era già a posto."""
    kind = "lab" if goal == "lab" else "dev"
    lock = ROOT / "requirements" / f"{kind}.txt"
    # The developers' lock is a superset: a .venv made for the tests is good for the student too.
    good = {f"{k} {fingerprint(ROOT / 'requirements' / f'{k}.txt')}" for k in {kind, "dev"}}
    stamp = VENV / "labkit.stamp"
    works = venv_works()
    if works and stamp.exists() and stamp.read_text().strip() in good:
        return False
    if not works:
        python = choose_python()
        say(f"Creo l'ambiente Python in .venv (con {python})…")
        if subprocess.call([python, "-m", "venv", "--clear", str(VENV)]):
            raise SetupError("Non sono riuscito a creare .venv: c'è spazio sul disco?  df -h .")
    stamp.unlink() if stamp.exists() else None
    total = sum("==" in line for line in lock.read_text().splitlines())
    say(f"Installo i pacchetti Python ({total}; la prima volta ci vuole un minuto o due)…")
    pip("--require-hashes", "--requirement", str(lock), total=total)
    say("Installo labkit…")
    pip("--no-deps", "--no-build-isolation", "--editable", ".")
    stamp.write_text(f"{kind} {fingerprint(lock)}\n")
    return True


def main(goal: str) -> None:
    # Files made here must be readable by the plain users of the tests, whatever the umask of root.
    if os.geteuid() == 0:
        os.umask(0o022)
    needs = missing(goal)
    if needs:
        install_system(needs, goal)
    if prepare_venv(goal) or needs:
        say("Tutto pronto.")


def stop(message: str, goal: str) -> NoReturn:
    say(f"\n✘ {message}\nPer riprendere da dove si è fermato:  make {goal}")
    sys.exit(1)


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) == 2 else ""
    if wanted not in GOALS:
        say(__doc__ or "")
        sys.exit(2)
    try:
        main(wanted)
    except SetupError as error:
        stop(str(error), wanted)
    except KeyboardInterrupt:
        stop("Interrotto.", wanted)
