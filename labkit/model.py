"""Le parole del corso come dati immutabili: niente kernel, niente file, niente rete.

Ogni oggetto qui è *frozen*: si confronta, si stampa, si manda sul filo come JSON
(:func:`to_json`, ``Classe.from_json``). Un valore sbagliato è rifiutato alla nascita con un
:class:`~labkit.errors.InvalidError`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from labkit import environment
from labkit.environment import Setting, Variable
from labkit.errors import InvalidError
from labkit.limits import UNLIMITED, Limits
from labkit.networks import Attachment, Member, check_name
from labkit.policy import LOG_DEFAULT, NEVER, Health, HealthCheck, LogLimits, RestartPolicy
from labkit.ports import Port as Port
from labkit.template import Template
from labkit.volumes import Mount
from labkit.volumes import check as check_mounts

#: Gli otto tipi di namespace, nell'ordine in cui il corso li presenta (namespaces(7)).
NAMESPACES = ("uts", "mount", "pid", "ipc", "net", "user", "cgroup", "time")

Kind = Literal["uts", "mount", "pid", "ipc", "net", "user", "cgroup", "time"]

#: La regola di Docker per i nomi dei container.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_HOSTNAME = re.compile(r"(?=.{1,64}$)[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*")


def _shown(text: str) -> str:
    """Il testo su una riga sola, anche se contiene un a capo o un carattere di controllo."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def to_json(value: Any) -> Any:
    """Rende un oggetto di questo modulo (anche annidato) fatto solo di dict, list, str, numeri."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        return [to_json(v) for v in value]
    return value


@dataclass(frozen=True)
class ContainerSpec:
    """Che cosa si vuole: la descrizione pura di un container, prima che ne esista uno.

    I nomi delle opzioni sono quelli di ``docker run``. ``image`` è ``host``, ``busybox`` o il
    percorso di una cartella; ``command`` vuoto e ``entrypoint`` ``None`` vogliono dire «quello dell'immagine».
    ``env`` sono gli ``-e``, ``env_file`` le righe dei file. Dei segreti qui c'è solo il nome. ``network`` è
    ``bridge``, ``none``, ``host``, ``container:NOME`` o il nome di una rete del laboratorio; ``attachments`` dice le
    reti per intero, quando sono più d'una o serve un nome o un indirizzo scelto.

    ``mounts`` ciò che si monta, ``volumes_from`` i container da cui prenderlo.

    >>> ContainerSpec("busybox", ("hostname",), hostname="prova").hostname
    'prova'
    """

    image: str
    command: tuple[str, ...] = ()
    name: str = ""
    env: tuple[Setting, ...] = ()
    hostname: str = ""
    read_only: bool = False
    user: str = ""
    workdir: str = ""
    network: str = "bridge"
    publish: tuple[Port, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    tty: bool = False
    window: tuple[int, ...] = ()
    interactive: bool = False
    init: bool = False
    remove: bool = False
    stop_signal: str = ""
    stop_timeout: float = 10.0
    restart: RestartPolicy = NEVER
    health: HealthCheck | None = None
    log: LogLimits = LOG_DEFAULT
    labels: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env_file: tuple[Setting, ...] = ()
    secrets: tuple[str, ...] = ()
    templates: tuple[Template, ...] = ()
    limits: Limits = UNLIMITED
    mounts: tuple[Mount, ...] = ()
    volumes_from: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.image, str) or not self.image or "\0" in self.image:
            raise InvalidError("Manca il nome dell'immagine.", "lab.run('busybox', 'hostname')")
        if self.name and not _NAME.fullmatch(self.name):
            raise InvalidError(
                f"«{_shown(self.name)}» non può essere il nome di un container: lettere, cifre, «_», «.» e «-», "
                "cominciando da una lettera o una cifra.",
                "name='web-1'",
            )
        if self.hostname and not _HOSTNAME.fullmatch(self.hostname):
            raise InvalidError(
                f"«{_shown(self.hostname)}» non può essere un hostname: al massimo 64 lettere, cifre e trattini.",
                "hostname='web-1'",
            )
        for arg in (*(self.entrypoint or ()), *self.command):
            if not isinstance(arg, str) or "\0" in arg:
                raise InvalidError(f"Il comando contiene un argomento che non è un testo: {arg!r}.", "['sleep', '10']")
        environment.check((*self.env_file, *self.env))
        for secret in self.secrets:
            environment.check_secret(secret)
        if self.workdir and not self.workdir.startswith("/"):
            raise InvalidError(
                f"La cartella di lavoro «{self.workdir}» deve cominciare con «/».", f"workdir='/{self.workdir}'"
            )
        if self.window and (len(self.window) != 2 or not all(0 <= n <= 65535 for n in self.window)):
            raise InvalidError(f"Un terminale ha righe e colonne: {self.window} non va bene.", "window=(24, 80)")
        if self.network.startswith("container:"):
            check_name(self.network.partition(":")[2])
        names = [attachment.network for attachment in self.networks]
        if len(set(names)) != len(names):
            raise InvalidError("Una rete è scritta due volte.", "network=['una', 'altra']")
        if self.publish and not names and self.network != "host":
            raise InvalidError(
                "Una porta si pubblica solo se il container ha una rete sua.",
                "togli publish=, o scrivi network='bridge'",
            )
        if not self.stop_timeout >= 0:
            raise InvalidError("I secondi da aspettare prima di SIGKILL vanno da zero in su.", "stop_timeout=10")
        if self.remove and self.restart.name != "no":
            raise InvalidError("Un container che deve ripartire non può anche sparire quando finisce.",
                               "togli remove=True, oppure scrivi restart='no'")  # fmt: skip

    @property
    def networks(self) -> tuple[Attachment, ...]:
        """Le reti a cui si attacca; nessuna se è ``none``, ``host`` o ``container:NOME``."""
        if self.attachments:
            return self.attachments
        if self.network in ("none", "host") or self.network.startswith("container:"):
            return ()
        return (Attachment(self.network),)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ContainerSpec:
        """La descrizione da dati JSON; campi ignoti o del tipo sbagliato sono rifiutati."""
        known = {f.name: f for f in dataclasses.fields(cls)}
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise InvalidError(f"Opzioni sconosciute: {', '.join(unknown)}.")
        values: dict[str, Any] = {}
        for key, value in data.items():
            if key == "publish":
                values[key] = tuple(Port.from_json(p) for p in value)
            elif key in ("env", "env_file"):
                values[key] = tuple((str(k), None if v is None else str(v)) for k, v in value)
            elif key == "labels":
                values[key] = tuple((str(k), str(v)) for k, v in value)
            elif key == "attachments":
                values[key] = tuple(Attachment.from_json(a) for a in value)
            elif key == "templates":
                values[key] = tuple(Template.from_json(t) for t in value)
            elif key == "mounts":
                values[key] = check_mounts(Mount.from_json(m) for m in value)
            elif key == "entrypoint" and value is None:
                values[key] = None
            elif key in ("command", "cap_add", "cap_drop", "window", "secrets", "entrypoint", "volumes_from"):
                values[key] = tuple(value)
            elif key in _NESTED:
                values[key] = None if value is None else _NESTED[key].from_json(value)
            else:
                kind = {"bool": bool, "float": int | float}.get(str(known[key].type), str)
                if not isinstance(value, kind):
                    raise InvalidError(f"L'opzione {key} ha un valore del tipo sbagliato: {value!r}.")
                values[key] = value
        return cls(**values)


_NESTED: dict[str, Any] = {"restart": RestartPolicy, "health": HealthCheck, "log": LogLimits, "limits": Limits}

StepState = Literal["todo", "done", "undone", "failed"]


@dataclass(frozen=True)
class Step:
    """Un passo di un piano, come lo vede chi guarda: la frase, la syscall, com'è andata.

    ``where`` dice chi lo fa: il supervisore del laboratorio o il processo che diventa il container.
    ``microseconds`` è ``None`` finché il passo non è fatto; ``ahead`` se è stato fatto prima che il
    container fosse chiesto, mentre il laboratorio non aveva altro da fare.
    """

    index: int
    name: str
    description: str
    syscall: str
    man: str
    where: Literal["lab", "container"] = "container"
    reversible: bool = True
    state: StepState = "todo"
    microseconds: float | None = None
    error: str = ""
    ahead: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Step:
        return cls(**{f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data})


@dataclass(frozen=True)
class IdMap:
    """Una riga di ``/proc/PID/uid_map``: ``count`` id da ``inside`` valgono quelli da ``outside``.

    >>> IdMap(0, 1000, 1).explain()
    "l'utente 0 qui dentro è l'utente 1000 fuori"
    """

    inside: int
    outside: int
    count: int

    def explain(self, who: str = "l'utente") -> str:
        """La riga in italiano; ``who`` è «l'utente» o «il gruppo»."""
        if self.count == 1:
            return f"{who} {self.inside} qui dentro è {who} {self.outside} fuori"
        many = {"l'utente": "gli utenti", "il gruppo": "i gruppi"}.get(who, who)
        return (
            f"{many} da {self.inside} a {self.inside + self.count - 1} qui dentro "
            f"sono {many} da {self.outside} a {self.outside + self.count - 1} fuori"
        )


