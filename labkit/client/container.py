"""Un container dalla parte di chi lo usa: un nome, e quello che gli si può chiedere."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from labkit.backends.choice import tell
from labkit.client import options, weight
from labkit.client.contents import Contents
from labkit.client.environment import EnvFiles, Environment, env_files, environment
from labkit.client.output import Logs, Result, clean, consume
from labkit.client.table import Table
from labkit.client.wire import Channel
from labkit.errors import InvalidError, LabError, NotFoundError
from labkit.layers import LayerView
from labkit.limits import LIMIT_NAMES, Limits, Stats
from labkit.model import ContainerInfo, to_json

if TYPE_CHECKING:
    from labkit.client.lab import Lab
    from labkit.client.plan import Plan


class Container(Contents):
    """Un container del laboratorio, per nome. Lo stato si chiede ogni volta: qui non si ricorda niente."""

    def __init__(self, lab: Lab, name: str, identity: str = "") -> None:
        self.lab = lab
        self.name = name
        self.id = identity

    def inspect(self) -> ContainerInfo:
        """Tutto quello che il laboratorio sa del container, passi del piano compresi."""
        return ContainerInfo.from_json(self.lab.wire.call("inspect", name=self.name))

    @property
    def status(self) -> str:
        """``created running paused restarting`` o ``exited``; ``removed`` se non c'è più."""
        try:
            return self.inspect().state
        except NotFoundError:
            return "removed"

    @property
    def pid(self) -> int:
        """Il PID del programma, visto dal laboratorio (0 se non gira)."""
        return self.inspect().pid

    @property
    def ip(self) -> str:
        """L'indirizzo nella rete del laboratorio."""
        return self.inspect().ip

    @property
    def health(self) -> str:
        """``starting``, ``healthy`` o ``unhealthy``; vuoto se nessuno prova come sta."""
        found = self.inspect().health
        return found.status if found else ""

    @property
    def exit_code(self) -> int | None:
        return self.inspect().exit_code

    @property
    def ports(self) -> dict[int, int]:
        """Le porte pubblicate: ``{porta del container: porta di questa macchina}``."""
        found = sorted(self.inspect().ports, key=lambda port: port.protocol, reverse=True)  # of two, the tcp one
        return {port.container_port: port.host_port for port in found}

    @property
    def plan(self) -> Plan:
        """Il piano con cui è nato, con i tempi di ogni passo."""
        from labkit.client.plan import Plan

        return Plan(self.lab, self.name, to_json(self.inspect().steps))

    def memory(self) -> int:
        """I byte di memoria dei suoi processi, visti da questa macchina; 0 se il laboratorio ha un kernel suo.

        È la somma delle PSS (proc_pid_smaps(5)) di chi vive nel suo namespace pid.
        """
        if self.lab.mode == "vm":  # another kernel: its processes are not processes of this one
            return 0
        seen = {process.label: process.namespaces for process in self.lab.namespaces().processes}
        return weight.pss(weight.inside(seen[self.name]["pid"])) if self.name in seen else 0

    def url(self, port: int = 80) -> str:
        """L'indirizzo da aprire nel browser per una porta pubblicata.

        Alza :class:`~labkit.errors.NotFoundError` se la porta non è pubblicata.
        """
        found = self.ports
        if port not in found:
            raise NotFoundError(f"Il container «{self.name}» non pubblica la porta {port}.", f"publish='8080:{port}'")
        return f"http://localhost:{found[port]}/"

    def exec(
        self,
        command: options.Command,
        *,
        env: Environment = None,
        env_file: EnvFiles = None,
        user: str | None = None,
        workdir: str | None = None,
        stdin: str | bytes | None = None,
        quiet: bool = False,
    ) -> Result:
        """Un altro programma nello stesso container, come ``docker exec``; torna quando è finito."""
        data = options.stdin(stdin)
        channel = self.open_exec(
            command, env=env, env_file=env_file, user=user, workdir=workdir, stdin=data is not None
        )
        feed(channel, data)
        return consume(channel, quiet=quiet)

    def open_exec(
        self,
        command: options.Command,
        *,
        env: Environment = None,
        env_file: EnvFiles = None,
        user: str | None = None,
        workdir: str | None = None,
        stdin: bool = False,
        tty: bool = False,
        window: tuple[int, ...] = (),
    ) -> Channel:
        """Come :meth:`exec`, ma torna il canale aperto: per chi ha un terminale, di ``window`` righe e colonne."""
        words = options.command(command)
        if not words:
            raise LabError("exec ha bisogno di un comando.", "c.exec('ps')")
        return self.lab.wire.open(
            "exec",
            name=self.name,
            command=list(words),
            env=[*env_files(env_file), *environment(env)],
            user=user,
            workdir=workdir,
            tty=tty,
            window=list(window),
            stdin=stdin,
        )

    def logs(
        self,
        follow: bool = False,
        quiet: bool | None = None,
        *,
        timestamps: bool = False,
        since: options.Moment = None,
        until: options.Moment = None,
        tail: int | str | None = None,
    ) -> Logs:
        """Le ultime uscite del container (``log_max_size`` × ``log_max_files``, di solito 1 MiB).

        Con ``follow`` le mostra finché non resta fermo. ``timestamps`` mette l'ora davanti a ogni riga; ``since`` e
        ``until`` sono un istante (secondi Unix, ``datetime``, testo ISO 8601) o quanto tempo fa (``"5m"``); ``tail`` le
        ultime righe. ``.dropped`` di quello che torna dice quante righe vecchie sono state buttate.
        """
        silent = not follow if quiet is None else quiet
        channel = self.open_logs(follow=follow, timestamps=timestamps, since=since, until=until, tail=tail)
        if not silent:
            text = consume(channel).output
        else:
            text = clean(b"".join(data for _, data in channel).decode("utf-8", "replace"))
        return Logs(text, int(channel.result["dropped"]))

    def open_logs(
        self,
        *,
        follow: bool = False,
        timestamps: bool = False,
        since: options.Moment = None,
        until: options.Moment = None,
        tail: int | str | None = None,
    ) -> Channel:
        """Come :meth:`logs`, ma torna il canale aperto."""
        return self.lab.wire.open(
            "logs",
            name=self.name,
            follow=follow,
            timestamps=timestamps,
            since=options.moment(since, "since"),
            until=options.moment(until, "until"),
            tail=options.tail(tail),
        )

    def attach(self) -> Channel:
        """Si attacca al programma che gira: il canale dà le uscite da adesso, e ``send`` scrive al suo stdin.

        Per leggere lo stdin il container deve essere nato con ``interactive=True``. ``detach()`` lascia il
        programma al suo lavoro.
        """
        return self.lab.wire.open("attach", name=self.name)

    def start(self) -> Container:
        """Avvia un container creato o fermo, nello strato di prima; torna quando il programma è partito."""
        self.lab.wire.call("start", name=self.name)
        return self

    def restart(self, grace: float | None = None) -> Container:
        """Ferma e riavvia, come :meth:`stop` e poi :meth:`start`."""
        self.lab.wire.call("restart", name=self.name, grace=_grace(grace))
        return self

    def wait(self, timeout: float | None = None, condition: str = "not-running") -> int:
        """Aspetta e torna il codice di uscita del programma.

        ``condition``: ``"not-running"`` finché resta fermo (se deve ripartire da solo si aspetta ancora),
        ``"next-exit"`` la prossima fine del programma, ``"removed"`` finché il container non c'è più. Alza
        ``TimeoutError`` se passano ``timeout`` secondi.
        """
        if timeout is not None:
            timeout = options.seconds(timeout, "timeout")
        channel = self.lab.wire.open("wait", name=self.name, condition=condition)
        return int(wait_result(channel, timeout, f"Il container «{self.name}» gira ancora") or 0)

    def stop(self, grace: float | None = None) -> int | None:
        """Il suo segnale (SIGTERM), e SIGKILL dopo ``grace`` secondi (``stop_timeout``: 10); torna il codice di uscita.

        Un container fermato così non riparte da solo.
        """
        code = self.lab.wire.call("stop", name=self.name, grace=_grace(grace))
        return None if code is None else int(code)

    def rename(self, name: str) -> None:
        """Gli dà un altro nome, come ``docker rename``."""
        self.lab.wire.call("rename", name=self.name, new=name)
        self.name = name

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Manda un segnale al programma (signal(7)); con SIGKILL, o con il suo ``stop_signal``, non riparte da solo."""
        self.lab.wire.call("kill", name=self.name, signal=str(signal))

    def update(self, **limits: Any) -> Limits:
        """Cambia i limiti mentre gira, come ``docker update``: ``update(memory="128m", cpus=1)``.

        I nomi e i valori sono quelli di :meth:`~labkit.client.lab.Lab.run`; 0 toglie un limite (Docker invece lo
        ignora). Torna i limiti che valgono adesso; uno che qui non si può avere è detto su stderr.
        """
        unknown = sorted(set(limits) - set(LIMIT_NAMES))
        if unknown:
            raise InvalidError(f"Limite sconosciuto: {', '.join(unknown)}.", f"i limiti sono {', '.join(LIMIT_NAMES)}")
        answer = self.lab.wire.call("update", name=self.name, limits=to_json(options.limits(limits)))
        for line in answer["warnings"]:
            tell(line)
        return Limits.from_json(answer["limits"])

    def stats(self) -> Stats:
        """Il conto di adesso: memoria, CPU, processi, dischi (:class:`~labkit.limits.Stats`), come ``docker stats``."""
        return Stats.from_json(self.lab.wire.call("stats", name=self.name)[0])

    def pause(self) -> None:
        """Ferma tutti i suoi processi dove sono, come ``docker pause`` (``cgroup.freeze``)."""
        self.lab.wire.call("pause", name=self.name)

    def unpause(self) -> None:
        """I processi riprendono da dove erano."""
        self.lab.wire.call("unpause", name=self.name)

    def rm(self, force: bool = False, *, volumes: bool = False) -> None:
        """Toglie il container e il suo strato; con ``force`` anche se gira, con ``volumes`` i suoi anonimi."""
        self.lab.wire.call("rm", name=self.name, force=force, volumes=volumes)

    def top(self) -> list[tuple[int, str]]:
        """I processi del container con i PID del laboratorio: ``[(pid, comando), …]``."""
        return [(row["pid"], " ".join(row["command"])) for row in self.lab.wire.call("top", name=self.name)]

    def browse(self, *folders: str, limit: int = 100) -> LayerView:
        """Le sue cartelle strato per strato: la radice, quelle che ha cambiato, e ``folders``.

        Ogni cartella ha al massimo ``limit`` nomi (fino a 500); di una cambiata ma non chiesta, solo quelli dello
        strato scrivibile. Vale anche per un container fermo.
        """
        return LayerView.from_json(self.lab.wire.call("browse", name=self.name, folders=list(folders), limit=limit))

    def __repr__(self) -> str:
        return f"Container({self.name!r})"


def _grace(value: float | None) -> float | None:
    return None if value is None else options.seconds(value, "grace")


def feed(channel: Channel, data: bytes | None) -> None:
    """Dà ``data`` allo stdin del processo da un thread, così chi legge le uscite non aspetta."""
    if data is None:
        return

    def write() -> None:
        try:
            channel.send(data)
            channel.close_stdin()
        except LabError:
            pass  # the program, or the lab, ended before reading it all

    threading.Thread(target=write, name="labkit-stdin", daemon=True).start()


def wait_result(channel: Channel, timeout: float | None, what: str) -> Any:
    """La risposta di un canale entro ``timeout`` secondi."""
    from queue import Empty

    try:
        while not channel.closed:
            channel.receive(timeout)
    except Empty:
        raise TimeoutError(f"{what}: sono passati {timeout} secondi.") from None
    return channel.result


class ContainerList(Table, Sequence[Container]):
    """Una lista di container che si mostra come la tabella di ``docker ps``."""

    HEADER = ("NOME", "IMMAGINE", "COMANDO", "STATO", "PORTE")

    def __init__(self, lab: Lab, infos: Sequence[ContainerInfo]) -> None:
        self.infos = tuple(infos)
        self._containers = tuple(Container(lab, info.name, info.id) for info in infos)

    @overload
    def __getitem__(self, index: int) -> Container: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Container]: ...
    def __getitem__(self, index: int | slice) -> Container | Sequence[Container]:
        return self._containers[index]

    def __len__(self) -> int:
        return len(self._containers)

    def rows(self) -> list[tuple[str, ...]]:
        """Le righe della tabella, già testo."""
        states = {"running": "gira", "created": "creato", "paused": "in pausa", "restarting": "riparte"}
        return [
            (
                info.name,
                clean(info.image),
                " ".join(clean(" ".join(info.command)).split()),  # one line, whatever the words hold
                states.get(info.state, f"finito ({info.exit_code})"),
                ", ".join(map(str, info.ports)),
            )
            for info in self.infos
        ]
