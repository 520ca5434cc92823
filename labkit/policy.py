"""Che cosa fare di un container mentre vive: se rinasce, come si sa che sta bene, quanto si tiene di ciò che scrive.

Dati immutabili con i nomi di ``docker run``: fanno parte di una :class:`~labkit.model.ContainerSpec`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from labkit.errors import InvalidError

RestartName = Literal["no", "on-failure", "always", "unless-stopped"]
RESTARTS = ("no", "on-failure", "always", "unless-stopped")

HealthStatus = Literal["starting", "healthy", "unhealthy"]

#: Quanto può tenere al massimo un container delle sue uscite: stanno nella memoria del laboratorio.
LOG_MOST = 64 << 20

#: Quanto è grande almeno un file delle uscite.
LOG_LEAST = 1 << 10


@dataclass(frozen=True)
class RestartPolicy:
    """Quando un container finito riparte da solo; ``max_retries`` 0 vuol dire senza limite.

    Vale finché vive il laboratorio, che finendo porta con sé i suoi container. Perciò ``unless-stopped`` qui è come
    ``always``: la differenza, in Docker, si vede quando riparte il motore.

    >>> RestartPolicy.parse("on-failure:3")
    RestartPolicy(name='on-failure', max_retries=3)
    """

    name: RestartName = "no"
    max_retries: int = 0

    def __post_init__(self) -> None:
        if self.name not in RESTARTS:
            raise InvalidError(
                f"«{self.name}» non è una regola di riavvio: {', '.join(RESTARTS)}.", "restart='on-failure:3'"
            )
        if not isinstance(self.max_retries, int) or self.max_retries < 0:
            raise InvalidError(f"Non si può riprovare {self.max_retries} volte.", "restart='on-failure:3'")
        if self.max_retries and self.name != "on-failure":
            raise InvalidError(f"Quante volte riprovare si dice solo con on-failure, non con {self.name}.",
                               f"restart='{self.name}'")  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> RestartPolicy:
        """Legge ``no``, ``on-failure[:N]``, ``always``, ``unless-stopped`` come l'opzione ``--restart``."""
        name, colon, count = text.partition(":")
        if colon and not (count.isascii() and count.isdecimal()):
            raise InvalidError(f"«{count}» non è un numero di tentativi.", "restart='on-failure:3'")
        return cls(name or "no", int(count or 0))  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RestartPolicy:
        return cls(data["name"], data["max_retries"])

    def __str__(self) -> str:
        return f"{self.name}:{self.max_retries}" if self.max_retries else self.name


#: La regola di chi non ne sceglie una.
NEVER = RestartPolicy()


@dataclass(frozen=True)
class HealthCheck:
    """La prova che dice se il programma sta bene, non solo se gira (``HEALTHCHECK`` di Docker).

    ``test`` comincia con ``CMD`` (un comando già diviso), ``CMD-SHELL`` (una riga di shell) o ``NONE`` (nessuna
    prova, neanche quella dell'immagine). I tempi sono in secondi: ``interval`` fra una prova e l'altra,
    ``timeout`` quanto può durare una, ``start_period`` per quanto un no non conta; ``retries`` no di fila vogliono
    dire che sta male.
    """

    test: tuple[str, ...]
    interval: float = 30.0
    timeout: float = 30.0
    retries: int = 3
    start_period: float = 0.0

    def __post_init__(self) -> None:
        words = {"NONE": len(self.test) == 1, "CMD": len(self.test) > 1, "CMD-SHELL": len(self.test) == 2}
        if not self.test or not words.get(self.test[0]) or any("\0" in word for word in self.test):
            raise InvalidError("La prova di salute è un comando da eseguire nel container.", "health_cmd='true'")
        for name, least in (("interval", 0.001), ("timeout", 0.001), ("start_period", 0.0)):
            seconds = getattr(self, name)
            if not math.isfinite(seconds) or seconds < least:
                raise InvalidError(f"health_{name} non può valere {seconds} secondi.", f"health_{name}='30s'")
        if not isinstance(self.retries, int) or self.retries < 1:
            raise InvalidError(f"health_retries è quanti no di fila: {self.retries!r} non va bene.", "health_retries=3")

    @property
    def command(self) -> tuple[str, ...]:
        """Il comando da eseguire; vuoto se non c'è niente da provare."""
        if self.test[0] == "CMD-SHELL":
            return ("/bin/sh", "-c", self.test[1])
        return self.test[1:]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> HealthCheck:
        return cls(**{**data, "test": tuple(data["test"])})


@dataclass(frozen=True)
class Probe:
    """Una prova di salute fatta: inizio e fine in secondi Unix, codice di uscita, ciò che ha scritto (4 KiB)."""

    start: float
    end: float
    exit_code: int
    output: str = ""


@dataclass(frozen=True)
class Health:
    """Come sta un container: lo stato, quanti no di fila, le ultime cinque prove."""

    status: HealthStatus = "starting"
    failing_streak: int = 0
    log: tuple[Probe, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Health:
        return cls(data["status"], data["failing_streak"], tuple(Probe(**probe) for probe in data["log"]))


@dataclass(frozen=True)
class LogLimits:
    """Quanto si tiene delle uscite, come il driver json-file di Docker: ``max_files`` file di ``max_size`` byte.

    Pieno l'ultimo se ne comincia un altro, e il più vecchio si butta. Stanno in memoria: non sono file veri.
    """

    max_size: int = 256 << 10
    max_files: int = 4

    def __post_init__(self) -> None:
        if self.max_size < LOG_LEAST or self.max_files < 1 or self.max_size * self.max_files > LOG_MOST:
            raise InvalidError(
                f"Delle uscite si tengono da {LOG_LEAST} byte a {LOG_MOST >> 20} MiB in tutto: {self.max_files} file "
                f"di {self.max_size} byte non vanno bene.",
                "log_max_size='1m', log_max_files=3",
            )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LogLimits:
        return cls(int(data["max_size"]), int(data["max_files"]))


LOG_DEFAULT = LogLimits()
