"""Il dottore: che cosa sa fare questa macchina per il corso, e come darle quello che le manca."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from labkit.client import diagnosis, machine
from labkit.model import Feature, to_json

#: Without these no container can be born.
LABORATORY = ("where", "kernel", "userns", "namespaces", "overlay", "proc", "bridge", "busybox", "disk_run", "python")

#: What a kernel of our own (User Mode Linux) has, whatever the kernel of this machine refuses.
GUEST = ("kernel", "userns", "namespaces", "overlay", "proc", "bridge")

#: What the other things are for.
LESSONS = {
    "nginx": "lezioni 00, 10, 13 e 14",
    "subuid": "lezioni 03, 06 e 17",
    "nft": "lezioni 10 e 16",
    "cgroup": "lezioni 04 e 14",
    "limits": "lezioni 04 e 14",
    "qemu": "lezioni 01 e 02",
    "jupyterlab": "serve per aprire le lezioni",
    "memory": "le lezioni saranno lente",
    "disk_home": "serve per salvare il lavoro",
}


@dataclass(frozen=True)
class DoctorReport:
    """La visita: una :class:`~labkit.model.Feature` per cosa, nell'ordine in cui si leggono.

    Si scorre (``for f in report``), si interroga (``report["userns"].ok``) e si mostra da sola.

    >>> report = DoctorReport((Feature("nginx", "Server web", False, "non è installato", "sudo apt-get …"),))
    >>> report.summary
    'Questa macchina può fare quasi tutto il corso. Le manca: Server web (lezioni 00, 10, 13 e 14).'
    """

    features: tuple[Feature, ...]

    def __iter__(self) -> Iterator[Feature]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, key: str) -> Feature:
        for feature in self.features:
            if feature.key == key:
                return feature
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(feature.key == key for feature in self.features)

    @property
    def missing(self) -> tuple[Feature, ...]:
        """Le cose che mancano (✘)."""
        return tuple(feature for feature in self.features if feature.ok is False)

    @property
    def ok(self) -> bool:
        """Vero se qui può nascere un laboratorio, anche se manca qualcosa per qualche lezione."""
        return not self._blocking

    @property
    def guest(self) -> bool:
        """Vero se questo kernel rifiuta il laboratorio, che però può vivere in un kernel suo (User Mode Linux)."""
        refused = any(feature.key in GUEST for feature in self.missing)
        return refused and "uml" in self and self["uml"].ok is True

    @property
    def _blocking(self) -> list[str]:
        """The titles of what keeps a laboratory from being born here."""
        elsewhere = GUEST if self.guest else ()
        return [f.title for f in self.missing if f.key in LABORATORY and f.key not in elsewhere]

    @property
    def summary(self) -> str:
        """Una frase: tutto il corso, quasi tutto, o che cosa impedisce di cominciare."""
        if self._blocking:
            return f"Su questa macchina il laboratorio non può nascere. Manca: {', '.join(self._blocking)}."
        untried = [feature.title for feature in self.features if feature.key in LABORATORY and feature.ok is None]
        if self.guest:
            refused = ", ".join(f.title for f in self.missing if f.key in GUEST)
            return f"Qui il laboratorio vivrà in un kernel suo, User Mode Linux. A questa macchina manca: {refused}."
        if untried:
            return f"Non so dire se qui il laboratorio può nascere. Non ho potuto provare: {', '.join(untried)}."
        if not self.missing:
            return "Questa macchina può fare tutto il corso."
        names = [f"{f.title} ({LESSONS[f.key]})" if f.key in LESSONS else f.title for f in self.missing]
        return f"Questa macchina può fare quasi tutto il corso. Le manca: {', '.join(names)}."

    def with_features(self, features: Iterable[Feature]) -> DoctorReport:
        """Lo stesso rapporto con altre voci: quelle di uguale chiave sono sostituite, le nuove in fondo."""
        new = {feature.key: feature for feature in features}
        kept = [new.pop(feature.key, feature) for feature in self.features]
        return DoctorReport((*kept, *new.values()))

    def to_json(self) -> dict[str, Any]:
        """Il rapporto come dati: ``ok``, ``summary`` e l'elenco ``features``."""
        return {"ok": self.ok, "summary": self.summary, "features": to_json(self.features)}

    def __str__(self) -> str:
        width = max((len(feature.title) for feature in self.features), default=0)
        lines = []
        for feature in self.features:
            lines.append(f" {feature.mark} {feature.title:<{width}}  {feature.reason}".rstrip())
            if feature.remedy and feature.ok is not True:
                word = "rimedio" if feature.ok is False else "se lo vuoi"
                lines.append(f"   {'':<{width}}  {word}: {feature.remedy}")
        return "\n".join([*lines, "", self.summary])

    __repr__ = __str__

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": str(self)}
        try:
            from labkit.draw import doctor as drawing
        except ImportError:  # a broken installation is exactly when a doctor must speak
            return bundle
        return {**drawing.mimebundle(self.features), **bundle}


def doctor() -> DoctorReport:
    """Visita questa macchina: che cosa sa fare per il corso, perché no, e il comando che ripara.

    Prova davvero, in processi che durano un istante e non lasciano nulla; finisce entro un secondo e
    mezzo e non fallisce mai. ``labkit doctor`` mostra lo stesso in un terminale.
    """
    facts = machine.examine()
    return DoctorReport(tuple(rule(facts) for rule in diagnosis.RULES))
