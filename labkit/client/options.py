"""Dalle opzioni come le scrive lo studente (quelle di docker run) alla descrizione pura del container."""

from __future__ import annotations

import base64
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from labkit import units, volumes
from labkit.client.environment import env_files, environment, secrets, templates
from labkit.client.sources import named, stored
from labkit.errors import InvalidError
from labkit.limits import LIMIT_NAMES, Limits, Rates
from labkit.model import ContainerSpec, Port, to_json
from labkit.networks import Attachment
from labkit.policy import LOG_DEFAULT, HealthCheck, LogLimits, RestartPolicy

if TYPE_CHECKING:
    from labkit.client.images import Images

Command = str | Iterable[str] | None
Moment = str | float | datetime | None


def command(value: Command) -> tuple[str, ...]:
    """Il comando come tupla: un testo si divide come farebbe una shell.

    >>> command("echo 'due parole'")
    ('echo', 'due parole')
    """
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError:
            raise InvalidError(
                f"Nel comando «{value}» c'è un apice aperto e non chiuso.", "['sh', '-c', '…']"
            ) from None
    if not isinstance(value, Iterable):
        raise InvalidError(f"Un comando è un testo o una lista di testi: {value!r} non lo è.", "['sleep', '10']")
    parts = tuple(value)
    for part in parts:
        if not isinstance(part, str):
            raise InvalidError(f"Il comando contiene {part!r}, che non è un testo.", "['sleep', '10']")
    return parts


def ports(value: str | int | Iterable[str | int] | Mapping[Any, Any] | None) -> tuple[Port, ...]:
    """Le porte da pubblicare: ``"8080:80"``, una lista, o un dizionario ``{porta del container: porta dell'host}``.

    >>> ports({80: 8080}) == ports("8080:80")
    True
    """
    if value is None:
        return ()
    if isinstance(value, Mapping):
        return tuple(Port.parse(f"{host or 0}:{container}") for container, host in value.items())
    if isinstance(value, (str, int)):
        value = [value]
    return tuple(port for entry in value for port in Port.parse_all(entry))


def networks(value: Any, aliases: Any = None, ip: Any = None, ip6: Any = None, mac: Any = None) -> dict[str, Any]:
    """Le reti di un container: un nome, una lista, o ``{"interna": {"aliases": ["web"], "ip": "10.89.0.10"}}``.

    ``aliases``, ``ip``, ``ip6`` e ``mac`` sono della prima rete, come in ``docker run``. Torna i campi ``network`` e
    ``attachments`` della descrizione.

    >>> networks(["interna", "esterna"])["network"]
    'interna'
    """
    if value is None or isinstance(value, str):
        value = [value or "bridge"]
    if not isinstance(value, Iterable):
        raise InvalidError(f"network vuole un testo, o una lista: {value!r} non lo è.", "network='bridge'")
    names = list(value)
    rows: list[Attachment] = []
    for name in names:
        if not isinstance(name, str):
            raise InvalidError(f"network vuole dei nomi di rete: {name!r} non lo è.", "network=['una', 'altra']")
        more = value[name] or {} if isinstance(value, Mapping) else {}
        if not isinstance(more, Mapping) or not set(more) <= {"aliases", "ip", "ip6", "mac"}:
            raise InvalidError(
                f"Della rete «{name}» si può dire aliases, ip, ip6 e mac.", "network={'interna': {'aliases': ['web']}}"
            )
        if len(names) == 1 and (name in ("none", "host") or name.startswith("container:")):
            if more or aliases or ip or ip6 or mac:
                raise InvalidError(f"Con network='{name}' nomi e indirizzi non si scelgono.", "togli le altre opzioni")
            return {"network": name}
        one = Attachment.parse(name)
        rows.append(replace(one, **{**more, "aliases": (*one.aliases, *_words(more.get("aliases")))}))
    if not rows:
        raise InvalidError("Manca la rete.", "network='none', per non averne")
    first: dict[str, Any] = {key: str(given) for key, given in (("ip", ip), ("ip6", ip6), ("mac", mac)) if given}
    rows[0] = replace(rows[0], aliases=(*rows[0].aliases, *_words(aliases)), **first)
    usual = rows == [Attachment(rows[0].network)]
    return {"network": rows[0].network, "attachments": () if usual else tuple(rows)}


def stdin(value: str | bytes | None) -> bytes | None:
    """Lo stdin come byte."""
    if value is None or isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InvalidError(f"stdin vuole un testo o dei byte: {value!r} non lo è.", "stdin='una riga\\n'")
    return value.encode()