@dataclass(frozen=True)
class ProcessInfo:
    """Un processo e i namespace in cui vive: ``namespaces`` va dal tipo all'inode (``/proc/PID/ns``)."""

    pid: int
    label: str
    namespaces: Mapping[str, int] = field(default_factory=dict)
    container: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProcessInfo:
        return cls(int(data["pid"]), str(data["label"]), dict(data["namespaces"]), str(data.get("container", "")))


@dataclass(frozen=True)
class Snapshot:
    """Chi condivide che cosa, in un istante: i processi con i loro namespace.

    >>> a = ProcessInfo(1, "host", {"uts": 10, "net": 20})
    >>> b = ProcessInfo(2, "web", {"uts": 11, "net": 20})
    >>> Snapshot((a, b)).shared("host", "web")
    ('net',)
    """

    processes: tuple[ProcessInfo, ...]

    def __getitem__(self, label: str) -> ProcessInfo:
        for process in self.processes:
            if process.label == label:
                return process
        raise KeyError(label)

    def shared(self, one: str, two: str) -> tuple[str, ...]:
        """I tipi di namespace che due processi (per etichetta) hanno in comune, nell'ordine del corso."""
        a, b = self[one].namespaces, self[two].namespaces
        return tuple(k for k in NAMESPACES if k in a and a.get(k) == b.get(k))

    def private(self, one: str, two: str) -> tuple[str, ...]:
        """I tipi di namespace in cui due processi (per etichetta) sono separati."""
        a, b = self[one].namespaces, self[two].namespaces
        return tuple(k for k in NAMESPACES if k in a and k in b and a[k] != b[k])


