"""Due utenti temporanei, uno con subuid e uno senza, per eseguire le prove anche da utente normale.

Invariante: un utente fatto qui porta nel nome il processo che lo ha fatto e nel commento un segno; quando
quel processo finisce l'utente viene tolto, e se è stato ucciso lo toglie il prossimo che passa.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests import course_images, kernels

Mode = Literal["root", "user", "nosub"]

ROOT = Path(__file__).resolve().parent.parent
SIGN = "utente temporaneo delle prove di labkit"
#: The driver makes the users once and tells the processes that it starts: `user=1001 nosub=1002`.
GIVEN = "LABKIT_TEST_USERS"
_NAME = re.compile(r"lk(\d+)-(user|nosub)")
_COUNT = 65536


@dataclass(frozen=True)
class User:
    name: str
    uid: int
    gid: int


def mode() -> Mode:
    """Il modo in cui questo processo può fare un laboratorio."""
    if os.geteuid() == 0:
        return "root"
    return "user" if _has_range() and shutil.which("newuidmap") else "nosub"


def _has_range() -> bool:
    uid = os.geteuid()
    names = {str(uid)}
    with contextlib.suppress(KeyError):
        names.add(pwd.getpwuid(uid).pw_name)
    return all(names & {line.split(":")[0] for line in _lines(f"/etc/sub{kind}")} for kind in ("uid", "gid"))


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _shadow(*argv: str) -> None:
    """Un comando di shadow-utils; un altro può avere /etc/passwd chiuso a chiave in questo momento."""
    for _ in range(50):
        done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
        if "lock" not in done.stderr:
            break
        time.sleep(0.1)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")


def _free_range() -> int:
    """Il primo id da cui nessuno ha avuto subuid o subgid."""
    ends = [100_000]
    for kind in ("uid", "gid"):
        for line in _lines(f"/etc/sub{kind}"):
            _, first, count = line.split(":")
            ends.append(int(first) + int(count))
    return max(ends)


def _add(kind: Literal["user", "nosub"]) -> User:
    # A system account: useradd gives no subuid to it by itself.
    name = f"lk{os.getpid()}-{kind}"
    _shadow("/usr/sbin/useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
            "--shell", "/usr/sbin/nologin", "--comment", SIGN, name)  # fmt: skip
    if kind == "user":
        first = _free_range()
        span = f"{first}-{first + _COUNT - 1}"
        _shadow("/usr/sbin/usermod", "--add-subuids", span, "--add-subgids", span, name)
    return _user(pwd.getpwnam(name))


def _user(entry: pwd.struct_passwd) -> User:
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _remove(name: str) -> None:
    _shadow("/usr/sbin/userdel", name)


def remove_stale() -> list[str]:
    """Toglie gli utenti con il nostro segno il cui processo non c'è più."""
    gone = []
    for entry in pwd.getpwall():
        match = _NAME.fullmatch(entry.pw_name)
        if match and entry.pw_gecos == SIGN and not Path(f"/proc/{match[1]}").exists():
            _remove(entry.pw_name)
            gone.append(entry.pw_name)
    return gone


@contextlib.contextmanager
def temporary() -> Iterator[dict[Mode, User]]:
    """I due utenti, ``user`` e ``nosub``; se chi ci ha lanciato li ha già fatti, quelli."""
    if given := os.environ.get(GIVEN):
        uids = dict(pair.split("=") for pair in given.split())
        yield {"user": _user(pwd.getpwuid(int(uids["user"]))), "nosub": _user(pwd.getpwuid(int(uids["nosub"])))}
        return
    remove_stale()
    people: dict[Mode, User] = {}
    try:
        people["user"] = _add("user")
        people["nosub"] = _add("nosub")
        yield people
    finally:
        for user in people.values():
            _remove(user.name)


def hidden(path: Path, user: User) -> Path | None:
    """La prima cartella sopra ``path`` (o ``path`` stesso) che quell'utente non può attraversare."""
    for folder in [*reversed(path.resolve().parents), path.resolve()]:
        facts = folder.stat()
        shift = 6 if facts.st_uid == user.uid else 3 if facts.st_gid == user.gid else 0
        if not facts.st_mode >> shift & 0o1:
            return folder
    return None


def _become(user: User) -> list[str]:
    return ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups", "--"]


