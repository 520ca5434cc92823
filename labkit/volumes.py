"""Che cosa un container ha in più della sua immagine: volumi, cartelle della macchina, tmpfs.

Le tre scritture di Docker diventano lo stesso :class:`Mount`: ``-v`` (:func:`parse_volume`), ``--mount``
(:func:`parse_mount`), ``--tmpfs`` (:func:`parse_tmpfs`). Qui si legge e si controlla, senza toccare niente.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from labkit import units
from labkit.errors import InvalidError


def default_root() -> str:
    """Dove stanno i volumi: ``LABKIT_VOLUMES``, oppure la cartella dei dati dell'utente."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.abspath(os.environ.get("LABKIT_VOLUMES") or f"{data}/labkit/volumes")


MountType = Literal["volume", "bind", "tmpfs"]

#: La regola di Docker per i nomi dei volumi: almeno due caratteri.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}")

#: Più di così non ne passano in un messaggio solo (unix(7), SCM_MAX_FD), e a nessuno ne servono tanti.
MOST = 64

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")

#: Quello che il container ha già di suo: sopra non ci si monta niente.
_OWN = ("/proc", "/sys", "/dev/pts", "/dev/mqueue")

#: Cartelle della macchina che non si danno a nessuno: non sono file, è il kernel.
_KERNEL = ("/proc", "/sys", "/dev")


@dataclass(frozen=True)
class Mount:
    """Una cosa da montare in ``target``.

    ``source`` è il nome del volume (vuoto: uno anonimo) o il percorso di una cartella o di un file della macchina;
    ``propagation`` vale per i bind, ``copy`` per i volumi (se è nuovo, prende ciò che l'immagine ha in ``target``),
    ``size`` (byte, 0 senza limite), ``mode`` (permessi) e ``exec`` per i tmpfs.
    """

    type: MountType
    target: str
    source: str = ""
    read_only: bool = False
    propagation: str = "rprivate"
    copy: bool = True
    size: int = 0
    mode: int = 0o1777
    exec: bool = False
    anonymous: bool = False

    def __post_init__(self) -> None:
        if not self.target.startswith("/") or "\0" in self.target + self.source:
            raise InvalidError(
                f"«{self.target}» non può essere il posto di un volume: nel container un percorso comincia con «/».",
                "volumes='dati:/var/lib/dati'",
            )
        if ".." in self.target.split("/") or posixpath.normpath(self.target) in ("/", "//"):
            raise InvalidError(f"Sopra «{self.target}» non si può montare niente.", "volumes='dati:/var/lib/dati'")
        refused_target(self.target)
        if self.type == "volume" and self.source:
            check_name(self.source)
        if self.type == "bind":
            _check_bind(self)
        if self.propagation not in PROPAGATIONS:
            raise InvalidError(f"La propagazione «{self.propagation}» non c'è: {', '.join(PROPAGATIONS)}.")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Mount:
        known = {f.name: f for f in dataclasses.fields(cls)}
        for key, value in data.items():
            kind = {"bool": bool, "int": int}.get(str(known[key].type), str) if key in known else None
            if kind is None or not isinstance(value, kind):
                raise InvalidError(f"Un volume non ha «{key}» uguale a {value!r}.")
        if data.get("type") not in ("volume", "bind", "tmpfs"):
            raise InvalidError(f"Il tipo di volume «{data.get('type')}» non c'è: volume, bind o tmpfs.")
        return cls(**data)

    def __str__(self) -> str:
        return f"{self.source or self.type}:{self.target}{':ro' if self.read_only else ''}"


@dataclass(frozen=True)
class Volume:
    """Un volume come lo racconta il laboratorio (``docker volume inspect``).

    ``mountpoint`` è la cartella sul disco, ``created_at`` in secondi Unix; ``used_by`` i container di questo
    laboratorio che lo montano, ``busy`` se lo usa qualcuno, anche altrove; ``size`` i byte che occupa (-1: ignoti).
    """

    name: str
    mountpoint: str
    created_at: float
    labels: tuple[tuple[str, str], ...] = ()
    anonymous: bool = False
    used_by: tuple[str, ...] = ()
    busy: bool = False
    size: int = -1

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Volume:
        values = {f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data}
        values["labels"] = tuple((str(key), str(value)) for key, value in values.get("labels", ()))
        values["used_by"] = tuple(values.get("used_by", ()))
        return cls(**values)


