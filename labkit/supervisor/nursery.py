"""I nascituri: processi già nati in namespace nuovi, fermi ad aspettare di sapere quale container saranno.

Nascere è la parte cara di un avvio (il kernel fa sei namespace e copia le tabelle delle pagine di
Python) ed è uguale per tutti: si paga prima, quando il laboratorio non ha altro da fare, e lo fa un altro processo
(:mod:`labkit.supervisor.midwife`). E chi ha avviato
un container spesso ne avvia un altro uguale: per quello un nascituro *atteso* è già *caldo*. Ha fatto la
rete, la radice, le maschere: ogni operazione del piano che dipende solo dall'immagine e dal posto, non da
chi sarà il container. Il piano resta quello di sempre: le operazioni già fatte si riconoscono perché sono
uguali, e il loro costo è quello vero.

Invariante: un nascituro diventa un container solo, o finisce senza essere diventato niente. Fino all'ordine
sa solo immagine, rete e capability, non il nome, il comando o l'ambiente; quello che ha preparato non lo ha mai usato
nessuno.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from labkit.engine.container import Placement, common, plan, split
from labkit.engine.limits import JoinCgroup, MakeCgroup
from labkit.engine.operation import Context, Plan
from labkit.engine.rootfs import ImageRoot
from labkit.errors import InvalidError, LabError, PlanError
from labkit.kernel.cgroups import Cgroup
from labkit.model import ContainerSpec
from labkit.supervisor.midwife import PATIENCE, Midwife, Newborn, readable, send_order
from labkit.supervisor.zygote import Stdio

#: Quanti attesi, se ``LABKIT_WARM`` non dice altro: due, perché chi ne avvia uno dopo l'altro non aspetti.
EXPECTED = 2

#: Più di così sarebbe memoria sprecata: un nascituro ne ha qualche megabyte suo.
MOST_EXPECTED = 16


@dataclass(frozen=True)
class Expectation:
    """Che container ci si aspetta: l'immagine (le cartelle dei suoi strati come sono adesso), la rete, le capability.

    Invariante: c'è ogni campo della descrizione da cui dipende un'operazione fatta in anticipo
    (:func:`labkit.engine.container.common`). Chi ne aggiunge una aggiunge qui il suo campo.
    """

    spec: ContainerSpec
    image: ImageRoot
    stamp: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, spec: ContainerSpec, image: ImageRoot) -> Expectation:
        # The layers of a stored image never change under their name.
        lowers = [os.stat(lower) for tree in image.trees for lower in tree.lowers if not image.digest]
        stamp = tuple((s.st_dev, s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for s in lowers)
        wanted = ContainerSpec(
            spec.image, ("programma",), network=spec.network, cap_add=spec.cap_add, cap_drop=spec.cap_drop
        )
        return cls(wanted, image, stamp)


@dataclass(frozen=True)
class Unborn:
    """Un nascituro dalla parte del supervisore.

    ``lab`` è la parte del laboratorio, già fatta fino alla nascita; ``known`` la sua, che farà senza che nessuno lo
    chieda; ``place`` il posto di chi è atteso; ``group`` il cgroup in cui è già.
    """

    newborn: Newborn
    lab: Plan
    known: Plan
    place: Placement | None = None
    group: Cgroup | None = None

    def await_ready(self) -> bool:
        """Se ha fatto quello che sapeva e aspetta; chi non ha finito si aspetta, perché è comunque più avanti.

        Si chiama una volta sola, perché consuma la sua risposta; ferma il ciclo al massimo ``PATIENCE`` secondi.
        ``False`` se non c'è riuscito: chi chiede quel container lo farà da capo, e saprà perché.
        """
        if not self.newborn.arrive(PATIENCE):
            return False
        channel = self.newborn.channel
        return readable(channel.fileno(), PATIENCE) and channel.recv(1) != b"" and not self.newborn.dead

    def send(self, own: Plan, stdio: Stdio, context: Context) -> bool:
        """Gli dice chi sarà e gli dà i suoi flussi, i segreti, ciò che monterà; ``False`` se nel frattempo è morto."""
        known = self.known.operations
        if own.operations[: len(known)] != known:
            raise PlanError("Quello che è già stato fatto non è l'inizio di questo piano.")
        secrets = [context.secrets] if context.secrets >= 0 else []
        mounts = {target: len(opened.fds) for target, opened in context.mounts.items()}
        fds = [*stdio.child, *secrets, *(fd for opened in context.mounts.values() for fd in opened.fds)]
        try:
            send_order(self.newborn.channel, (own.operations[len(known) :], len(secrets), mounts), fds)
        except OSError:
            return False
        return True


def wanted() -> int:
    """Quanti attesi si vogliono: ``LABKIT_WARM``, da 0 (resta solo quello qualunque) a :data:`MOST_EXPECTED`."""
    text = os.environ.get("LABKIT_WARM", "") or str(EXPECTED)
    if not text.isascii() or not text.isdecimal() or int(text) > MOST_EXPECTED:
        raise InvalidError(
            f"LABKIT_WARM deve essere un numero da 0 a {MOST_EXPECTED}: «{text}» non lo è.", "unset LABKIT_WARM"
        )
    return int(text)


class Nursery:
    """Chi aspetta: uno qualunque, e qualche atteso uguale all'ultimo container chiesto.

    ``context`` dà il contesto con cui un container lavora nel suo processo, ``place`` un posto per la rete
    chiesta, ``group`` un cgroup, ``forget`` rende un posto.
    """

    def __init__(
        self,
        context: Callable[[], Context],
        place: Callable[[str], Placement],
        group: Callable[[], Cgroup | None],
        forget: Callable[[list[Placement]], None],
    ) -> None:
        self._midwife = Midwife(context)
        self._place, self._group, self._forget = place, group, forget
        self._expectation: Expectation | None = None
        self._anyone: Unborn | None = None
        self._expected: list[Unborn] = []
        self._promised: dict[str, Unborn] = {}
        self._last: Unborn | None = None
        self._newborns: list[Newborn] = []
        self._count = wanted()
        self._enabled = True

    def reserve(self, spec: ContainerSpec, image: ImageRoot) -> Placement:
        """Un posto: quello di un atteso che va bene, o uno nuovo per cui nascerà chi aspetta, se aspetta qualcuno."""
        expectation = Expectation.of(spec, image)
        if expectation != self._expectation:
            self.clear()
            self._expectation = expectation
        dead = [unborn for unborn in self._expected if unborn.newborn.dead]
        self._expected = [unborn for unborn in self._expected if unborn not in dead]
        self._abandon(dead)
        while self._expected:
            unborn = self._expected.pop(0)
            if unborn.await_ready() and unborn.place:
                self._promised[unborn.place.folder] = unborn
                return unborn.place
            self._abandon([unborn])
        return self.promise(self._place(spec.network))

    def promise(self, place: Placement) -> Placement:
        """Quel posto, per cui nascerà chi aspetta, se aspetta qualcuno: di lui si sa solo che non sa niente."""
        anyone, self._anyone = self._anyone, None
        if anyone and anyone.await_ready():
            place = replace(place, group=anyone.group)
            self._promised[place.folder] = anyone
        elif anyone:
            self._abandon([anyone])
        return place

    def take(self, place: Placement) -> Unborn | None:
        """Chi è promesso per quel posto; ``None`` se non aspetta nessuno."""
        self._last = self._promised.pop(place.folder, None)
        self._sweep()
        return self._last

    def groups(self) -> set[str]:
        """I nomi dei cgroup di chi aspetta."""
        everyone = [*self._expected, *self._promised.values(), *([self._anyone] if self._anyone else [])]
        return {unborn.group.name for unborn in everyone if unborn.group}

    def give_up(self, place: Placement) -> bool:
        """Il container di quel posto non nascerà: se il posto era promesso, chi lo aspettava finisce.

        ``True`` se il posto era di un atteso, e quindi è già stato reso; se no lo rende chi chiama.
        """
        unborn = self._promised.pop(place.folder, None)
        if unborn:
            self._abandon([unborn])
        return unborn is not None and unborn.place is not None

    def clear(self) -> None:
        """Non ci si aspetta più niente: gli attesi finiscono, i loro posti tornano liberi."""
        self._expectation = None
        expected, self._expected = self._expected, []
        self._abandon(expected)

    def _abandon(self, unborns: list[Unborn]) -> None:
        for unborn in unborns:
            unborn.newborn.drop()
            unborn.lab.rollback(Context())
        self._forget([unborn.place for unborn in unborns if unborn.place])

    def fill(self) -> bool:
        """Ne fa nascere uno, se ne mancano: si chiama quando non c'è altro da fare. ``True`` se qualcuno sta nascendo.

        Chi sta diventando un container, e ha ancora il filo con il supervisore, ha la precedenza.
        """
        self._sweep()
        if not self._enabled or (self._last is not None and self._last.newborn.channel.fileno() >= 0):
            return False
        try:
            if self._anyone is None:
                self._anyone = self._anyone_birth()
            elif self._expectation and len(self._expected) < self._count:
                self._expected.append(self._expected_birth(self._expectation))
            else:
                return any(newborn.coming() for newborn in self._newborns)
        except (LabError, OSError):
            # No more processes, namespaces or addresses here: whoever asks for a container is told why. From now on,
            # for the life of this lab, nobody is born ahead.
            self._enabled = False
            return False
        return True

    def _anyone_birth(self) -> Unborn:
        """Uno qualunque: di lui si sa solo che avrà un cgroup, e ci entra."""
        group = self._group()
        if group is None:
            return self._birth(Plan(()), Plan(()), None, None)
        lab = Plan((MakeCgroup(group),))
        try:
            lab.run(Context())
            return self._birth(lab, Plan((JoinCgroup(group),)), None, group)
        except BaseException:
            lab.rollback(Context())
            raise

    def _expected_birth(self, expectation: Expectation) -> Unborn:
        place = self._place(expectation.spec.network)
        lab, own = split(plan(expectation.spec, expectation.image, place))
        lasting = Plan(tuple(operation for operation in lab.operations if operation.lasting))
        try:
            lasting.run(Context())
            return self._birth(lasting, common(own), place, place.group)
        except BaseException:
            lasting.rollback(Context())
            self._forget([place])
            raise

    def _birth(self, lab: Plan, known: Plan, place: Placement | None, group: Cgroup | None) -> Unborn:
        unborn = Unborn(self._midwife.deliver(known), lab, known, place, group)
        self._newborns.append(unborn.newborn)
        return unborn

    def _sweep(self) -> None:
        """Finisce i gusci di chi non ha più il filo: è diventato un programma, o non è diventato niente."""
        for newborn in self._newborns[:]:
            if newborn.channel.fileno() < 0:
                newborn.leave_shell()
                self._newborns.remove(newborn)
