"""Dove stanno i volumi: una cartella dell'utente, fuori dal laboratorio, divisa da tutti i suoi laboratori.

Un volume è una cartella con dentro ``_data`` (ciò che i container vedono), ``volume.json`` e, finché nessuno lo ha
usato, il segno ``nuovo``. Nasce accanto e prende il suo nome con un rename: o c'è tutto o non c'è. Chi lo usa tiene un
lucchetto in condivisione, e il kernel lo lascia quando il laboratorio muore: si toglie solo ciò che nessuno tiene.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from labkit.engine.rootfs import remove_tree
from labkit.engine.volumes import DATA, FRESH
from labkit.errors import ConflictError, NotFoundError
from labkit.volumes import NAME, Volume, check_name

_LOCKS, _NEW, _GONE = ".locks", ".new-", ".gone-"

#: Secondi che si aspetta chi sta per lasciare un volume.
_PATIENCE = 0.2


class Shelf:
    """I volumi sotto ``root``; la cartella si fa alla prima scrittura."""

    def __init__(self, root: str) -> None:
        self.root = root

    def create(self, name: str = "", labels: Iterable[tuple[str, str]] = ()) -> str:
        """Fa un volume, se non c'è già (come Docker); senza nome è anonimo. Torna il nome."""
        anonymous = not name
        name = check_name(name or os.urandom(32).hex())
        if not os.path.isdir(f"{self.root}/{name}"):
            self.finish(self.begin(labels, anonymous=anonymous), name)
        return name

    def begin(self, labels: Iterable[tuple[str, str]] = (), *, anonymous: bool = False, fresh: bool = True) -> str:
        """Un volume senza nome, ancora di nessuno: torna la sua cartella; ``fresh`` se l'immagine lo può riempire."""
        os.makedirs(f"{self.root}/{_LOCKS}", mode=0o700, exist_ok=True)
        building = f"{self.root}/{_NEW}{os.urandom(6).hex()}"
        os.makedirs(f"{building}/{DATA}", mode=0o755)
        os.chmod(f"{building}/{DATA}", 0o755)
        facts = {"created_at": time.time(), "labels": [list(pair) for pair in labels], "anonymous": anonymous}
        _write(f"{building}/volume.json", json.dumps(facts).encode())
        if fresh:
            _write(f"{building}/{FRESH}", b"")
        _sync(building)
        return building

    def finish(self, building: str, name: str) -> bool:
        """Gli dà il suo nome; ``False`` se intanto quel nome lo ha preso un altro."""
        try:
            os.rename(building, f"{self.root}/{name}")
        except OSError:
            remove_tree(building)
            if not os.path.isdir(f"{self.root}/{name}"):
                raise
            return False
        _sync(self.root)
        return True

    def exists(self, name: str) -> bool:
        return os.path.isdir(f"{self.root}/{check_name(name)}")

    def path(self, name: str) -> str:
        """La cartella di un volume che c'è."""
        check_name(name)
        if not os.path.isdir(f"{self.root}/{name}/{DATA}"):
            known = ", ".join(self.names()[:8]) or "nessuno"
            raise NotFoundError(f"Il volume «{name}» non c'è. Quelli che ci sono: {known}.",
                                f"labkit volume create {name}")  # fmt: skip
        return f"{self.root}/{name}"

    def names(self) -> list[str]:
        """I nomi, in ordine."""
        try:
            found = os.listdir(self.root)
        except FileNotFoundError:
            return []
        return sorted(name for name in found if NAME.fullmatch(name))

    def inspect(self, name: str) -> Volume:
        folder = self.path(name)
        try:
            with open(f"{folder}/volume.json", encoding="utf-8") as file:
                facts = json.load(file)
        except (OSError, ValueError):  # the data are what matters
            facts = {}
        return Volume(
            name=name,
            mountpoint=f"{folder}/{DATA}",
            created_at=float(facts.get("created_at", 0)),
            labels=tuple((str(key), str(value)) for key, value in facts.get("labels", ())),
            anonymous=bool(facts.get("anonymous")),
            busy=not self._free(name),
        )

    # ------------------------------------------------------------ who uses it

    def hold(self, name: str) -> int:
        """Un descrittore: finché è aperto, nessuno toglie quel volume."""
        lock = self._lock(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)  # who has it alone is looking, or taking the name away: no time at all
            self.path(name)
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _lock(self, name: str) -> int:
        os.makedirs(f"{self.root}/{_LOCKS}", mode=0o700, exist_ok=True)
        return os.open(f"{self.root}/{_LOCKS}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _free(self, name: str, patience: float = 0.0) -> bool:
        with self._alone(name, patience) as free:
            return free

    @contextmanager
    def _alone(self, name: str, patience: float = _PATIENCE) -> Iterator[bool]:
        """Se nessuno lo tiene; un figlio appena nato tiene per un attimo i lucchetti del padre, e lo si aspetta."""
        lock = self._lock(name)
        end = time.monotonic() + patience
        try:
            while not (free := _try_lock(lock)) and time.monotonic() < end:
                time.sleep(0.005)
            yield free
        finally:
            os.close(lock)

    # ------------------------------------------------------------ the end

    def remove(self, name: str) -> str:
        """Toglie un volume che nessuno usa; torna la cartella con ciò che conteneva, da cancellare con calma."""
        folder = self.path(name)
        with self._alone(name) as free:
            if not free:
                raise ConflictError(
                    f"Il volume «{name}» è usato da un container: finché c'è il container resta anche lui.",
                    "togli prima il container: labkit rm",
                )
            gone = f"{self.root}/{_GONE}{os.urandom(6).hex()}"
            os.rename(folder, gone)
            _sync(self.root)
            return gone

    def unused(self, everything: bool = False) -> list[str]:
        """I volumi che nessuno usa: gli anonimi, o tutti (``docker volume prune``)."""
        return [
            name
            for name in self.names()
            if self._free(name, _PATIENCE) and (everything or self.inspect(name).anonymous)
        ]

    def leftovers(self) -> list[str]:
        """Cartelle di volumi tolti, o che da un'ora stanno nascendo: di chi è stato interrotto."""
        try:
            with os.scandir(self.root) as entries:
                return [
                    entry.path
                    for entry in entries
                    if entry.name.startswith(_GONE)
                    or (entry.name.startswith(_NEW) and entry.stat().st_mtime < time.time() - 3600)
                ]
        except FileNotFoundError:
            return []


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def usage(folder: str) -> int:
    """I byte che una cartella occupa sul disco, contando una volta sola i file con più nomi."""
    seen: set[tuple[int, int]] = set()
    total = 0
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if (info.st_dev, info.st_ino) in seen:
                    continue
                if info.st_nlink > 1:
                    seen.add((info.st_dev, info.st_ino))
                total += info.st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return total


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
