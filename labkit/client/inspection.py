"""``labkit inspect``: quello che si sa di un container o di un'immagine, nella forma di ``docker inspect``."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from labkit import rundir
from labkit.client.commands import connect
from labkit.client.container import Container
from labkit.client.images import Images
from labkit.client.lab import Lab
from labkit.errors import InvalidError, LabError, NotFoundError
from labkit.model import ContainerInfo

#: Come Docker scrive «mai».
_NEVER = "0001-01-01T00:00:00Z"


def inspect(args: argparse.Namespace) -> int:
    """``labkit inspect``: come ``docker inspect``, una lista JSON; chi non c'è si dice su stderr.

    Un nome è prima di un container del laboratorio, se ce n'è uno aperto, e poi di un'immagine.
    """
    found, failed = [], 0
    with ExitStack() as stack:
        wanted = args.type == "container" or args.lab or (rundir.live() and args.type != "image")
        lab = stack.enter_context(connect(args.lab)) if wanted else None
        for name in args.names:
            try:
                found.append(_found(lab, name, args.type))
            except LabError as problem:
                print(problem, file=sys.stderr)
                failed = 1
    print(json.dumps(found, ensure_ascii=False, indent=4))
    return failed


def _found(lab: Lab | None, name: str, kind: str) -> dict[str, Any]:
    if lab and kind != "image":
        try:
            return docker_form(Container(lab, name).inspect())
        except NotFoundError:
            if kind == "container":
                raise
    try:
        return Images().image(name).inspect()
    except (NotFoundError, InvalidError) as problem:  # a container's name may be none that an image could have
        if kind == "image":
            raise
        remedy = "labkit ps -a, oppure labkit images" if lab else problem.remedy
        raise NotFoundError(f"«{name}» non è né un container né un'immagine.", remedy) from None


def docker_form(info: ContainerInfo) -> dict[str, Any]:
    """Un container con i nomi dell'API di Docker (Engine API, ``ContainerInspect``): quelli che qui hanno un senso.

    ``Config.Env`` è l'ambiente con cui il programma parte: i segreti non ci sono.
    """
    state: dict[str, Any] = {
        "Status": info.state,
        "Running": info.pid > 0,
        "Paused": info.state == "paused",
        "Restarting": info.state == "restarting",
        "OOMKilled": info.oom_killed,
        "Pid": info.pid,
        "ExitCode": info.exit_code or 0,
        "Error": info.error,
        "StartedAt": _moment(info.started_at),
        "FinishedAt": _moment(info.finished_at),
    }
    if info.health:
        state["Health"] = {"Status": info.health.status, "FailingStreak": info.health.failing_streak}
    return {
        "Id": info.id,
        "Created": _moment(info.created_at),
        "Path": info.command[0] if info.command else "",
        "Args": list(info.command[1:]),
        "State": state,
        "Name": f"/{info.name}",
        "Image": info.image_id or info.image,
        "RestartCount": info.restart_count,
        "HostConfig": {
            "NetworkMode": info.network,
            "RestartPolicy": {"Name": info.restart.name, "MaximumRetryCount": info.restart.max_retries},
            "Memory": info.limits.memory,
            "MemorySwap": info.limits.memory_swap,
            "NanoCpus": round(info.limits.cpus * 1e9),
            "CpuShares": info.limits.cpu_shares,
            "CpusetCpus": info.limits.cpuset_cpus,
            "PidsLimit": info.limits.pids_limit or None,
        },
        "Mounts": [
            {
                "Type": mount.type,
                **({"Name": mount.source} if mount.type == "volume" else {}),
                "Source": mount.source if mount.type == "bind" else "",
                "Destination": mount.target,
                "RW": not mount.read_only,
            }
            for mount in info.mounts
        ],
        "Config": {
            "Hostname": info.hostname,
            "User": "" if info.user == "0" else info.user,
            "Env": [str(variable) for variable in info.env],
            "Cmd": list(info.command[len(info.entrypoint) :]),
            "Image": info.image,
            "WorkingDir": info.workdir,
            "Entrypoint": list(info.entrypoint) or None,
            "Labels": dict(info.labels),
            "ExposedPorts": {port: {} for port in info.exposed},
        },
        "NetworkSettings": {
            "IPAddress": info.ip,
            "Ports": {
                f"{port.container_port}/{port.protocol}": [{"HostIp": port.host_ip, "HostPort": str(port.host_port)}]
                for port in info.ports
            },
            "Networks": {
                member.network: {
                    "Aliases": list(member.aliases),
                    "IPAddress": member.ip,
                    "GlobalIPv6Address": member.ip6,
                    "MacAddress": member.mac,
                }
                for member in info.networks
            },
        },
    }


def _moment(seconds: float) -> str:
    """Un istante come lo scrive Docker (RFC 3339, ora universale).

    >>> _moment(0), _moment(1.5)
    ('0001-01-01T00:00:00Z', '1970-01-01T00:00:01.500000Z')
    """
    if not seconds:
        return _NEVER
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