@dataclass(frozen=True)
class Feature:
    """Una cosa che la macchina (o il laboratorio) sa o non sa fare, con il perché e il rimedio.

    ``ok`` è ``True`` (✔), ``False`` (✘) o ``None`` (non serve, o non si può sapere: «–»).
    """

    key: str
    title: str
    ok: bool | None
    reason: str = ""
    remedy: str = ""

    @property
    def mark(self) -> str:
        return {True: "✔", False: "✘", None: "–"}[self.ok]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Feature:
        return cls(**{f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data})


ContainerState = Literal["created", "running", "paused", "restarting", "exited"]


@dataclass(frozen=True)
class ContainerInfo:
    """Lo stato di un container come lo dà ``inspect``.

    ``pid`` è nel namespace pid del laboratorio (0 se non gira); ``created_at``, ``started_at`` e ``finished_at``
    (l'ultimo avvio, l'ultima fine) in secondi Unix, 0 se mai; ``restart_count`` quante volte è ripartito da solo;
    ``limits`` i limiti che valgono, ``warnings`` una riga per quelli che qui non si possono avere, ``oom_killed`` se
    il kernel lo ha ucciso per la memoria; ``error`` perché l'ultimo avvio non è riuscito; ``first_instruction_ms``
    va dalla richiesta all'execve; ``warm`` se era un avvio a caldo, con rete e radice già pronte (quali passi, lo dice
    ``ahead`` di ciascuno). I campi da ``steps`` in poi, tranne ``entrypoint``, ci sono solo in ``inspect``: ``env`` è
    l'ambiente con cui parte (il ``Config.Env`` di Docker), ``image_id`` e ``image_digest`` le impronte della
    configurazione e del manifesto di un'immagine conservata, ``exposed`` le porte che dichiara, e ``mounts``.
    """

    id: str
    name: str
    image: str
    command: tuple[str, ...]
    state: ContainerState
    pid: int = 0
    exit_code: int | None = None
    hostname: str = ""
    user: str = ""
    network: str = "bridge"
    ip: str = ""
    ports: tuple[Port, ...] = ()
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    uptime: float = 0.0
    restart: RestartPolicy = NEVER
    restart_count: int = 0
    health: Health | None = None
    error: str = ""
    limits: Limits = UNLIMITED
    warnings: tuple[str, ...] = ()
    oom_killed: bool = False
    first_instruction_ms: float = 0.0
    warm: bool = False
    steps: tuple[Step, ...] = ()
    entrypoint: tuple[str, ...] = ()
    env: tuple[Variable, ...] = ()
    image_id: str = ""
    image_digest: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    exposed: tuple[str, ...] = ()
    workdir: str = ""
    networks: tuple[Member, ...] = ()
    mounts: tuple[Mount, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ContainerInfo:
        values = {f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data}
        for name in ("command", "entrypoint", "warnings", "exposed"):
            values[name] = tuple(values.get(name, ()))
        values["labels"] = tuple((key, text) for key, text in values.get("labels", ()))
        values["limits"] = Limits.from_json(values.get("limits", {}))
        values["restart"] = RestartPolicy.from_json(values["restart"]) if "restart" in values else NEVER
        values["health"] = Health.from_json(values["health"]) if values.get("health") else None
        rows: dict[str, Any] = {"ports": Port, "steps": Step, "networks": Member, "env": Variable, "mounts": Mount}
        for name, kind in rows.items():
            values[name] = tuple(kind.from_json(row) for row in values.get(name, ()))
        return cls(**values)


@dataclass(frozen=True)
class Event:
    """Una cosa successa al container ``name`` (``id``), come in ``docker events``; ``time`` in secondi Unix.

    ``action`` è ``create start restart die stop kill pause unpause update oom rename health_status exec_create
    exec_start exec_die connect disconnect destroy``. Un ``oom`` dice nei ``details`` chi il kernel ha ucciso:
    ``process`` e ``pid``, che è quello della macchina (0 e "" dove il diario del kernel non si può leggere).
    """

    time: float
    action: str
    name: str
    details: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True)
class Outcome:
    """Il risultato della verifica di un esercizio: che cosa ci si aspettava, che cosa si è trovato."""

    ok: bool
    expected: str
    found: str
    hint: str = ""

    def __bool__(self) -> bool:
        return self.ok
