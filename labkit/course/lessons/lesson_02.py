"""Lezione 02, la paravirtualizzazione: quattro esercizi su una macchina, verificati contando e guardandoci dentro."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.catalog import Exercise
from labkit.course.exercises import expect, first_failure, parameter
from labkit.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labkit.client.emulated import Machine

#: How far an answer may be from the measure: the few accesses besides the data depend on the kernel.
_NEAR = 0.05


def _diet(machine: Machine) -> Outcome:
    wanted = parameter("es-02-1")
    found = machine.balloon_size()
    return expect(
        found == wanted,
        f"una macchina con {wanted} MiB",
        f"una macchina con {found} MiB",
        "" if found == machine.memory else "Il pallone si è mosso, ma il numero da lasciare alla macchina è un altro.",
    )


def _right_clock(machine: Machine) -> Outcome:
    count = machine.clock_count()
    quiet = count.per_request < 0.5
    wanted = "un orologio che si legge senza toccare registri"
    return expect(
        quiet,
        wanted,
        wanted if quiet else f"l'orologio {machine.clocksource}: {count.total} accessi in {count.requests} letture",
        "Quali orologi ci sono, lo dice macchina.clocksources. Provali: macchina.clock_count() conta.",
    )


def _sum_first(machine: Machine, answer: object) -> Outcome:
    size = parameter("es-02-3") * 1024

    def steps() -> Iterator[Outcome]:
        number = isinstance(answer, (int, float)) and not isinstance(answer, bool)
        yield expect(number, "un numero", f"{answer!r}")
        if isinstance(answer, (int, float)):
            found = machine.count("ide-pio", size, 2).per_request
            far = abs(answer - found) / found
            yield expect(
                far <= _NEAR,
                f"un numero vicino a quello misurato, {found:.0f}",
                f"{answer:.0f}, " + ("vicino alla misura" if far <= _NEAR else f"lontano dalla misura il {far:.0%}"),
                "Ogni accesso al registro dei dati porta 4 byte. A parte ce n'è una ventina, che si può trascurare.",
            )

    return first_failure(steps())


def _without_interpreter(machine: Machine) -> Outcome:
    def says(command: str) -> str:
        return machine.run(command, quiet=True).output.strip()

    def steps() -> Iterator[Outcome]:
        place = says("cat /sys/bus/pci/devices/0000:00:07.0/vendor")
        yield expect(
            place == "0x1af4",
            "la scheda virtio ancora al suo posto sul bus",
            "il posto vuoto: QEMU non la offre più",
            "Si stacca il driver, non la scheda: sezione 8. Adesso spegni e riaccendi la macchina.",
        )
        driven = int(says("ls -d /sys/bus/virtio/drivers/virtio_net/virtio* 2> /dev/null | wc -l"))
        yield expect(
            driven == 0,
            "nessuna scheda virtio-net con un driver",
            f"{driven} schede con il driver virtio_net",
            "Una scheda spenta ha ancora il suo driver, e le schede sono due: una per ogni capo del cavo.",
        )
        answers = machine.run("ping -q -c 1 -W 5 10.9.1.2", quiet=True).exit_code == 0
        yield expect(
            answers,
            "le schede e1000 che rispondono ancora, e le virtio-net senza driver",
            "le schede e1000 "
            + ("che rispondono ancora, e le virtio-net senza driver" if answers else "che non rispondono più"),
            "Hai toccato anche le schede e1000: spegni e riaccendi la macchina.",
        )

    return first_failure(steps())


EXERCISES = (
    Exercise(
        key="es-02-1",
        title="A dieta",
        goal="Lascia alla macchina esattamente {parametro} MiB di memoria.",
        hints=(
            "C'è un dispositivo fatto per questo, e vive dentro la memoria della macchina: sezione 9.",
            "Il pallone si comanda con macchina.balloon(quanti MiB le restano).",
            "macchina.balloon(mia_memoria)",
        ),
        check=_diet,
        parameter=lambda random: random.randrange(128, 321, 8),
    ),
    Exercise(
        key="es-02-2",
        title="Che ora è, senza disturbare",
        goal="Fai in modo che la macchina legga l'ora senza toccare nessun registro.",
        hints=(
            "La macchina può scegliere fra più orologi. Uno costa niente: quale?",
            "macchina.clocksource è l'orologio in uso, e si può assegnare. macchina.clocksources li elenca.",
            "macchina.clocksource = 'tsc' (con KVM va bene anche 'kvm-clock')",
        ),
        check=_right_clock,
    ),
    Exercise(
        key="es-02-3",
        title="Il conto prima della misura",
        goal="Calcola quanti accessi ai registri servono per leggere {parametro} KiB dal disco ide-pio.",
        hints=(
            "Rileggi la sezione 2: quanti byte porta un accesso al registro dei dati?",
            "I byte sono {parametro} * 1024. Ogni accesso ne porta 4.",
            "risposta = {parametro} * 1024 // 4 + 19",
        ),
        check=_sum_first,
        parameter=lambda random: random.choice((6, 10, 12, 20, 24, 28, 40, 48)),
    ),
    Exercise(
        key="es-02-4",
        title="Senza interprete",
        goal="Stacca il driver dalle schede virtio-net: le schede e1000 devono continuare a funzionare.",
        hints=(
            "Hai già staccato un driver, nella sezione 8. Era quello del disco.",
            "Scrivi il posto della scheda nel file unbind di /sys/bus/pci/drivers/virtio-pci. Le schede sono due.",
            "macchina.run('echo 0000:00:07.0 > /sys/bus/pci/drivers/virtio-pci/unbind'), e lo stesso per 0000:00:08.0",
        ),
        check=_without_interpreter,
    ),
)
