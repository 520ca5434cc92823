"""Le opzioni dei comandi sulle reti, con i nomi di ``docker``: dichiarate qui, lette da :mod:`labkit.cli`."""

from __future__ import annotations

from labkit.client import arguments
from labkit.client.italian import Parser, natural


def joining(p: Parser) -> None:
    """Le opzioni di run e create sulle reti."""
    p.option("--network", "--net", metavar="RETE", action="append", default=[],
             help="bridge (predefinita), none, host, container:NOME o una rete tua; più volte: più reti")  # fmt: skip
    p.option("--network-alias", metavar="NOME", action="append", default=[], help="un altro nome sulla prima rete")
    p.option("--ip", metavar="IP", default="", help="quale indirizzo sulla prima rete")
    p.option("--ip6", metavar="IP", default="", help="quale indirizzo IPv6")
    p.option("--mac-address", metavar="MAC", default="", help="l'indirizzo della sua scheda")


def create(p: Parser) -> None:
    p.option("-d", "--driver", metavar="TIPO", default="bridge", help="di che tipo: bridge")
    p.option("--subnet", metavar="RETE", default="", help="i suoi indirizzi (10.100.0.0/24)")
    p.option("--gateway", metavar="IP", default="", help="l'indirizzo del suo bridge")
    p.flag("--internal", help="da lì non si esce")
    p.flag("--ipv6", help="anche indirizzi IPv6")
    p.option("--subnet-v6", metavar="RETE", default="", dest="ipv6_subnet", help="quali indirizzi IPv6 (fd00:1::/64)")
    p.option("--mtu", metavar="BYTE", type=natural("la misura"), default=0, help="il pacchetto più grande (1500)")
    arguments.lab(p)
    p.value("name", metavar="RETE", help="il nome della rete")


def listing(p: Parser) -> None:
    p.flag("-q", "--quiet", help="solo i nomi")
    arguments.lab(p)


def networks(p: Parser) -> None:
    arguments.lab(p)
    p.value("names", metavar="RETE", nargs="+", help="le reti")


def connect(p: Parser) -> None:
    p.option("--alias", metavar="NOME", action="append", default=[], help="un altro nome su quella rete")
    p.option("--ip", metavar="IP", default="", help="quale indirizzo")
    p.option("--ip6", metavar="IP", default="", help="quale indirizzo IPv6")
    p.option("--mac-address", metavar="MAC", default="", help="l'indirizzo della scheda")
    pair(p)


def pair(p: Parser) -> None:
    arguments.lab(p)
    p.value("network", metavar="RETE", help="la rete")
    p.value("container", metavar="NOME", help="il container")
