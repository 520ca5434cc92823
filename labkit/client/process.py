"""Un processo del laboratorio da guidare a mano, una chiamata di sistema alla volta."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from labkit.client import options
from labkit.client.container import Container
from labkit.client.environment import Environment, environment
from labkit.client.output import Result, consume
from labkit.errors import InvalidError
from labkit.model import IdMap, Kind, Step

if TYPE_CHECKING:
    from labkit.client.lab import Lab


class Held:
    """Un namespace che il laboratorio tiene aperto: vive anche se i suoi processi finiscono."""

    def __init__(self, lab: Lab, descriptor: int, kind: str, identity: int) -> None:
        self.lab = lab
        self.descriptor = descriptor
        self.kind = kind
        self.id = identity

    def close(self) -> None:
        """Lo lascia: se dentro non c'è nessuno, il kernel lo distrugge."""
        if self.descriptor >= 0:
            self.lab.wire.call("release", descriptor=self.descriptor)
            self.descriptor = -1

    def __repr__(self) -> str:
        return f"Held({self.kind!r}{', chiuso' if self.descriptor < 0 else ''})"


class Process:
    """Un processo vivo del laboratorio. I metodi hanno il nome della chiamata di sistema o del comando.

    Parte negli stessi namespace del laboratorio, con il potere che root ha là dentro. Ogni operazione
    si aggiunge a :attr:`steps`, che si disegna come un piano.
    """

    def __init__(self, lab: Lab, label: str, pid: int) -> None:
        self.lab = lab
        self.label = label
        self.pid = pid
        self.steps: tuple[Step, ...] = ()

    # ---- what it does to itself

    def unshare(self, *kinds: Kind) -> Process:
        """Si stacca in namespace nuovi (unshare(2)). Per ``pid`` e ``time`` ci vuole poi :meth:`fork`."""
        return self._operate("unshare", kinds=list(kinds))

    def setns(self, other: Process | Container | Held, *kinds: Kind) -> Process:
        """Entra nei namespace di un altro processo o container, o in uno tenuto aperto (setns(2))."""
        if isinstance(other, Held):
            return self._operate("setns_held", descriptor=other.descriptor, kind=other.kind)
        if not isinstance(other, Process | Container):
            raise InvalidError(
                f"setns vuole un processo o un container, non {other!r}.",
                "due.setns(uno, 'uts'), senza virgolette a uno",
            )
        return self._operate("setns", pid=other.pid, kinds=list(kinds))

    def fork(self) -> Process:
        """Un figlio prende il suo posto: così entra davvero nel namespace pid o time appena fatto (fork(2))."""
        self.pid = int(self._ask("fork")["pid"])
        return self

    def sethostname(self, name: str) -> Process:
        """Cambia il nome host del suo namespace uts (sethostname(2))."""
        return self._operate("sethostname", hostname=name)

    def mount(self, source: str, target: str, fstype: str = "", *flags: str, data: str = "") -> Process:
        """Monta, con le opzioni di ``mount`` come parole: ``"ro"``, ``"bind"``, ``"rprivate"``… (mount(2))."""
        return self._operate("mount", source=source, target=target, fstype=fstype, options=list(flags), data=data)

    def overlay(self, target: str, *lowers: str, upper: str = "", work: str = "") -> Process:
        """Sovrappone le cartelle ``lowers`` (dall'alto in basso) in ``target``, con ``upper`` scrivibile sopra."""
        return self._operate("overlay", target=target, lowers=list(lowers), upper=upper, work=work)

    def umount(self, target: str) -> Process:
        """Smonta (umount2(2))."""
        return self._operate("umount", target=target)

    def pivot_root(self, new_root: str, put_old: str = "") -> Process:
        """``new_root`` diventa la radice; senza ``put_old`` la vecchia viene staccata (pivot_root(2))."""
        return self._operate("pivot_root", new_root=new_root, put_old=put_old)

    def chdir(self, path: str) -> Process:
        """Va in una cartella (chdir(2))."""
        return self._operate("chdir", path=path)

    def mkdir(self, path: str) -> Process:
        """Fa una cartella (mkdir(2))."""
        return self._operate("mkdir", path=path)

    def write(self, path: str, text: str) -> Process:
        """Scrive un file (open(2), write(2))."""
        return self._operate("write", path=path, text=text)

    def id_map(self, inside: int, outside: int, count: int = 1) -> Process:
        """Scrive la mappa di utenti e gruppi del namespace utente appena fatto (user_namespaces(7))."""
        return self._operate("id_map", inside=inside, outside=outside, count=count)

    def time_offset(self, monotonic: int = 0, boottime: int = 0) -> Process:
        """Sposta gli orologi del namespace time appena fatto, in secondi, prima di :meth:`fork`."""
        return self._operate("time_offset", monotonic=monotonic, boottime=boottime)

    def link_up(self, link: str) -> Process:
        """Accende un'interfaccia di rete (rtnetlink(7))."""
        return self._operate("link_up", link=link)

    def drop_capabilities(self, *keep: str) -> Process:
        """Tiene solo le capability dette, per sempre (capabilities(7))."""
        return self._operate("drop_capabilities", keep=list(keep))

    def seccomp(self) -> Process:
        """Carica il filtro di chiamate di sistema dei container (seccomp(2))."""
        return self._operate("seccomp")

    def undo(self) -> Step:
        """Annulla l'ultima operazione, se si può."""
        step = Step.from_json(self._ask("undo"))
        self.steps = (*self.steps[:-1], step)
        return step

    # ---- programs and Python

    def run(self, command: options.Command, *, env: Environment = None, quiet: bool = False) -> Result:
        """Lancia un programma in un figlio e aspetta che finisca (fork(2), execve(2))."""
        words = options.command(command)
        if not words:
            raise InvalidError("run ha bisogno di un comando.", "p.run('hostname')")
        channel = self.lab.wire.open(
            "process_ask",
            label=self.label,
            verb="run",
            args={"command": list(words), "env": dict(environment(env))},
        )
        return consume(channel, quiet=quiet)

    def exec(self, command: options.Command, *, env: Environment = None) -> Result:
        """Il programma prende il posto di questo processo (execve(2)); torna quando finisce."""
        words = options.command(command)
        if not words:
            raise InvalidError("exec ha bisogno di un comando.", "p.exec('sh')")
        channel = self.lab.wire.open(
            "process_ask",
            label=self.label,
            verb="exec",
            args={
                "command": list(words),
                "env": None if env is None else dict(environment(env)),
            },
        )
        return consume(channel)

    def python(self, source: str, *, quiet: bool = False) -> Result:
        """Esegue del Python in questo processo, dove ``from labkit import kernel`` dà le chiamate di sistema.

        Quello che stampa è in ``.output``; con ``quiet`` non si mostra. Se fallisce alza
        :class:`~labkit.errors.CellError`.
        """
        channel = self.lab.wire.open("process_ask", label=self.label, verb="cell", args={"source": source})
        return consume(channel, quiet=quiet, raise_errors=True)

    # ---- what it sees

    def read(self, path: str) -> str:
        """Il contenuto di un file, visto da questo processo (al massimo 1 MiB)."""
        return str(self._ask("read", path=path))

    def links(self) -> list[str]:
        """I nomi delle interfacce di rete che vede."""
        return list(self._ask("links"))

    def namespaces(self) -> dict[str, int]:
        """I suoi otto namespace: ``{tipo: inode}`` (namespaces(7))."""
        return dict(self._ask("state")["namespaces"])

    def maps(self, which: str = "uid") -> list[IdMap]:
        """La mappa degli utenti (o dei gruppi, con ``which="gid"``) del suo namespace utente."""
        return [IdMap(row["inside"], row["outside"], row["count"]) for row in self._ask("state")[f"{which}_map"]]

    def hostname(self) -> str:
        """Il nome host che vede."""
        return str(self._ask("state")["hostname"])

    def getpid(self) -> int:
        """Il PID che vede di sé, nel suo namespace pid (getpid(2))."""
        return int(self._ask("state")["inside"])

    def getuid(self) -> int:
        """L'utente che vede di sé, nel suo namespace utente (getuid(2))."""
        return int(self._ask("state")["uid"])

    def hold(self, kind: Kind) -> Held:
        """Fa tenere aperto al laboratorio il suo namespace di quel tipo."""
        return self.lab.hold(self, kind)

    # ---- the end

    def close(self) -> None:
        """Fa finire il processo: i namespace che erano solo suoi spariscono."""
        if not self.lab.closed:
            self.lab.wire.call("process_close", label=self.label)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Process({self.label!r})"

    def _ask(self, verb: str, /, **args: Any) -> Any:
        return self.lab.wire.call("process_ask", label=self.label, verb=verb, args=args)

    def _operate(self, name: str, **arguments: Any) -> Process:
        step = Step.from_json(self._ask("operate", name=name, arguments=arguments))
        self.steps = (*self.steps, replace(step, index=len(self.steps) + 1))
        return self