def check_name(name: str) -> str:
    """Il nome, se può essere quello di un volume."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidError(
            f"«{name}» non può essere il nome di un volume: da due lettere, cifre, «_», «.» e «-» in su, cominciando "
            "da una lettera o una cifra; per una cartella della macchina scrivi ./ davanti.",
            "volumes='dati:/var/lib/dati'",
        )
    return name


def _check_bind(mount: Mount) -> None:
    if not mount.source.startswith("/"):
        raise InvalidError(f"«{mount.source}» non è il percorso intero di una cartella.", "volumes='./sito:/srv'")
    refused_source(mount.source)


def refused_source(path: str) -> None:
    """Rifiuta una cartella della macchina che a un container non si dà: la radice, i file del kernel."""
    if posixpath.normpath(path) in ("/", "//") or _below(path, _KERNEL):
        raise InvalidError(
            f"«{path}» non si dà a un container: chi ha tutta la radice, o i file del kernel, non è più isolato.",
            "scegli una cartella tua: volumes='./sito:/srv'",
        )


def refused_target(path: str) -> None:
    """Rifiuta un posto che in ogni container è del kernel."""
    if _below(path, _OWN):
        raise InvalidError(
            f"«{path}» è del kernel, in ogni container: lì non si monta un volume.", "volumes='dati:/var/lib/dati'"
        )


def _below(path: str, tops: Iterable[str]) -> bool:
    return any(path == top or path.startswith(top + "/") for top in tops)


def check(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    """Tutti insieme: un posto solo per ciascuno, e non troppi. Tornano nell'ordine in cui si montano."""
    found = sorted(mounts, key=lambda mount: posixpath.normpath(mount.target).count("/"))
    places: set[str] = set()
    for mount in found:
        place = posixpath.normpath(mount.target)
        if place in places:
            raise InvalidError(f"Due volumi vogliono lo stesso posto: «{place}».", "togline uno")
        places.add(place)
    if len(found) > MOST:
        raise InvalidError(f"Un container può avere al massimo {MOST} volumi: qui sono {len(found)}.")
    return tuple(found)


# ---------------------------------------------------------------- -v


def parse_volume(text: str) -> Mount:
    """Legge ``[SORGENTE:]POSTO[:OPZIONI]`` come ``-v``: un nome è un volume, un percorso una cartella della macchina.

    >>> parse_volume("dati:/var/lib/dati:ro")
    Mount(type='volume', target='/var/lib/dati', source='dati', read_only=True, propagation='rprivate', copy=True, size=0, mode=1023, exec=False, anonymous=False)
    """  # noqa: E501
    parts = text.split(":") if isinstance(text, str) else []
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise InvalidError(f"Non capisco il volume «{text}»: ci vuole [SORGENTE:]POSTO[:ro].",
                           "volumes='dati:/var/lib/dati'")  # fmt: skip
    if len(parts) == 1:
        return Mount("volume", parts[0], anonymous=True)
    source, target = parts[:2]
    return _source(source, target, _options(parts[2] if len(parts) == 3 else "", text))


def _source(source: str, target: str, options: Mapping[str, Any]) -> Mount:
    if source[0] in "/.~":
        if "copy" in options:
            raise InvalidError("nocopy vale per i volumi: una cartella della macchina non si riempie mai.")
        return Mount("bind", target, os.path.abspath(os.path.expanduser(source)), **options)
    if "propagation" in options:
        raise InvalidError("La propagazione vale per le cartelle della macchina, non per i volumi.")
    return Mount("volume", target, source, **options)


