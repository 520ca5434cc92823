"""Il monitor di QEMU (QMP): comandi e risposte in JSON, una per riga, su una presa ereditata."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from labkit.errors import BackendError, LabError

#: Gli eventi della traccia: il processore tocca un registro che QEMU deve fingere.
EVENTS = ("memory_region_ops_read", "memory_region_ops_write")


class Monitor:
    """Chiede e aspetta. ``send`` scrive byte, ``line`` dà la prossima riga: chi la aspetta svuota anche la traccia."""

    def __init__(self, send: Callable[[bytes], None], line: Callable[[], bytes]) -> None:
        self._send = send
        self._line = line
        self._asked = 0

    def greet(self) -> None:
        """La prima riga è di QEMU; poi si sceglie di parlare."""
        self._line()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """La risposta a un comando; LabError se QEMU dice di no."""
        self._asked += 1
        self._send(json.dumps({"execute": command, "arguments": arguments, "id": self._asked}).encode() + b"\n")
        while True:
            answer = json.loads(self._line())
            if answer.get("id") != self._asked:  # an event, or the answer to who was interrupted by Ctrl-C
                continue
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise LabError(f"QEMU rifiuta «{command}»: {answer['error'].get('desc', '')}")

    def trace(self, enable: bool) -> None:
        """Accende o spegne la traccia degli accessi."""
        for event in EVENTS:
            states = self.ask("trace-event-get-state", name=event)
            if not states or states[0]["state"] == "unavailable":
                raise BackendError(
                    "Questo QEMU è stato costruito senza la traccia degli accessi: non si possono contare.",
                    "usa il QEMU di Debian o Ubuntu: sudo apt-get install qemu-system-x86",
                )
            self.ask("trace-event-set-state", name=event, enable=enable)

    def exits(self) -> int | None:
        """Le volte che KVM ha fermato la macchina per un registro, dall'accensione; ``None`` se non lo sa dire."""
        wanted = {"provider": "kvm", "names": ["io_exits", "mmio_exits"]}
        try:
            answer = self.ask("query-stats", target="vcpu", providers=[wanted])
        except LabError:  # an older QEMU, or no KVM at all
            return None
        values = [stat["value"] for result in answer for stat in result["stats"]]
        return sum(values) if values else None
