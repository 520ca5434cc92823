"""Il laboratorio dalla parte di chi lo usa.

Invariante: un ``Lab`` aperto è un albero di processi vivo; chiuso, di lui non resta niente nel kernel.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import weakref
from collections.abc import Collection, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from labkit import rundir
from labkit.backends import choice
from labkit.backends.base import Backend, fingerprint
from labkit.backends.choice import candidates, tell
from labkit.client import options, weight
from labkit.client.console import Console
from labkit.client.container import Container, ContainerList, feed
from labkit.client.images import Images
from labkit.client.network import WithNetworks
from labkit.client.output import Result, consume
from labkit.client.plan import Plan
from labkit.client.process import Held, Process
from labkit.client.snapshot import NamespaceMap, own_namespaces
from labkit.client.sources import named, stored
from labkit.client.volumes import Volumes
from labkit.client.wire import Channel, Wire
from labkit.errors import BackendError, CommandError, ConflictError, InvalidError, LabError, NotFoundError
from labkit.limits import Stats
from labkit.model import Event, Feature, Kind, ProcessInfo, Snapshot

if TYPE_CHECKING:
    from labkit.client.doctor import DoctorReport

#: I laboratori aperti da questo processo, dal più vecchio: l'ultimo è quello di ``%%lab``.
_open: list[weakref.ref[Lab]] = []


def current() -> Lab:
    """L'ultimo laboratorio aperto in questo processo, ancora vivo."""
    for reference in reversed(_open):
        lab = reference()
        if lab is not None and not lab.closed:
            return lab
    raise NotFoundError("Nessun laboratorio è aperto in questo notebook.", "lab = Lab()")