def seconds(value: float, name: str) -> float:
    """Un numero di secondi, non negativo."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
        raise InvalidError(f"{name} vuole un numero di secondi, da zero in su: {value!r} non lo è.", f"{name}=10")
    return float(value)


def moment(value: Moment, name: str) -> float | None:
    """Un istante in secondi Unix: un numero, un ``datetime``, un testo ISO 8601, o quanto tempo fa (``"5m"``).

    >>> moment("1970-01-01T00:01:00Z", "since")
    60.0
    """
    if value is None or isinstance(value, datetime):
        return value.timestamp() if value else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return time.time() - units.duration(value, name)


def tail(value: int | str | None) -> int | None:
    """Quante righe, le ultime: un numero, o ``"all"`` per tutte."""
    if value is None or value == "all":
        return None
    if isinstance(value, bool) or not str(value).isdecimal():
        raise InvalidError(f"tail è quante righe mostrare: «{value}» non lo è.", "tail=10")
    return int(value)


def filters(value: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """Che cosa scegliere: ``{"event": "die"}`` o ``{"event": ["die", "start"]}``."""
    if value is not None and not isinstance(value, Mapping):
        raise InvalidError(f"filters vuole un dizionario: {value!r} non lo è.", "filters={'event': 'die'}")
    return {key: list(_words(words)) for key, words in (value or {}).items()}


_HEALTH = ("interval", "timeout", "retries", "start_period")


def health(options: Mapping[str, Any]) -> HealthCheck | None:
    """La prova di salute dalle opzioni ``health_*`` e ``no_healthcheck``; ``None`` se nessuno la chiede.

    >>> health({"health_cmd": "test -e /pronto", "health_interval": "500ms"}).interval
    0.5
    """
    given: dict[str, Any] = {name: options.get(f"health_{name}") for name in _HEALTH}
    given = {name: value for name, value in given.items() if value is not None}
    test = options.get("health_cmd")
    if options.get("no_healthcheck"):
        if test or given:
            raise InvalidError("no_healthcheck e le opzioni health_ si contraddicono.", "togli no_healthcheck")
        return HealthCheck(("NONE",))
    if not test:
        if given:
            raise InvalidError("Manca la prova da fare: le altre opzioni health_ da sole non bastano.",
                               "health_cmd='true'")  # fmt: skip
        return None
    words = ("CMD-SHELL", test) if isinstance(test, str) else ("CMD", *command(test))
    times = {name: units.duration(value, f"health_{name}") for name, value in given.items() if name != "retries"}
    return HealthCheck(words, **{**given, **times})


def log_limits(options: Mapping[str, Any]) -> LogLimits:
    """Quanto si tiene delle uscite, da ``log_max_size`` e ``log_max_files``."""
    size, files = options.get("log_max_size"), options.get("log_max_files")
    if files is not None and (not isinstance(files, int) or isinstance(files, bool)):
        raise InvalidError(f"log_max_files è quanti pezzi tenere: {files!r} non va bene.", "log_max_files=3")
    return LogLimits(
        LOG_DEFAULT.max_size if size is None else units.size(size, "log_max_size"),
        LOG_DEFAULT.max_files if files is None else files,
    )


def restart(value: Any) -> RestartPolicy:
    """La regola di riavvio da un testo come ``on-failure:3``."""
    if value is not None and not isinstance(value, str):
        raise InvalidError(f"restart vuole un testo: {value!r} non lo è.", "restart='on-failure:3'")
    return RestartPolicy.parse(value or "no")


#: Le opzioni di :meth:`Lab.run`: quelle di ``docker run``, scritte con «_».
NAMES = frozenset({
    "name", "entrypoint", "env", "env_file", "secrets", "templates", "hostname", "read_only", "user", "workdir",
    "network", "network_alias", "ip", "ip6", "mac_address", "publish", "cap_add", "cap_drop", "tty", "window",
    "interactive", "init", "remove", "restart", "stop_signal", "stop_timeout", "health_cmd", "health_interval",
    "health_timeout", "health_retries", "health_start_period", "no_healthcheck", "log_max_size", "log_max_files",
    "volumes", "mounts", "tmpfs", "volumes_from", *LIMIT_NAMES,
})  # fmt: skip


def spec(image: Any, cmd: Command, **options: Any) -> ContainerSpec:
    """La descrizione di un container dalle opzioni di :meth:`Lab.run`."""
    unknown = sorted(set(options) - NAMES)
    if unknown:
        raise InvalidError(f"Opzione sconosciuta: {', '.join(unknown)}.", f"le opzioni sono {', '.join(sorted(NAMES))}")
    for name in ("name", "hostname", "user", "workdir", "stop_signal"):
        if options.get(name) is not None and not isinstance(options[name], (str, int)):
            raise InvalidError(f"{name} vuole un testo: {options[name]!r} non lo è.", f"{name}='…'")
    return ContainerSpec(
        image=named(image),
        command=command(cmd),
        entrypoint=None if (entrypoint := options.get("entrypoint")) is None else command(entrypoint),
        name=_text(options.get("name")),
        env=environment(options.get("env")),
        env_file=env_files(options.get("env_file")),
        secrets=tuple(secrets(options.get("secrets"))),
        templates=templates(options.get("templates")),
        hostname=_text(options.get("hostname")),
        read_only=bool(options.get("read_only")),
        user=_text(options.get("user")),
        workdir=_text(options.get("workdir")),
        **networks(
            options.get("network"),
            *(options.get(name) for name in ("network_alias", "ip", "ip6", "mac_address")),
        ),
        publish=ports(options.get("publish")),
        cap_add=_words(options.get("cap_add")),
        cap_drop=_words(options.get("cap_drop")),
        tty=bool(options.get("tty")),
        window=tuple(options.get("window") or ()),
        interactive=bool(options.get("interactive")),
        init=bool(options.get("init")),
        remove=bool(options.get("remove")),
        stop_signal=_text(options.get("stop_signal")),
        stop_timeout=10.0 if (grace := options.get("stop_timeout")) is None else seconds(grace, "stop_timeout"),
        restart=restart(options.get("restart")),
        health=health(options),
        log=log_limits(options),
        limits=Limits(**limits(options)),
        mounts=volumes.read(options.get("volumes"), options.get("mounts"), options.get("tmpfs")),
        volumes_from=_words(options.get("volumes_from")),
    )


def request(image: Any, cmd: Command, *, images: Images | None = None, **options: Any) -> dict[str, Any]:
    """Gli argomenti dei verbi ``run``, ``create`` e ``plan``.

    La descrizione; a parte i valori dei segreti (in base64), e dove sta l'immagine se è una di quelle conservate
    (``images`` scarica quella che manca).
    """
    held = secrets(options.get("secrets"))
    pull, platform = options.pop("pull", None) or "missing", options.pop("platform", None) or ""
    wanted = spec(image, cmd, **{**options, "secrets": held})
    found: dict[str, Any] = {"spec": to_json(wanted)}
    if place := stored(image, pull, platform, images):
        found["stored"] = place
    if held:
        found["secrets"] = {name: base64.b64encode(value).decode() for name, value in held.items()}
    return found


def limits(options: Mapping[str, Any]) -> dict[str, Any]:
    """I limiti che ci sono fra le opzioni, letti: ``memory="64m"`` diventa dei byte; gli altri non compaiono.

    >>> limits({"memory": "64m", "cpus": None})
    {'memory': 67108864}
    """
    values: dict[str, Any] = {}
    for name in LIMIT_NAMES:
        value = options.get(name)
        if value is None:
            continue
        if name.startswith("memory"):
            values[name] = -1 if str(value) == "-1" else units.size(value, name)
        elif name.startswith("device"):
            values[name] = _rates(value, name)
        else:
            values[name] = str(value) if name == "cpuset_cpus" else _number(value, name)
        if values[name] == -1 and name in ("memory", "pids_limit"):  # Docker's way to say: no limit
            values[name] = 0
    return values


def _number(value: Any, name: str) -> Any:
    try:
        return float(value) if name == "cpus" else int(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidError(f"{name} vuole un numero: {value!r} non lo è.", f"{name}=1") from None


def _rates(value: Any, name: str) -> Rates:
    """``"/dev/sda:4m"``, una lista di questi, o un dizionario ``{dispositivo: byte al secondo}``."""
    if isinstance(value, Mapping):
        rows: list[Any] = list(value.items())
    else:
        rows = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    pairs = [row.rpartition(":")[::2] if isinstance(row, str) else row for row in rows]
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise InvalidError(f"{name} vuole un dispositivo e dei byte al secondo.", f"{name}='/dev/sda:4m'")
    return tuple((str(device), units.size(rate, name)) for device, rate in pairs)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _words(value: str | Iterable[str] | None) -> tuple[str, ...]:
    if value is not None and not isinstance(value, Iterable):
        raise InvalidError(f"Qui ci vogliono nomi: {value!r} non lo è.", "cap_add='NET_ADMIN'")
    return () if value is None else (value,) if isinstance(value, str) else tuple(map(str, value))
