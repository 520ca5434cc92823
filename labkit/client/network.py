"""Le reti del laboratorio dalla parte di chi le usa: ``lab.network``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from labkit.client import options
from labkit.errors import InvalidError
from labkit.model import to_json
from labkit.networks import Attachment, Member, NetworkInfo

if TYPE_CHECKING:
    from labkit.client.container import Container
    from labkit.client.wire import Wire


class Network:
    """Una rete del laboratorio: un bridge nel suo kernel, con i container che ci sono attaccati."""

    def __init__(self, lab: WithNetworks, name: str) -> None:
        self.lab = lab
        self.name = name

    def inspect(self) -> NetworkInfo:
        """Com'è fatta, e chi c'è, adesso."""
        return self.lab.network.inspect(self.name)

    def connect(
        self, container: Container | str, *, aliases: Iterable[str] = (), ip: str = "", ip6: str = "", mac: str = ""
    ) -> Member:
        """Attacca un container, anche mentre gira; torna la scheda e gli indirizzi che ha avuto."""
        return self.lab.network.connect(self.name, container, aliases=aliases, ip=ip, ip6=ip6, mac=mac)

    def disconnect(self, container: Container | str) -> None:
        """Stacca un container, anche mentre gira."""
        self.lab.network.disconnect(self.name, container)

    def rm(self) -> None:
        """La toglie, se non c'è nessuno."""
        self.lab.network.rm(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Network({self.name!r})"


class NetworkList(Sequence[NetworkInfo]):
    """Le reti, che si mostrano come la tabella di ``docker network ls``."""

    HEADER = ("NOME", "TIPO", "INDIRIZZI", "CONTAINER")

    def __init__(self, infos: Iterable[NetworkInfo]) -> None:
        self._infos = tuple(infos)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._infos[index]

    def __len__(self) -> int:
        return len(self._infos)

    def __repr__(self) -> str:
        rows = [self.HEADER]
        for info in self._infos:
            kind = info.driver + (", interna" if info.internal else "")
            people = ", ".join(member.container for member in info.members)
            rows.append((info.name, kind, " ".join(filter(None, (info.subnet, info.subnet6))), people))
        widths = [max(len(row[column]) for row in rows) for column in range(len(self.HEADER))]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)


class Networks:
    """``lab.network``: i comandi di ``docker network``."""

    def __init__(self, lab: WithNetworks) -> None:
        self._lab = lab

    def create(
        self,
        name: str,
        *,
        subnet: str = "",
        gateway: str = "",
        internal: bool = False,
        driver: str = "bridge",
        ipv6: bool | str = False,
        mtu: int = 0,
    ) -> Network:
        """Una rete nuova.

        ``subnet`` è la sua fila di indirizzi (``"10.100.0.0/24"``; se manca la sceglie il laboratorio), ``gateway``
        l'indirizzo del suo bridge, ``mtu`` i byte del pacchetto più grande; con ``ipv6`` ha anche indirizzi IPv6
        (``True`` o la fila); da una rete ``internal`` non si esce. Alza
        :class:`~labkit.errors.ConflictError` se il nome o gli indirizzi sono già di qualcuno.
        """
        if driver in ("host", "none", "null"):
            which = "none" if driver == "null" else driver
            raise InvalidError(f"Di reti «{which}» ce n'è una sola, e c'è già.", f"lab.run(…, network='{which}')")
        if driver != "bridge":
            raise InvalidError(f"Il laboratorio non sa fare una rete «{driver}».", "driver='bridge'")
        if not isinstance(mtu, int) or isinstance(mtu, bool):
            raise InvalidError(f"mtu è un numero di byte: {mtu!r} non lo è.", "mtu=1500")
        self._lab.wire.call(
            "network_create",
            name=name,
            subnet=str(subnet),
            gateway=str(gateway),
            internal=bool(internal),
            ipv6="auto" if ipv6 is True else str(ipv6 or ""),
            mtu=mtu,
        )
        return Network(self._lab, name)

    def ls(self) -> NetworkList:
        """Le reti che ci sono: anche ``bridge``, ``host`` e ``none``, che ci sono sempre."""
        return NetworkList(NetworkInfo.from_json(row) for row in self._lab.wire.call("network_ls"))

    def inspect(self, name: str) -> NetworkInfo:
        """Com'è fatta una rete, e chi c'è, adesso."""
        return NetworkInfo.from_json(self._lab.wire.call("network_inspect", name=str(name)))

    def rm(self, name: Network | str) -> None:
        """Toglie una rete; se ci sono dei container alza :class:`~labkit.errors.ConflictError`, che dice quali."""
        self._lab.wire.call("network_rm", name=str(name))

    def prune(self) -> list[str]:
        """Toglie le reti su cui non c'è nessuno; torna i nomi."""
        return list(self._lab.wire.call("network_prune"))

    def connect(
        self,
        network: Network | str,
        container: Container | str,
        *,
        aliases: Iterable[str] = (),
        ip: str = "",
        ip6: str = "",
        mac: str = "",
    ) -> Member:
        """Attacca un container a una rete, anche mentre gira; torna la scheda e gli indirizzi che ha avuto."""
        fields = options.networks({str(network): {"aliases": aliases, "ip": ip, "ip6": ip6, "mac": mac}})
        wanted = (fields.get("attachments") or (Attachment(str(network)),))[0]
        answer = self._lab.wire.call("network_connect", container=_name(container), attachment=to_json(wanted))
        return Member.from_json(answer)

    def disconnect(self, network: Network | str, container: Container | str) -> None:
        """Stacca un container da una rete, anche mentre gira."""
        self._lab.wire.call("network_disconnect", container=_name(container), network=str(network))

    def __repr__(self) -> str:
        return repr(self.ls())


def _name(container: Container | str) -> str:
    return container if isinstance(container, str) else container.name


class WithNetworks:
    """Ciò che ha delle reti: un laboratorio."""

    wire: Wire

    @property
    def network(self) -> Networks:
        """Le reti: ``lab.network.create("interna")``, ``ls``, ``inspect``, ``rm``, ``prune``, ``connect``…"""
        return Networks(self)
