"""Chi monta che cosa, vivo: i container di un laboratorio e i loro volumi, cartelle, memoria; vedi ``lab.mounts``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from labkit.draw import mounts
from labkit.draw.mounts import Row, Source, Use
from labkit.errors import NotFoundError
from labkit.widgets.following import Cells, Following


class HasMounts(Protocol):
    """Quello che il disegno chiede a un laboratorio."""

    @property
    def closed(self) -> bool: ...
    @property
    def volume(self) -> Any: ...
    def ps(self, all: bool = False) -> Sequence[Any]: ...


class MountMap(Following):
    """Il disegno con i suoi comandi; con dei nomi, solo quei container, e di volumi solo i loro."""

    def __init__(self, lab: HasMounts, names: Sequence[str] = (), interval: float = 1.0) -> None:
        self._lab = lab
        self._names = names
        self._seen = self._read()
        self.map = Cells(svg=mounts.to_svg(*self._seen, live=True))
        super().__init__(lab, self.map, "Chiede adesso al laboratorio chi monta che cosa", interval)

    def words(self) -> str:
        return mounts.text(*self._seen)

    def look(self) -> None:
        seen = self._read()
        if seen != self._seen:
            self._seen = seen
            self.map.news = mounts.summary(*seen)
            self.map.svg = mounts.to_svg(*seen, live=True)

    def _read(self) -> tuple[list[Row], list[Source]]:
        volumes = {one.name: Source("volume", one.name, one.size) for one in self._lab.volume.ls()}
        rows = []
        for container in self._lab.ps(all=True):
            if self._names and container.name not in self._names:
                continue
            try:
                found = container.inspect().mounts
            except NotFoundError:  # it went away meanwhile
                continue
            rows.append(Row(container.name, tuple(_use(container.name, mount, volumes) for mount in found)))
        return rows, [] if self._names else list(volumes.values())


def _use(container: str, mount: Any, volumes: dict[str, Source]) -> Use:
    source = Source("tmpfs", f"{container}, {mount.target}", mount.size or -1)
    if mount.type == "volume":
        source = volumes.get(mount.source, Source("volume", mount.source))
    elif mount.type == "bind":
        source = Source("bind", mount.source)
    return Use(mount.target, source, mount.read_only)