class Lab(Images, WithNetworks):
    """Un laboratorio: un albero di processi in namespace suoi, dove nascono container veri.

    Si apre con ``lab = Lab()`` oppure ``with Lab() as lab:``; finisce con :meth:`close`, alla fine del
    blocco, o quando finisce il processo che lo ha aperto, comunque finisca. ``backend`` dice dove vive
    (``auto``, ``direct``, ``uml``, ``qemu``); ``needs`` che cosa deve saper fare (le chiavi di :attr:`features`):
    con ``auto`` si prova finché si trova un posto che lo sa fare. Se non può nascere
    alza :class:`~labkit.errors.BackendError` con il rimedio.
    """

    def __init__(self, backend: str = "auto", needs: Collection[str] = ()) -> None:
        refused: list[LabError] = []
        for candidate in candidates(backend):
            try:
                self._start(candidate)
                self._require(needs)
            except BackendError as problem:
                refused.append(problem)
                continue
            #: Perché il laboratorio vive lì: una frase, vuota se è la prima scelta.
            self.why = choice.why(candidate.name, refused)
            if self.why:
                tell(self.why)
            return
        raise refused[0]

    def _require(self, needs: Collection[str]) -> None:
        """Chiude il laboratorio, e dice perché, se non sa fare una delle cose che servono."""
        for key in [needs] if isinstance(needs, str) else needs:
            if key not in self.features:
                self.close()
                raise InvalidError(f"«{key}» non è una cosa che un laboratorio sa o non sa fare.", "lab.features")
            if self.features[key].ok is False:
                found = self.features[key]
                self.close()
                raise BackendError(f"Qui non c'è «{found.title}» ({found.reason}).", found.remedy)

    def _start(self, backend: Backend) -> None:
        lab_id = f"{backend.name}-{os.getpid()}-{secrets.token_hex(3)}"
        self._starting(lab_id)
        started = backend.start(lab_id)
        try:
            self._attach(Wire(started.sock), started.process)
        except BaseException as problem:  # Ctrl-C too: a laboratory that nobody can use must not stay
            started.sock.close()
            started.process.wait()
            raise problem from None

    def _starting(self, lab_id: str) -> None:
        """Sta per nascere: chi vuole guardare la sua console può cominciare."""

    def _attach(self, wire: Wire, process: subprocess.Popen[bytes] | None) -> None:
        self.wire = wire
        self.id: str = wire.hello["id"]
        self.backend: str = wire.hello["backend"]
        #: ``root``, ``user`` (utente normale con subuid), ``nosub`` (utente normale, un solo uid) o ``vm``.
        self.mode: str = wire.hello["mode"]
        self._console = Console(self.id)
        if self.mode == "vm":
            self._console.open()  # now: the file goes away with the machine, what it said does not
            wire.last_words = self._console.panic
        #: I volumi: ``lab.volume.create("dati")``, ``ls``, ``inspect``, ``rm``, ``prune``.
        self.volume = Volumes(self)
        self._labels: set[str] = set()
        self._finalizer = weakref.finalize(self, _end, wire, process, os.getpid())
        _open.append(weakref.ref(self, _open.remove))

    @classmethod
    def connect(cls, lab_id: str = "") -> Lab:
        """Un laboratorio già aperto da un altro processo di questo utente: il più nuovo, o quello con quell'id.

        Chiuderlo non lo fa finire: finisce con chi lo ha aperto.
        """
        live = [(folder, record) for folder, record in rundir.live() if record.id.startswith(lab_id)]
        if not live:
            which = f" «{lab_id}»" if lab_id else ""
            raise NotFoundError(f"Il laboratorio{which} non c'è: nessun notebook lo tiene aperto.", "lab = Lab()")
        lab = cls.__new__(cls)
        lab.why = ""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(f"{live[-1][0]}/sock")
        except OSError:
            raise NotFoundError("Il laboratorio non risponde più.", "labkit clean") from None
        lab._attach(Wire(sock), None)
        if lab.wire.hello["code"] != fingerprint():
            lab.close()
            raise ConflictError(
                "Il laboratorio aperto è nato prima dell'ultimo aggiornamento del corso: i due non si capirebbero.",
                "riavvia il kernel del notebook, e riesegui la cella «Preparazione»",
            )
        return lab

    # ---- containers

    @overload
    def run(self, image: Any, command: options.Command = ..., *, detach: Literal[True], **wanted: Any) -> Container: ...
    @overload
    def run(
        self, image: Any, command: options.Command = ..., *, detach: Literal[False] = ..., **wanted: Any
    ) -> Result: ...
    def run(
        self,
        image: Any,
        command: options.Command = None,
        *,
        detach: bool = False,
        remove: bool | None = None,
        stdin: str | bytes | None = None,
        quiet: bool = False,
        **wanted: Any,
    ) -> Container | Result:
        """Crea e avvia un container, come ``docker run``.

        ``image`` è ``"busybox"``, ``"host"``, il percorso di una cartella, o un'immagine per nome: se manca si scarica
        (``pull="missing"``, ``"always"`` o ``"never"``; ``platform``). ``command`` è una lista o un testo. Le altre
        opzioni sono quelle di ``docker run``: ``name entrypoint env env_file hostname read_only user workdir network
        network_alias ip ip6 mac_address publish cap_add cap_drop init interactive restart stop_signal stop_timeout``,
        ``health_cmd`` con ``health_interval health_timeout health_retries health_start_period`` (o
        ``no_healthcheck``), ``log_max_size log_max_files``, ``volumes mounts tmpfs volumes_from``. Mostra le uscite
        mentre arrivano e torna il :class:`~labkit.client.output.Result`; con ``detach=True`` torna subito il
        :class:`~labkit.client.container.Container`. Senza ``detach`` e senza ``restart`` il container sparisce
        alla fine (``remove=True``), come con ``--rm``.

        ``secrets={"db_password": Path("password.txt")}`` mette i segreti in ``/run/secrets``, in memoria, dove
        li legge solo l'utente del programma; ``templates={"/etc/sito.conf": Path("sito.conf")}`` scrive un
        file da un modello, con il valore della variabile al posto di ``${NOME}``.

        ``cap_add="SYS_ADMIN"`` o ``"ALL"`` toglie le difese: un programma così può scoprire quello che
        il laboratorio copre e, se il laboratorio è di root, scrivere nelle manopole del kernel.
        """
        gone = not (detach or wanted.get("restart")) if remove is None else remove
        data = options.stdin(stdin)
        wanted["interactive"] = data is not None or bool(wanted.get("interactive"))
        request = options.request(image, command, images=self, remove=gone, **wanted)
        if detach:
            info = self.wire.call("run", attach=False, **request)
            warn(info)
            return Container(self, info["name"], info["id"])
        channel = self.wire.open("run", attach=True, stdin=data is not None, **request)
        channel.on_event = warn
        feed(channel, data)
        return consume(channel, quiet=quiet)

    def create(self, image: Any, command: options.Command = None, **wanted: Any) -> Container:
        """Un container come quello di :meth:`run`, ma non ancora partito: lo avvia :meth:`Container.start`."""
        info = self.wire.call("create", **options.request(image, command, images=self, **wanted))
        return Container(self, info["name"], info["id"])

    def open_run(self, image: Any, command: options.Command = None, **wanted: Any) -> Channel:
        """Come :meth:`run`, ma torna il canale aperto: per chi ha un terminale da attaccarci."""
        request = options.request(image, command, images=self, **wanted)
        channel = self.wire.open("run", attach=True, stdin=bool(wanted.get("interactive")), **request)
        channel.on_event = warn
        return channel

    def plan(self, image: Any, command: options.Command = None, **wanted: Any) -> Plan:
        """Un container da fare passo per passo, con le stesse opzioni di :meth:`run`."""
        answer = self.wire.call("plan", **options.request(image, command, images=self, **wanted))
        return Plan(self, answer["name"], answer["steps"])

    def ps(self, all: bool = False) -> ContainerList:
        """I container che girano; con ``all`` anche gli altri (``docker ps -a``)."""
        from labkit.model import ContainerInfo

        return ContainerList(self, [ContainerInfo.from_json(row) for row in self.wire.call("ps", all=all)])

    def container(self, name: str) -> Container:
        """Il container con quel nome (o quell'inizio di id)."""
        info = self.wire.call("inspect", name=name)
        return Container(self, info["name"], info["id"])

    def stats(self) -> list[Stats]:
        """Il conto di ogni container che gira, adesso: memoria, CPU, processi, dischi (come ``docker stats``)."""
        return [Stats.from_json(row) for row in self.wire.call("stats")]

    def prune_images(self) -> int:
        """Toglie le immagini senza nome, e gli strati spacchettati di quelle che non ci sono più; torna i byte."""
        freed = super().prune_images()
        self.wire.call("layers_prune", store=os.path.realpath(self.store.root))
        return freed

    def rootfs(self, image: str) -> str:
        """La cartella, vista dai processi del laboratorio, con lo strato più basso di un'immagine."""
        name = named(image)
        return str(self.wire.call("rootfs", image=name, stored=stored(name, "never"))[0]["lowers"][-1])

    # ---- processes and namespaces

    def process(self, label: str = "") -> Process:
        """Un processo del laboratorio da guidare a mano.

        Se questo ``Lab`` ne ha già uno con la stessa etichetta lo chiude e ne fa un altro: una cella
        rieseguita ricomincia da capo.
        """
        if label in self._labels:
            self.wire.call("process_close", label=label)
        answer = self.wire.call("process", label=label)
        self._labels.add(answer["label"])
        return Process(self, answer["label"], answer["pid"])

    def namespaces(self) -> Snapshot:
        """Chi vive in quali namespace, adesso: il notebook, il laboratorio, processi e container."""
        own = own_namespaces()
        if self.mode == "vm":  # another kernel: equal numbers there are other namespaces
            own = {kind: -number for kind, number in own.items()}
        me = ProcessInfo(os.getpid(), "notebook", own)
        return NamespaceMap((me, *(ProcessInfo.from_json(row) for row in self.wire.call("namespaces"))))

    def hold(self, who: Process | Container, kind: Kind) -> Held:
        """Tiene aperto il namespace ``kind`` di un processo: vive anche quando il processo finisce."""
        answer = self.wire.call("hold", pid=who.pid, kind=kind)
        return Held(self, answer["descriptor"], kind, answer["id"])

    # ---- the machine under the lab

    def outside(self, command: options.Command) -> str:
        """Quello che un comando scrive **fuori** dai container, sulla macchina che li ospita.

        È questa macchina; se il laboratorio vive in una macchina virtuale è quella, finché è accesa.
        Solleva :class:`~labkit.errors.CommandError` se il comando non parte.
        """
        words = options.command(command)
        if not words:
            raise InvalidError("outside ha bisogno di un comando.", "lab.outside('ps -e')")
        if self.mode == "vm" and not self.closed:
            with self.process() as witness:
                done = witness.run(words, quiet=True)
            if done.exit_code in (126, 127) and not done.output:
                why = "nella macchina virtuale non c'è" if done.exit_code == 127 else "non si può eseguire"
                raise CommandError(f"Il comando «{words[0]}» non parte: {why}.")
            return done.output
        try:
            return subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
        except OSError as problem:
            raise CommandError(f"Il comando «{words[0]}» non parte: {problem.strerror}.") from None

    def console(self) -> str:
        """Quello che il kernel della macchina virtuale ha scritto fin qui, anche dopo la sua fine.

        Vuoto se il laboratorio vive sul kernel di questa macchina.
        """
        return self._console.text()

    @property
    def disk(self) -> str:
        """Il file di questa macchina che per la macchina virtuale è un disco; vuoto senza macchina virtuale."""
        return f"{rundir.base()}/{self.id}/disk" if self.mode == "vm" else ""

    def host_pids(self) -> list[int]:
        """I processi di questa macchina di cui il laboratorio è fatto."""
        record = rundir.read(f"{rundir.base()}/{self.id}")
        return weight.descendants(record.guard_pid) if record else []

    def memory(self) -> int:
        """I byte di memoria di quei processi (la somma delle PSS, proc_pid_smaps(5))."""
        return weight.pss(self.host_pids())

    def boot_files(self) -> dict[str, int]:
        """I file con cui la macchina virtuale si è accesa (kernel, prima radice, disco), e i byte che occupano."""
        return weight.files(self.host_pids()) if self.mode == "vm" else {}

    # ---- the lab itself

    @property
    def features(self) -> Mapping[str, Feature]:
        """Che cosa sa fare questo laboratorio, con il perché e il rimedio."""
        return {row["key"]: Feature.from_json(row) for row in self.wire.hello["features"]}

    def events(
        self, *, since: options.Moment = None, until: options.Moment = None, filters: Mapping[str, Any] | None = None
    ) -> list[Event]:
        """Che cosa è successo fin qui, come in ``docker events``.

        ``since`` e ``until`` sono un istante (secondi Unix, ``datetime``, testo ISO 8601) o quanto tempo fa
        (``"5m"``), sull'orologio del laboratorio: quello di una macchina virtuale può scostarsi di qualche decimo di
        secondo. ``filters`` sceglie: ``{"container": "web", "event": ["die", "start"]}``.
        """
        return [Event(**row) for row in self._events(False, since, until, filters).result]

    def follow_events(
        self, *, since: options.Moment = None, until: options.Moment = None, filters: Mapping[str, Any] | None = None
    ) -> Iterator[Event]:
        """Come :meth:`events`, ma dà anche quello che succederà, un evento alla volta, appena succede."""
        channel = self._events(True, since, until, filters)
        while (piece := channel.receive()) is not None:
            yield Event(**piece[1])

    def _events(
        self, follow: bool, since: options.Moment, until: options.Moment, filters: Mapping[str, Any] | None
    ) -> Channel:
        return self.wire.open(
            "events",
            follow=follow,
            since=options.moment(since, "since"),
            until=options.moment(until, "until"),
            filters=options.filters(filters),
        )

    def doctor(self) -> DoctorReport:
        """Che cosa può fare questa macchina (lo stesso di ``labkit doctor``)."""
        from labkit.client.doctor import doctor

        return doctor()

    @property
    def closed(self) -> bool:
        return self.wire.closed or not self._finalizer.alive

    def close(self) -> None:
        """Fa finire il laboratorio e aspetta che il kernel abbia distrutto tutto. Due volte non fa danno."""
        for registry in self._registries:
            registry.close()
        self._finalizer()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Lab(backend={self.backend!r}{', chiuso' if self.closed else ''})"


def warn(started: Any) -> None:
    """Una riga su stderr per ogni limite chiesto che qui non vale: mai in silenzio."""
    info = started.get("started", started) if isinstance(started, dict) else {}
    for line in info.get("warnings", ()):
        tell(line)


def _end(wire: Wire, process: subprocess.Popen[bytes] | None, owner: int) -> None:
    """Chiude il filo; se il laboratorio era nostro aspetta la sua fine."""
    if os.getpid() != owner:  # a forked child of the notebook: not its lab
        return
    wire.close()
    if process is not None:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


__all__ = ["CommandError", "Lab", "current"]
