"""Il registro del corso: un registro vero su questa macchina (OCI distribution-spec 1.1), per i client di tutti.

Ascolta su loopback e, se chi insegna lo vuole, su un indirizzo della classe, da cui si legge e basta. Docker,
Podman, skopeo e oras ci mandano e ne prendono immagini. Ciò che nessuno usa più torna spazio libero.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from labkit.errors import ConflictError, InvalidError, LabError
from labkit.images.blobs import Blobs
from labkit.images.digest import Digest
from labkit.images.disk import explained, locked, make_folder
from labkit.images.local_registry_api import RegistryServer
from labkit.images.local_registry_log import Request, Requests
from labkit.images.local_registry_shelf import Shelf, forget_uploads, shelves

#: Seconds for which a blob that no manifest names is left alone: its manifest may be on its way.
GRACE = 3600.0


class LocalRegistry:
    """Il registro, acceso finché dura il ``with``; ``address`` è il nome da scrivere davanti alle immagini.

    I byte stanno in ``root``, che è di un registro alla volta; con ``port=0`` la porta la sceglie il kernel. ``host`` è
    un altro indirizzo di questa macchina da cui si può solo leggere. ``watch`` vede ogni domanda appena ha risposta.
    """

    def __init__(
        self, root: str, port: int = 0, host: str = "", watch: Callable[[Request], None] = lambda request: None
    ) -> None:
        self.root, self.host = os.path.abspath(root), host
        self.requests = Requests(watch)
        with ExitStack() as stack:
            with explained(f"preparare la cartella del registro «{self.root}»"):
                make_folder(self.root)
                stack.enter_context(self._only_one())
                self.blobs = Blobs(self.root)
                forget_uploads(self.root)
                self.gc(GRACE)
            with explained(f"aprire la porta {port} per il registro"):
                self._servers = [RegistryServer(("127.0.0.1" if host != "0.0.0.0" else host, port), self)]
                stack.callback(self._servers[0].server_close)
            if host not in ("", "0.0.0.0", "127.0.0.1", "localhost"):
                self._servers.append(self._listen(host))
                stack.callback(self._servers[1].server_close)
            self._threads = [
                threading.Thread(target=one.serve_forever, args=(0.05,), name="registry", daemon=True)
                for one in self._servers
            ]
            self._end = stack.pop_all()

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        """La cartella è nostra finché il registro è acceso."""
        busy = f"La cartella «{self.root}» è già di un registro acceso."
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(f"{self.root}/in-use", patience=0))
            except ConflictError:
                raise ConflictError(busy, "usa quello, oppure scegli un'altra cartella") from None
            yield

    def _listen(self, host: str) -> RegistryServer:
        try:
            return RegistryServer((host, self.port), self)
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                why, remedy = f"la porta {self.port} è già presa", "scegli un'altra porta"
            else:
                why, remedy = "non è un indirizzo di questa macchina", "ip -brief address"
            raise InvalidError(f"Il registro non può ascoltare su «{host}»: {why}.", remedy) from None

    @property
    def port(self) -> int:
        return int(self._servers[0].server_address[1])

    @property
    def address(self) -> str:
        """``127.0.0.1:PORTA``."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> LocalRegistry:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for server in self._servers:
            server.shutdown()
        for thread in self._threads:
            thread.join()
        self._end.close()

    def shelf(self, repository: str) -> Shelf:
        return Shelf(self.root, self.blobs, repository)

    # ------------------------------------------------------------ room

    def changing(self) -> AbstractContextManager[int]:
        """Finché dura, nessuno toglie blob: quelli appena arrivati possono aspettare il loro segno."""
        return locked(f"{self.root}/changes", shared=True)

    def delete(self, shelf: Shelf, where: str) -> bool:
        """Toglie un tag, oppure un manifesto con i suoi tag e ciò che usava solo lui; falso se non c'era."""
        released = shelf.parts(where)
        gone = shelf.remove_manifest(where)
        if released:
            self.reclaim(shelf.repository, released)
        return gone

    def reclaim(self, repository: str, released: Collection[Digest]) -> None:
        """Dopo una cancellazione: toglie ciò che non serve più; se adesso non si può, sarà la prossima volta."""
        try:
            self.gc(GRACE, repository, released)
        except LabError:
            return

    def gc(self, grace: float = 0.0, repository: str = "", released: Collection[Digest] = ()) -> int:
        """Toglie i blob che nessun manifesto nomina; torna i byte liberati.

        Un blob arrivato da meno di ``grace`` secondi resta: il suo manifesto può essere in viaggio. Per quelli in
        ``released``, che in ``repository`` un manifesto lo avevano, non si aspetta.
        """
        with locked(f"{self.root}/changes", patience=5.0, busy="Qualcuno sta mandando un'immagine al registro."):
            now, kept = time.time(), set[Digest]()
            for shelf in shelves(self.root, self.blobs):
                shelf.forget(now - grace, released if shelf.repository == repository else ())
                kept |= shelf.digests()
            freed = sum(self.blobs.remove(digest) for digest in list(self.blobs.all()) if digest not in kept)
            return freed + self.blobs.sweep()
