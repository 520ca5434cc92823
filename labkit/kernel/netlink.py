"""La rete vista e cambiata con pyroute2, la libreria di rete del corso (rtnetlink(7)).

È l'unico modulo che importa pyroute2; ogni funzione vale per il namespace di rete di chi chiama.
"""

from __future__ import annotations

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from labkit.kernel.explain import error


def _index(ip: IPRoute, name: str) -> int:
    found = ip.link_lookup(ifname=name)
    if not found:
        raise error("rtnetlink", 19, name)
    return int(found[0])


def links() -> dict[str, str]:
    """Le interfacce di rete e il loro stato (``up`` o ``down``), in ordine di indice."""
    with IPRoute() as ip:
        return {link.get_attr("IFLA_IFNAME"): link["state"] for link in ip.get_links()}


def addresses() -> dict[str, list[str]]:
    """Gli indirizzi IPv4 di ogni interfaccia, come ``10.88.0.2/16``."""
    with IPRoute() as ip:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in ip.get_links()}
        found: dict[str, list[str]] = {name: [] for name in names.values()}
        for entry in ip.get_addr(family=2):
            found[names[entry["index"]]].append(f"{entry.get_attr('IFA_ADDRESS')}/{entry['prefixlen']}")
        return found


def link_up(name: str) -> None:
    """Accende l'interfaccia ``name`` (come ``ip link set NAME up``)."""
    with IPRoute() as ip:
        try:
            ip.link("set", index=_index(ip, name), state="up")
        except NetlinkError as problem:
            raise error("rtnetlink", problem.code, name) from None