@dataclass
class RunAs:
    """Esegue comandi come un altro utente: ambiente pulito, HOME e XDG_RUNTIME_DIR suoi e temporanei.

    ``become`` è il comando, dato da root, che diventa quell'utente ed esegue il resto.
    """

    people: Mapping[Mode, User]
    timeout: float = 600
    become: Callable[[User], list[str]] = _become

    def __call__(self, who: Mode, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Come ``subprocess.run`` con testo; stdout e stderr sono raccolti, se non si dice altro."""
        env = options.pop("env", {})
        options = {"text": True, "timeout": self.timeout, "cwd": ROOT, **options}
        if not {"stdout", "stderr"} & set(options):
            options["capture_output"] = True
        with home(self.people.get(who)) as folder:
            return subprocess.run(self.command(who, argv), env={**environment(folder), **env}, **options)

    def command(self, who: Mode, argv: Sequence[str]) -> list[str]:
        """Il comando che, dato da root, esegue ``argv`` come quell'utente."""
        user = self.people.get(who)
        return list(argv) if user is None else [*self._doors(user), *self.become(user), *argv]

    def report(self, who: Mode, pytest: Sequence[str]) -> tuple[int, str]:
        """Esegue un pytest, che scrive sullo schermo; dà il codice d'uscita e il rapporto JUnit."""
        user = self.people[who]
        with home(user) as folder:
            command = self.command(who, [*pytest, f"--junit-xml={folder}/report.xml"])
            done = subprocess.run(command, env=environment(folder), cwd=ROOT, timeout=self.timeout)
            report = folder / "report.xml"
            return done.returncode, report.read_text() if report.exists() else ""

    def check(self) -> None:
        """Rifiuta con una frase se gli utenti delle prove non riescono a leggere il corso o il suo Python."""
        for who in self.people:
            seen = self(who, [sys.executable, "-c", "import labkit, pytest"])
            if seen.returncode:
                raise RuntimeError(
                    f"L'utente delle prove non riesce a usare {ROOT} (o il suo .venv): i file devono essere leggibili "
                    f"da tutti. Prova con: chmod -R a+rX {ROOT}\n{seen.stderr.strip()}"
                )

    def _doors(self, user: User) -> list[str]:
        """Il prefisso che rende raggiungibili la copia del corso e il suo Python, se per quell'utente non lo sono.

        In un namespace mount privato si copre la cartella chiusa con un tmpfs e ci si rimette dentro, allo
        stesso percorso, soltanto ciò che serve: i percorsi assoluti restano validi e il resto resta chiuso.
        """
        closed = {path: barrier for path in (ROOT, Path(sys.base_prefix)) if (barrier := hidden(path, user))}
        if not closed:
            return []
        script = "set -e\nside=$(mktemp -d)\nmount -t tmpfs tmpfs $side\n"
        for number, path in enumerate(closed):
            script += f"mkdir $side/{number}\nmount --rbind {_quote(path)} $side/{number}\n"
        for barrier in dict.fromkeys(closed.values()):
            script += f"mount -t tmpfs -o mode=755 tmpfs {_quote(barrier)}\n"
        for number, path in enumerate(closed):
            # The folder itself may be closed (0700): what is in it is put back, entry by entry.
            script += f"""mkdir -p {_quote(path)}
for entry in $side/{number}/* $side/{number}/.[!.]*; do
    target={_quote(path)}/${{entry##*/}}
    if [ -d "$entry" ]; then mkdir "$target"; elif [ -e "$entry" ]; then : > "$target"; else continue; fi
    mount --rbind "$entry" "$target"
done
"""
        script += f'umount -l $side\nrmdir $side\ncd {_quote(ROOT)}\nexec "$@"\n'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]


def _quote(path: Path) -> str:
    return shlex.quote(str(path))


def environment(folder: Path) -> dict[str, str]:
    """Un ambiente con il minimo: niente di quello di chi ha lanciato le prove, tranne ciò che serve a pytest."""
    keep = {
        name: os.environ[name]
        for name in ("LANG", "CI", "TERM", GIVEN, course_images.SEED, *kernels.NAMES)
        if name in os.environ
    }
    return {
        "PATH": f"{ROOT}/.venv/bin:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "LABKIT_IMAGES": str(folder / "images"),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **keep,
    }


@contextlib.contextmanager
def home(user: User | None) -> Iterator[Path]:
    """Una casa temporanea di quell'utente (di root se ``None``), tolta alla fine."""
    folder = Path(tempfile.mkdtemp(prefix="lkhome-"))
    try:
        for path in (folder, folder / "tmp", folder / "run"):
            path.mkdir(mode=0o700, exist_ok=True)
            if user is not None:
                os.chown(path, user.uid, user.gid)
        if course_images.SEED in os.environ:
            course_images.give(folder / "images", *((user.uid, user.gid) if user else ()))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    print(f"mode={mode()}")
    print(f"groups={' '.join(str(group) for group in os.getgroups())}")
    print(f"home={os.environ['HOME']}")
    print(f"run={os.environ['XDG_RUNTIME_DIR']}")
