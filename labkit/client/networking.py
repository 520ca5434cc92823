"""``labkit network``: create ls inspect rm connect disconnect prune, con i nomi e le opzioni di ``docker network``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from labkit.client import commands
from labkit.errors import InvalidError, LabError
from labkit.networks import NetworkInfo


def create(args: argparse.Namespace) -> int:
    if args.ipv6_subnet and not args.ipv6:
        raise InvalidError("--subnet-v6 vale solo con --ipv6.", "aggiungi --ipv6")
    with commands.connect(args.lab) as lab:
        lab.network.create(
            args.name,
            subnet=args.subnet,
            gateway=args.gateway,
            internal=args.internal,
            driver=args.driver,
            ipv6=args.ipv6_subnet or args.ipv6,
            mtu=args.mtu,
        )
    print(args.name)
    return 0


def ls(args: argparse.Namespace) -> int:
    with commands.connect(args.lab) as lab:
        found = lab.network.ls()
    print("\n".join(info.name for info in found) if args.quiet else found)
    return 0


def inspect(args: argparse.Namespace) -> int:
    """``labkit network inspect``: una lista JSON, come in Docker."""
    found: list[dict[str, Any]] = []
    with commands.connect(args.lab) as lab:
        failures = _each(args.names, lambda name: found.append(docker_form(lab.network.inspect(name))))
    print(json.dumps(found, ensure_ascii=False, indent=4))
    return _told(failures)


def rm(args: argparse.Namespace) -> int:
    """``labkit network rm``: i nomi di quelle tolte; perché le altre no."""
    with commands.connect(args.lab) as lab:

        def remove(name: str) -> None:
            lab.network.rm(name)
            print(name)

        failures = _each(args.names, remove)
    return _told(failures)


def _each(names: Sequence[str], action: Callable[[str], object]) -> list[LabError]:
    """La stessa cosa a ogni rete nominata; torna i no."""
    failures = []
    for name in names:
        try:
            action(name)
        except LabError as problem:
            failures.append(problem)
    return failures


def _told(failures: list[LabError]) -> int:
    """Dice i no: l'ultimo lo dice chi ha chiamato, con le parole di un terminale."""
    for problem in failures[:-1]:
        print(problem, file=sys.stderr)
    if failures:
        raise failures[-1]
    return 0


def connect(args: argparse.Namespace) -> int:
    with commands.connect(args.lab) as lab:
        lab.network.connect(
            args.network, args.container, aliases=args.alias, ip=args.ip, ip6=args.ip6, mac=args.mac_address
        )
    return 0


def disconnect(args: argparse.Namespace) -> int:
    with commands.connect(args.lab) as lab:
        lab.network.disconnect(args.network, args.container)
    return 0


def prune(args: argparse.Namespace) -> int:
    with commands.connect(args.lab) as lab:
        print("".join(f"{name}\n" for name in lab.network.prune()), end="")
    return 0


def docker_form(info: NetworkInfo) -> dict[str, Any]:
    """Una rete con i nomi dell'API di Docker (Engine API, ``NetworkInspect``)."""
    pools = [(info.subnet, info.gateway), (info.subnet6, info.gateway6)]
    return {
        "Name": info.name,
        "Driver": info.driver,
        "EnableIPv6": bool(info.subnet6),
        "IPAM": {"Config": [{"Subnet": subnet, "Gateway": gateway} for subnet, gateway in pools if subnet]},
        "Internal": info.internal,
        "Containers": {
            member.container: {
                "Name": member.container,
                "MacAddress": member.mac,
                "IPv4Address": member.ip,
                "IPv6Address": member.ip6,
            }
            for member in info.members
        },
        "Options": {"com.docker.network.bridge.name": info.bridge, "com.docker.network.driver.mtu": str(info.mtu)},
    }
