"""Una macchina piccola e vera per contare che cosa costa fingere un dispositivo (lezione 02).

Il client tiene quattro fili: i comandi alla shell della macchina, il monitor di QEMU, la console, la traccia.
Chi aspetta su uno svuota anche gli altri, altrimenti una traccia lunga fermerebbe la macchina.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from labkit.backends import emulated
from labkit.backends.emulated import CARDS, DISKS, PLACES, Parts, Wires
from labkit.backends.keeper import Kept, keep
from labkit.client.monitor import Monitor
from labkit.client.output import Result, clean
from labkit.client.registers import Counts, Window, accesses, windows
from labkit.errors import BackendError, InvalidError, LabClosedError, LabError

#: MiB di memoria della macchina appena accesa.
MEMORY = 384

#: Il meno che le si può lasciare: sotto, il suo kernel non ha più posto per lavorare.
LEAST = 96

#: Secondi per accendersi, e per eseguire un comando, prima di dire che qualcosa non va.
_BOOT, _PATIENCE = 90.0, 60.0

_DISK = 64 << 20
_TEXT = "Dentro i container, lezione 02: questo è il settore {number} del disco.\n"
_LOOP = "n=0; while [ $n -lt {reads} ]; do read now < /proc/uptime; n=$((n+1)); done"
_CLOCK = "/sys/devices/system/clocksource/clocksource0"


class Machine:
    """Una macchina QEMU con tre dischi e due coppie di schede di rete, che si può misurare.

    ``memory`` in MiB; ``accelerator`` è ``auto``, ``kvm`` o ``tcg``. Se qui manca un pezzo lo dice in una riga
    e resta spenta: ogni metodo ripete la stessa frase.
    """

    def __init__(self, memory: int = MEMORY, accelerator: str = "auto") -> None:
        if memory < LEAST or accelerator not in ("auto", "kvm", "tcg"):
            raise InvalidError(f"memory da {LEAST} in su, accelerator fra auto, kvm e tcg.", "EmulatedMachine()")
        self.memory = memory
        self.accelerator = ""
        self.kernel = ""
        self.problem: LabError | None = None
        self._lock = threading.RLock()
        self._ends = contextlib.ExitStack()
        self._kept: Kept | None = None
        self._asked = 0
        self._heard: dict[str, bytearray] = {name: bytearray() for name in ("commands", "monitor", "console", "trace")}
        self._windows: dict[str, list[Window]] = {}
        try:
            self._boot(emulated.prepare(accelerator, say=lambda line: print(line, file=sys.stderr)))
        except BackendError as problem:
            self.problem = problem
            self.close()
            print(problem, file=sys.stderr)

    # The life

    @property
    def pid(self) -> int:
        """Il PID di QEMU sulla macchina vera."""
        return self._running().pid

    @property
    def disks(self) -> tuple[str, ...]:
        """I dischi che si possono misurare, dal più antico."""
        return tuple(DISKS)

    @property
    def closed(self) -> bool:
        """Vero se la macchina è spenta."""
        return self._kept is None or not self._kept.alive

    def close(self) -> None:
        """Spegne la macchina: di lei non resta niente, né un processo né un file."""
        with self._lock:
            kept, self._kept = self._kept, None
            if kept is not None:
                with contextlib.suppress(OSError):  # the plug is pulled: nothing in it has to be saved
                    self._qmp.sendall(b'{"execute": "quit"}\n')
                kept.end(grace=2.0)
            self._ends.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "spenta" if self.closed else "accesa"
        return f"Macchina emulata {state}: dischi {', '.join(DISKS)}; schede {', '.join(CARDS)}"

    # What it can be asked

    def run(self, command: str, *, quiet: bool = False, timeout: float = _PATIENCE) -> Result:
        """Esegue ``command`` nella shell della macchina (busybox, da root) e ne mostra le uscite."""
        with self._lock:
            result = self._shell(command, timeout)
        if not quiet:
            print(result.output, end="")
        return result

    def read(self, device: str, size: int = 4096, requests: int = 10) -> float:
        """Legge ``requests`` volte ``size`` byte dal disco; torna i secondi passati, senza traccia."""
        command = self._reading(device, size, requests)
        with self._lock:
            start = time.perf_counter()
            self._obeyed(command)
            return time.perf_counter() - start

    def count(self, device: str, size: int = 4096, requests: int = 10) -> Counts:
        """Gli accessi ai registri di ``device`` mentre si leggono ``requests`` volte ``size`` byte.

        ``device`` è un disco: ``ide-pio``, ``ide-dma`` o ``virtio-blk``. Ogni lettura arriva davvero al disco
        (O_DIRECT, open(2)).
        """
        return self._count(device, self._reading(device, size, requests), requests, size)

    def ping_count(self, card: str, pings: int = 100) -> Counts:
        """Gli accessi ai registri delle due schede di una coppia (``e1000``, ``virtio-net``) in ``pings`` ping."""
        if card not in CARDS:
            raise InvalidError(f"La scheda «{card}» non c'è: scegli fra {', '.join(CARDS)}.", "ping_count('e1000')")
        far = f"{CARDS[card]}.2"
        self._obeyed(f"n=0; until ping -q -c 1 -W 1 {far}; do n=$((n+1)); [ $n -lt 20 ] || exit 1; done")
        return self._count(card, f"ping -q -i 0.01 -c {pings} {far}", pings, 56)

    @property
    def clocksources(self) -> tuple[str, ...]:
        """Gli orologi fra cui la macchina può scegliere."""
        return tuple(self._obeyed(f"cat {_CLOCK}/available_clocksource").split())

    @property
    def clocksource(self) -> str:
        """L'orologio che la macchina usa adesso; assegnarlo lo cambia."""
        return self._obeyed(f"cat {_CLOCK}/current_clocksource").strip()

    @clocksource.setter
    def clocksource(self, name: str) -> None:
        known = self.clocksources
        if name not in known:
            raise InvalidError(f"L'orologio «{name}» qui non c'è: ci sono {', '.join(known)}.", "macchina.clocksources")
        self._obeyed(f"echo {name} > {_CLOCK}/current_clocksource")

    def clock_count(self, reads: int = 100) -> Counts:
        """Gli accessi ai registri degli orologi mentre la macchina legge l'ora ``reads`` volte."""
        return self._count("clock", _LOOP.format(reads=reads), reads, 0)

    def balloon(self, memory: int) -> None:
        """Lascia alla macchina ``memory`` MiB, gonfiando o sgonfiando il pallone che sta nella sua memoria."""
        if not LEAST <= memory <= self.memory:
            raise InvalidError(
                f"Alla macchina si possono lasciare da {LEAST} a {self.memory} MiB.", f"balloon({LEAST})"
            )
        with self._lock:
            self._running()
            self._monitor.ask("balloon", value=memory << 20)
            end = time.monotonic() + 30
            while self._monitor.ask("query-balloon")["actual"] != memory << 20:
                if time.monotonic() > end:
                    raise LabError(
                        "Il pallone non si muove: nella macchina il driver non c'è, o la memoria è tutta occupata.",
                        "macchina.run('insmod /lib/virtio_balloon.ko'), oppure un numero più grande",
                    )
                time.sleep(0.02)

    def balloon_size(self) -> int:
        """I MiB che la macchina ha adesso, tolto il pallone."""
        with self._lock:
            self._running()
            return int(self._monitor.ask("query-balloon")["actual"]) >> 20

    def host_memory(self) -> float:
        """I MiB di memoria vera che QEMU occupa adesso (``VmRSS``, proc(5))."""
        with open(f"/proc/{self.pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    # The wires

    def _boot(self, parts: Parts) -> None:
        commands, theirs = socket.socketpair()
        monitor, qmp = socket.socketpair()
        console, stdout = os.pipe()
        trace, stderr = os.pipe()
        initrd = _memory_file(parts.initrd)
        disks = {name: _memory_file(_content(), _DISK) for name in DISKS}
        self._commands, self._qmp, self._console, self._trace = commands, monitor, console, trace
        given = [theirs.fileno(), qmp.fileno(), initrd, *disks.values()]
        self._ends.callback(os.close, console)
        self._ends.callback(os.close, trace)
        self._ends.callback(commands.close)
        self._ends.callback(monitor.close)
        try:
            wires = Wires(theirs.fileno(), qmp.fileno(), initrd, disks)
            self._kept = keep(emulated.command(parts, wires, self.memory), given, stdout, stderr)
        finally:
            theirs.close()
            qmp.close()
            for fd in (initrd, *disks.values(), stdout, stderr):
                os.close(fd)
        self._selector = self._ends.enter_context(selectors.DefaultSelector())
        with contextlib.suppress(OSError):  # a wider pipe only saves some turns
            fcntl.fcntl(trace, fcntl.F_SETPIPE_SZ, 1 << 20)
        for name, fd in (
            ("commands", commands.fileno()),
            ("monitor", monitor.fileno()),
            ("console", console),
            ("trace", trace),
        ):
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ, name)
        self._monitor = Monitor(lambda data: self._say(self._qmp, data), lambda: self._line("monitor", _PATIENCE))
        self.accelerator = parts.accel
        self._monitor.greet()
        self.kernel = self._shell("uname -r", _BOOT).output.strip()
        self._windows = self._look()

    def _look(self) -> dict[str, list[Window]]:
        """Where the registers of each device are: the machine itself knows."""
        names = {"ide-pio": ["ide"], "ide-dma": ["ide"], "virtio-blk": ["virtio-blk"],
                 **{card: [card, f"{card}-far"] for card in CARDS}}  # fmt: skip
        found = {
            device: [
                w
                for name in places
                for w in windows(device, self._obeyed(f"cat /sys/bus/pci/devices/{PLACES[name]}/resource"))
            ]
            for device, places in names.items()
        }
        clocks = []
        for line in self._obeyed("cat /proc/ioports /proc/iomem | grep -E 'PM_TMR|HPET [0-9]'").splitlines():
            first, last = (int(word, 16) for word in line.split()[0].split("-"))
            clocks.append(Window("clock", "l'ora", first, last))
        return {**found, "clock": clocks}

    def _running(self) -> Kept:
        if self.problem is not None:
            raise self.problem
        if self._kept is None or not self._kept.alive:
            raise LabClosedError("La macchina emulata è spenta.", "macchina = EmulatedMachine()")
        return self._kept

    def _reading(self, device: str, size: int, requests: int) -> str:
        if device not in DISKS:
            raise InvalidError(f"Il disco «{device}» non c'è: scegli fra {', '.join(DISKS)}.", "count('virtio-blk')")
        # Below a page the buffer of busybox's dd is not aligned, and the read would go through the page cache.
        if size % 512 or not 4096 <= size <= 1 << 18 or not 1 <= requests <= 10_000:
            raise InvalidError(
                f"{requests} richieste da {size} byte non vanno: i byte vanno da 4096 a 262144, di 512 in 512.",
                f"count('{device}', size=4096, requests=10)",
            )
        return f"dd if=/dev/{DISKS[device]} of=/dev/null bs={size} count={requests} iflag=direct status=none"

    def _count(self, device: str, command: str, requests: int, size: int) -> Counts:
        with self._lock:
            self._running()
            exits = self._monitor.exits() if self.accelerator == "kvm" else None
            self._heard["trace"].clear()
            self._monitor.trace(True)
            start = time.perf_counter()
            try:
                self._obeyed(command)
                seconds = time.perf_counter() - start
            finally:
                self._monitor.trace(False)
            while self._pump(0):  # what QEMU wrote before its answer is all in the pipe
                pass
            found = tuple(accesses(bytes(self._heard["trace"]), self._windows[device]))
            self._heard["trace"].clear()
            after = self._monitor.exits() if exits is not None else None
        left = after - exits if after is not None and exits is not None else None
        return Counts(device, requests, size, found, seconds, left)

    def _obeyed(self, command: str) -> str:
        """The output of a command that must succeed."""
        with self._lock:
            result = self._shell(command, _PATIENCE)
        if result.exit_code:
            said = " ".join(result.output.split())[:200]
            raise LabError(f"Nella macchina «{command}» finisce con {result.exit_code}: {said or 'senza dire niente'}.")
        return result.output

    def _shell(self, command: str, timeout: float) -> Result:
        self._running()
        self._asked += 1
        self._say(self._commands, b"%d %s\n" % (self._asked, base64.b64encode(command.encode())))
        while True:
            number, status, length = map(int, self._line("commands", timeout).split())
            output = self._take("commands", length, timeout)
            if number == self._asked:  # else it is the answer to who was interrupted by Ctrl-C
                return Result(status, clean(output.decode("utf-8", "replace")))

    def _say(self, sock: socket.socket, data: bytes) -> None:
        try:
            sock.sendall(data)
        except OSError:
            raise self._gone() from None

    def _take(self, name: str, length: int, timeout: float) -> bytes:
        heard = self._heard[name]
        self._until(lambda: len(heard) >= length, timeout)
        taken = bytes(heard[:length])
        del heard[:length]
        return taken

    def _line(self, name: str, timeout: float) -> bytes:
        heard = self._heard[name]
        self._until(lambda: b"\n" in heard, timeout)
        return self._take(name, heard.index(b"\n") + 1, timeout)

    def _until(self, done: Callable[[], bool], timeout: float) -> None:
        end = time.monotonic() + timeout
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                self.close()
                raise BackendError("La macchina emulata non risponde più: l'ho spenta.", "macchina = EmulatedMachine()")
            self._pump(left)

    def _pump(self, timeout: float) -> bool:
        """Takes what has arrived on every wire; False when nothing has."""
        ready = self._selector.select(timeout)
        for key, _ in ready:
            try:
                data = os.read(key.fd, 1 << 20)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                raise self._gone()
            self._heard[key.data] += data
            if key.data == "console":
                del self._heard["console"][:-4096]
        return bool(ready)

    def _gone(self) -> LabError:
        """Why the machine has ended: the last words of its console and of QEMU."""
        words = (self._heard["console"] + b"\n" + self._heard["trace"][-2000:]).decode("utf-8", "replace")
        lines = [line for line in clean(words).splitlines() if line.strip() and "memory_region_ops" not in line]
        self.close()
        said = " ".join(lines[-3:])[-300:] or "niente"
        return BackendError(
            f"La macchina emulata si è spenta. Le sue ultime parole: {said}", "macchina = EmulatedMachine()"
        )


def _memory_file(content: bytes, size: int = 0) -> int:
    """A file without a name, in memory: it ends with who holds it, and takes only the pages that were written."""
    fd = os.memfd_create("labkit", os.MFD_CLOEXEC)
    os.write(fd, content)
    os.truncate(fd, max(size, len(content)))
    return fd


def _content() -> bytes:
    return b"".join(_TEXT.format(number=number).encode().ljust(512, b"\0") for number in range(1024))