def _options(text: str, whole: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in filter(None, text.split(",")):
        if word in ("ro", "rw"):
            found["read_only"] = word == "ro"
        elif word == "nocopy":
            found["copy"] = False
        elif word in PROPAGATIONS:
            found["propagation"] = word
        elif word in ("z", "Z"):
            raise InvalidError(f"«{word}» cambia le etichette di SELinux, e qui non si toccano.", "togli l'opzione")
        else:
            raise InvalidError(f"Non capisco «{word}» nel volume «{whole}»: ro, rw, nocopy o una propagazione.")
    return found


# ---------------------------------------------------------------- --mount

_KEYS = {
    "type": "type", "source": "source", "src": "source", "target": "target", "destination": "target", "dst": "target",
    "readonly": "read_only", "ro": "read_only", "bind-propagation": "propagation", "volume-nocopy": "copy",
    "tmpfs-size": "size", "tmpfs-mode": "mode",
}  # fmt: skip
_ONLY = {"propagation": "bind", "copy": "volume", "size": "tmpfs", "mode": "tmpfs"}


def parse_mount(text: str) -> Mount:
    """Legge ``type=volume,source=dati,target=/dati,readonly`` come ``--mount``.

    >>> parse_mount("type=tmpfs,target=/run,tmpfs-size=1m").size
    1048576
    """
    values: dict[str, Any] = {"type": "volume"}
    for word in text.split(","):
        key, equals, value = word.partition("=")
        name = _KEYS.get(key.strip().lower())
        if name is None:
            if key.startswith("volume-"):
                raise driver_refused(key)
            raise InvalidError(f"--mount non ha «{key}»: ci sono {', '.join(sorted(_KEYS))}.",
                               "--mount type=volume,source=dati,target=/dati")  # fmt: skip
        if name in ("read_only", "copy"):
            truth = _truth(value if equals else "true", key)
            values[name] = truth if name == "read_only" else not truth
        elif name == "size":
            values[name] = units.size(value, key)
        elif name == "mode":
            values[name] = _octal(value)
        else:
            values[name] = value
    kind = values["type"]
    if kind not in ("volume", "bind", "tmpfs"):
        raise InvalidError(f"--mount type={kind} non c'è: volume, bind o tmpfs.")
    for name, only in _ONLY.items():
        if name in values and kind != only:
            raise InvalidError(f"In «{text}» c'è un'opzione di {only}, ma il tipo è {kind}.")
    if not values.get("target") or (kind == "bind" and not values.get("source")):
        raise InvalidError(f"In «{text}» manca {'source' if values.get('target') else 'target'}.",
                           "--mount type=volume,source=dati,target=/dati")  # fmt: skip
    if kind == "bind":
        values["source"] = os.path.abspath(os.path.expanduser(values["source"]))
    if kind == "tmpfs" and values.get("source"):
        raise InvalidError("Un tmpfs è memoria: non ha source.")
    return Mount(**values, anonymous=kind == "volume" and not values.get("source"))


def _truth(value: str, key: str) -> bool:
    if value.lower() not in ("true", "1", "false", "0"):
        raise InvalidError(f"{key} è true o false, non «{value}».")
    return value.lower() in ("true", "1")


def _octal(value: str) -> int:
    try:
        mode = int(value, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise InvalidError(f"«{value}» non è un permesso in ottale.", "tmpfs-mode=1770")
    return mode


# ---------------------------------------------------------------- --tmpfs


def parse_tmpfs(text: str) -> Mount:
    """Legge ``POSTO[:size=64m,mode=1770,exec,ro]`` come ``--tmpfs``.

    >>> parse_tmpfs("/run:size=1m").size
    1048576
    """
    target, _, rest = text.partition(":")
    values: dict[str, Any] = {}
    for word in filter(None, rest.split(",")):
        key, _, value = word.partition("=")
        if key == "size":
            values["size"] = units.size(value, "size")
        elif key == "mode":
            values["mode"] = _octal(value)
        elif word in ("exec", "noexec"):
            values["exec"] = word == "exec"
        elif word in ("ro", "rw"):
            values["read_only"] = word == "ro"
        elif word not in ("nosuid", "nodev"):  # always so
            raise InvalidError(f"Un tmpfs non ha «{word}»: size, mode, exec, noexec, ro, rw.", "tmpfs='/run:size=64m'")
    return Mount("tmpfs", target, **values)


def driver_refused(what: str) -> InvalidError:
    """L'errore di chi vuole un volume che non sta in una cartella di questa macchina."""
    return InvalidError(
        f"«{what}» riguarda i driver dei volumi: qui c'è solo «local», una cartella di questa macchina.",
        "labkit volume create dati",
    )


# ---------------------------------------------------------------- as they are asked for in Python


def read(
    volumes: str | Iterable[str] | Mapping[str, Any] | None = None,
    mounts: str | Iterable[str] | None = None,
    tmpfs: str | Iterable[str] | Mapping[str, str] | None = None,
) -> tuple[Mount, ...]:
    """I montaggi dalle opzioni di :meth:`Lab.run`.

    ``volumes`` è un testo, una lista, o un dizionario ``{sorgente: posto}`` (anche nella forma di docker-py,
    ``{sorgente: {"bind": posto, "mode": "ro"}}``).

    >>> read({"dati": "/dati"}) == read("dati:/dati") == read({"dati": {"bind": "/dati", "mode": "rw"}})
    True
    """
    found: list[Mount] = []
    if isinstance(volumes, Mapping):
        for source, place in volumes.items():
            if isinstance(place, Mapping):
                place = f"{place.get('bind', '')}:{place.get('mode', 'rw')}"
            found.append(parse_volume(f"{source}:{place}"))
    else:
        found += [parse_volume(text) for text in _several(volumes, "volumes='dati:/dati'")]
    found += [parse_mount(text) for text in _several(mounts, "mounts='type=volume,source=dati,target=/dati'")]
    if isinstance(tmpfs, Mapping):
        found += [parse_tmpfs(f"{target}:{options}") for target, options in tmpfs.items()]
    else:
        found += [parse_tmpfs(text) for text in _several(tmpfs, "tmpfs='/run:size=64m'")]
    return check(found)


def _several(value: Any, example: str) -> list[str]:
    rows: list[Any] = [] if value is None else list(value) if isinstance(value, Iterable) else [value]
    rows = [value] if isinstance(value, str) else rows
    if not all(isinstance(row, str) for row in rows):
        raise InvalidError(f"Un volume si scrive con un testo: {value!r} non lo è.", example)
    return rows
