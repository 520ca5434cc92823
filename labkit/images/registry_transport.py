"""Una domanda HTTP a un registro: quanto si aspetta, quante volte si riprova, che cosa si porta in un rinvio.

Ogni risposta ha una misura massima e ogni attesa una fine; le credenziali vanno solo all'origine per cui
sono; dove si può andare lo dice :mod:`registry_origin`.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import urljoin

import urllib3

from labkit.images.registry_origin import Origin, PassingError, RegistryError, check_move

#: Seconds: to connect, between two pieces, for an answer to begin, and for a small document to be whole.
CONNECT, SILENCE, ANSWER, DOCUMENT = 10.0, 30.0, 60.0, 120.0
#: Slower than this for a whole SILENCE is a connection that somebody keeps alive on purpose. Bytes per second.
SLOWEST = 256
MOST_REDIRECTS = 5
TRIES = 3
LONGEST_WAIT = 30.0
_PIECE = 1 << 18
_PASSING = (408, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_NO_LOOKS = urllib3.Retry(False)


class Answer:
    """Una risposta cominciata: ``status``, ``headers``, e il corpo da leggere con un limite."""

    def __init__(
        self, response: urllib3.BaseHTTPResponse, origin: Origin, url: str, closed: Callable[[Answer], None]
    ) -> None:
        self._response, self._closed = response, closed
        self.origin, self.url, self.status = origin, url, response.status
        self.headers: Mapping[str, str] = response.headers

    def pieces(self, most: int) -> Iterator[bytes]:
        """Il corpo, al massimo ``most`` byte; troppo lento, troppo lungo o tagliato è un errore."""
        total, since, counted = 0, time.monotonic(), 0
        try:
            while data := self._response.read1(_PIECE, decode_content=False):
                total += len(data)
                counted += len(data)
                if total > most:
                    raise RegistryError(f"Il registro {self.origin.host} manda più byte del previsto ({most}).")
                passed = time.monotonic() - since
                if passed > SILENCE:
                    if counted < SLOWEST * passed:
                        raise PassingError(f"Il registro {self.origin.host} manda i byte troppo piano.")
                    since, counted = time.monotonic(), 0
                yield data
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            raise PassingError(f"La connessione con {self.origin.host} si è interrotta ({_reason(problem)}).") from None

    def read(self, most: int) -> bytes:
        """Un corpo piccolo, intero."""
        end = time.monotonic() + DOCUMENT
        parts = []
        for piece in self.pieces(most):
            parts.append(piece)
            if time.monotonic() > end:
                raise PassingError(f"Il registro {self.origin.host} ci mette troppo a mandare un documento.")
        self.close()
        return b"".join(parts)

    def reason(self) -> str:
        """Che cosa ha da dire il registro (distribution-spec, «Error Codes»), ripulito e corto."""
        try:
            errors = json.loads(self.read(1 << 16)).get("errors") or [{}]
            text = str(errors[0].get("message") or errors[0].get("code") or "")
        except (ValueError, LookupError, TypeError, AttributeError, RegistryError, RecursionError):
            text = ""
        return "".join(c for c in text if c.isprintable())[:200]

    def close(self) -> None:
        """Lascia la connessione. Si può chiamare due volte."""
        self._closed(self)
        self._response.close()
        self._response.release_conn()

    def interrupt(self) -> None:
        """Sveglia chi la sta leggendo in un altro thread."""
        try:
            self._response.shutdown()
        except (ValueError, OSError, RuntimeError):  # it has just ended by itself
            pass

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Transport:
    """Le connessioni. Un solo oggetto per più thread; :meth:`interrupt` li ferma tutti."""

    def __init__(self, sleep: Callable[[float], None] | None = None) -> None:
        self._stop = threading.Event()
        self._sleep = sleep or (lambda seconds: self._stop.wait(seconds) and None)
        self._answers: set[Answer] = set()
        self._managers: dict[str, urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def interrupt(self) -> None:
        """Ferma tutto: chi aspetta si sveglia con un errore."""
        self._stop.set()
        with self._lock:
            answers = list(self._answers)
        for answer in answers:
            answer.interrupt()

    def resume(self) -> None:
        """Dopo un'interruzione si può ricominciare."""
        self._stop.clear()

    def check(self) -> None:
        """Solleva se qualcuno ha interrotto."""
        if self._stop.is_set():
            raise RegistryError("Interrotto.")

    def close(self) -> None:
        for manager in self._managers.values():
            manager.clear()

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        secret: str = "",
        body: Iterable[bytes] | bytes | None = None,
    ) -> Answer:
        """Una domanda, seguendo i rinvii. ``secret`` è l'intestazione Authorization, solo per la prima origine."""
        first = here = Origin.of(url)
        for _ in range(MOST_REDIRECTS + 1):
            self.check()
            sent = {"User-Agent": "labkit", "Accept-Encoding": "identity", **headers}
            if secret and here == first:
                sent["Authorization"] = secret
            answer = self._ask(method, url, here, sent, body)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not location or method not in ("GET", "HEAD"):
                return answer
            answer.close()
            url = urljoin(url, location)
            there = Origin.of(url)
            check_move(first, there, "un rinvio")
            check_move(here, there, "un rinvio")
            here = there
        raise RegistryError(f"Il registro {first.host} rinvia in tondo: più di {MOST_REDIRECTS} rinvii.")

    def patiently(
        self, method: str, url: str, headers: Mapping[str, str], *, secret: str = "", body: bytes | None = None
    ) -> Answer:
        """Come :meth:`request`, ma un guasto passeggero si riprova, aspettando ogni volta di più."""
        for attempt in range(1, TRIES + 1):
            try:
                answer = self.request(method, url, headers, secret=secret, body=body)
            except PassingError:
                if attempt == TRIES:
                    raise
                self.back_off(attempt)
                continue
            if answer.status not in _PASSING or attempt == TRIES:
                return answer
            wait = answer.headers.get("Retry-After", "")
            if wait.isdigit() and int(wait) > LONGEST_WAIT:
                return answer
            answer.close()
            self.back_off(attempt, float(wait) if wait.isdigit() else 0.0)
        raise AssertionError("unreachable")

    def back_off(self, attempt: int, least: float = 0.0) -> None:
        """L'attesa prima di riprovare: mezzo secondo, uno, due…"""
        self._sleep(max(least, 0.25 * 2**attempt))
        self.check()

    def _ask(
        self, method: str, url: str, origin: Origin, headers: Mapping[str, str], body: Iterable[bytes] | bytes | None
    ) -> Answer:
        """La domanda in un altro thread: una risposta che non comincia, anche a un byte al minuto, ha una fine."""
        result: queue.SimpleQueue[urllib3.BaseHTTPResponse | BaseException] = queue.SimpleQueue()

        def work() -> None:
            try:
                response = self._manager(origin).request(
                    method, url, headers=headers, body=body, redirect=False, retries=_NO_LOOKS, preload_content=False,
                    decode_content=False, timeout=urllib3.Timeout(connect=CONNECT, read=SILENCE),
                )  # fmt: skip
            except BaseException as problem:  # noqa: BLE001  (raised again by whoever is waiting)
                result.put(problem)
            else:
                result.put(response)

        threading.Thread(target=work, name="images-http", daemon=True).start()
        # Sending a large layer takes its time: the clock is for those who only have to answer.
        end = time.monotonic() + (ANSWER if body is None or isinstance(body, bytes) else float("inf"))
        while True:
            try:
                found = result.get(timeout=0.1)
                break
            except queue.Empty:
                self.check()
                if time.monotonic() > end:
                    raise PassingError(f"Il registro {origin.host} non risponde da {ANSWER:.0f} secondi.") from None
        if isinstance(found, (urllib3.exceptions.HTTPError, OSError)):
            raise _unreachable(origin, found) from None
        if isinstance(found, BaseException):
            raise found
        answer = Answer(found, origin, url, self._forget)
        with self._lock:
            self._answers.add(answer)
        return answer

    def _forget(self, answer: Answer) -> None:
        with self._lock:
            self._answers.discard(answer)

    def _manager(self, origin: Origin) -> urllib3.PoolManager:
        proxy = "" if origin.local or urllib.request.proxy_bypass(origin.host) else _proxy(origin.scheme)
        with self._lock:
            if proxy not in self._managers:
                make = urllib3.ProxyManager(proxy, maxsize=4) if proxy else urllib3.PoolManager(maxsize=4)
                self._managers[proxy] = make
            return self._managers[proxy]


