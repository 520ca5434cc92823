"""Quando un container finito riparte da solo, e dopo quanto: la regola di Docker, senza orologio e senza processi.

La prima attesa è di 100 ms e raddoppia ogni volta, fino a un minuto; dopo dieci secondi di vita si ricomincia
da capo.
"""

from __future__ import annotations

from labkit.policy import RestartPolicy

FIRST = 0.1
LONGEST = 60.0
#: Un programma che ha girato tanto stava bene: la prossima attesa è di nuovo la prima.
GOOD_RUN = 10.0


class Restarts:
    """Le ripartenze di un container: quante, e quanto aspettare prima della prossima.

    >>> restarts = Restarts(RestartPolicy("on-failure", 2))
    >>> [restarts.wait(1, 0.5), restarts.wait(1, 0.5), restarts.wait(1, 0.5)]
    [0.1, 0.2, None]
    """

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self.reset()

    def reset(self) -> None:
        """Qualcuno lo ha avviato a mano: si ricomincia a contare."""
        self.count = 0
        self._next = FIRST

    def wait(self, exit_code: int, seconds: float) -> float | None:
        """I secondi da aspettare prima di ripartire, se il programma ha girato ``seconds``; ``None`` se resta fermo."""
        if seconds >= GOOD_RUN:
            self._next = FIRST
        if not self._again(exit_code):
            return None
        wait, self._next = self._next, min(self._next * 2, LONGEST)
        self.count += 1
        return wait

    def _again(self, exit_code: int) -> bool:
        if self.policy.name == "on-failure":
            return exit_code != 0 and (not self.policy.max_retries or self.count < self.policy.max_retries)
        return self.policy.name != "no"