def _proxy(scheme: str) -> str:
    return urllib.request.getproxies().get(scheme, "")


def _reason(problem: BaseException) -> str:
    """Il motivo in due parole; mai l'indirizzo, che può avere dentro una firma."""
    if isinstance(problem, (urllib3.exceptions.TimeoutError, TimeoutError)):
        return "tempo scaduto"
    return type(problem).__name__


def _unreachable(origin: Origin, problem: BaseException) -> RegistryError:
    if isinstance(problem, urllib3.exceptions.SSLError) and "WRONG_VERSION_NUMBER" in str(problem):
        return RegistryError(
            f"Il registro {origin.host} parla in chiaro (http), e così chiunque in mezzo può cambiare un nome.",
            "se è quello della tua classe: labkit pull --tls-verify=false …",
        )
    if isinstance(problem, urllib3.exceptions.SSLError):
        return RegistryError(
            f"Il certificato di {origin.host} non va bene: non so se è davvero lui.",
            "controlla la data della macchina; per un registro con un certificato tuo: export SSL_CERT_FILE=…",
        )
    if isinstance(problem, urllib3.exceptions.NameResolutionError):
        return RegistryError(f"Il registro {origin.host} non esiste, o manca la rete.", f"getent hosts {origin.host}")
    return PassingError(
        f"Il registro {origin.host} non risponde sulla porta {origin.port} ({_reason(problem)}).",
        f"c'è rete?  curl -I {origin.scheme}://{origin.host}:{origin.port}/v2/",
    )
