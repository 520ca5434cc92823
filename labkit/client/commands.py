"""I comandi di ``labkit`` che parlano a un laboratorio: run exec ps stop kill rm.

Con un laboratorio aperto (quello del notebook) parlano con lui; ``run`` senza ne apre uno che vive
quanto il comando.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from labkit import rundir
from labkit.client import arguments, options, terminal
from labkit.client.container import Container
from labkit.client.environment import secret_options, template_options
from labkit.client.lab import Lab, warn
from labkit.client.wire import Channel
from labkit.draw.words import ago
from labkit.errors import ConflictError, InvalidError, LabError, NotFoundError
from labkit.limits import LIMIT_NAMES
from labkit.model import ContainerInfo, to_json
from labkit.networks import PREDEFINED


def run(args: argparse.Namespace) -> int:
    """``labkit run``: come ``docker run``."""
    asked = request(args)
    need_terminal(args.tty and args.interactive, "togli -t, lascia -i")
    shared = bool(args.lab or rundir.live())
    if args.detach and not shared:
        raise ConflictError(
            "Con -d il container vivrebbe quanto questo comando: nessun laboratorio è aperto.",
            "apri un notebook con lab = Lab(), oppure togli -d",
        )
    if not shared:
        _only_usual_networks(asked["spec"])
    lab = connect(args.lab) if shared else Lab()
    with lab:
        if args.detach:
            info = lab.wire.call("run", attach=False, **asked)
            warn(info)
            print(info["id"])
            return 0
        channel = lab.wire.open("run", attach=True, stdin=args.interactive, **asked)
        channel.on_event = warn
        return stay(channel, interactive=args.interactive, tty=args.tty, detachable=shared)


def _only_usual_networks(spec: dict[str, Any]) -> None:
    """A laboratory that is not born yet has only the networks that each one has."""
    names = [spec["network"], *(attachment["network"] for attachment in spec["attachments"])]
    for name in names:
        if name not in PREDEFINED:
            raise NotFoundError(f"La rete «{name}» non c'è: nessun laboratorio è aperto.", "network='bridge'")


def execute(args: argparse.Namespace) -> int:
    """``labkit exec``: come ``docker exec``."""
    if not args.command:
        raise InvalidError("labkit exec: manca il comando da eseguire.", f"labkit exec {args.name} ps")
    need_terminal(args.tty and args.interactive, "togli -t, lascia -i")
    with connect(args.lab) as lab:
        channel = Container(lab, args.name).open_exec(
            args.command,
            env=args.env,
            env_file=args.env_file,
            user=args.user,
            workdir=args.workdir,
            stdin=args.interactive,
            tty=args.tty,
            window=_window(args),
        )
        return stay(channel, interactive=args.interactive, tty=args.tty)


def request(args: argparse.Namespace) -> dict[str, Any]:
    """The options of ``Lab.run``, read and checked once, before any laboratory is born."""
    wanted = {
        name: getattr(args, name)
        for name in (
            "name", "env", "env_file", "hostname", "read_only", "user", "workdir", "network_alias", "ip", "ip6",
            "mac_address", "publish", "cap_add", "cap_drop", "tty", "init", "remove", "interactive", "pull", "platform",
            *LIMIT_NAMES,
        )
    }  # fmt: skip
    program = args.entrypoint  # one word: Docker does not split it, and an empty one takes the image's away
    return options.request(
        args.image,
        args.command,
        entrypoint=None if program is None else [program] if program else [],
        network=args.network or None,
        secrets=secret_options(args.secret),
        templates=template_options(args.template),
        window=_window(args),
        **wanted,
        **arguments.mounted(args),
        **arguments.life(args),
    )


def need_terminal(needed: bool, remedy: str) -> None:
    """Who types into a program's terminal must have one."""
    if needed and not terminal.is_terminal(0):
        raise ConflictError(
            "Qui ci vuole un terminale, e l'ingresso di questo comando non lo è.",
            remedy,
            exit_code=1,
        )


def _window(args: argparse.Namespace) -> tuple[int, ...]:
    """The size with which the program's terminal is born: a program that asks at once already finds it."""
    return terminal.window_size(1) if args.tty else ()


class _Program:
    """An attached program as :mod:`labkit.client.terminal` wants it: the channel, and how it ended."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.exit_code: int | None = None
        #: Left running, with Ctrl-P Ctrl-Q.
        self.left = False
        self.send = channel.send
        self.resize = channel.resize
        self.close_stdin = channel.close_stdin
        self.detach = channel.detach

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        yield from self._channel
        ended = self._channel.result
        self.left = bool(ended.get("detached"))
        self.exit_code = int(ended["exit_code"] or 0)

    def end(self, signal: str) -> None:
        """A signal, and whatever it still writes is thrown away."""
        try:
            self._channel.interrupt(signal)
        except LabError:
            return  # already over


def stay(channel: Channel, *, interactive: bool, tty: bool, detachable: bool = True) -> int:
    """Stay with a program until it ends. Ctrl-C is the program's; the second one kills it.

    In a terminal Ctrl-P Ctrl-Q leaves it running, if its laboratory outlives this command.
    """
    program = _Program(channel)
    signals = iter(("SIGINT", "SIGKILL"))
    while True:
        try:
            code = terminal.attach(program, interactive=interactive, tty=tty, detachable=detachable)
            if program.left:
                print("\nLasciato: il programma continua da solo.", file=sys.stderr)
            return code
        except KeyboardInterrupt:
            try:
                program.end(next(signals))
            except StopIteration:
                raise KeyboardInterrupt from None
        except SystemExit:  # SIGTERM, or the terminal's window was closed
            program.end("SIGHUP" if tty else "SIGTERM")
            raise


def ps(args: argparse.Namespace) -> int:
    """``labkit ps``: la tabella, gli id (``-q``) o i dati (``--json``)."""
    with connect(args.lab) as lab:
        infos = [ContainerInfo.from_json(row) for row in lab.wire.call("ps", all=args.all)]
    if args.json:
        print(json.dumps([to_json(info) for info in infos], ensure_ascii=False, indent=2))
    elif args.quiet:
        print("".join(f"{info.id}\n" for info in infos), end="")
    else:
        print(table(infos, time.time()))
    return 0


HEADER = ("ID", "IMMAGINE", "COMANDO", "CREATO", "STATO", "PORTE", "NOME")


def table(infos: list[ContainerInfo], now: float) -> str:
    """La tabella di ``docker ps``, in italiano."""
    rows = [HEADER]
    for info in infos:
        command = " ".join(info.command)
        rows.append(
            (
                info.id[:12],
                info.image,
                command if len(command) <= 24 else command[:23] + "…",
                f"{ago(now - info.created_at)} fa",
                _state(info),
                ", ".join(map(str, info.ports)),
                info.name,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _state(info: ContainerInfo) -> str:
    if info.state == "running":
        return f"gira da {ago(info.uptime)}"
    if info.state == "paused":
        return "in pausa"
    states = {"created": "creato", "paused": "in pausa", "restarting": f"riparte ({info.exit_code})"}
    return states.get(info.state, f"finito ({info.exit_code})")


def stop(args: argparse.Namespace) -> int:
    """``labkit stop``: come ``docker stop``."""
    return each(args, lambda container: container.stop(args.time))


def kill(args: argparse.Namespace) -> int:
    """``labkit kill``: come ``docker kill``."""
    return each(args, lambda container: container.kill(args.signal))


def rm(args: argparse.Namespace) -> int:
    """``labkit rm``: come ``docker rm``."""
    return each(args, lambda container: container.rm(args.force, volumes=args.volumes))


def each(args: argparse.Namespace, action: Callable[[Container], object]) -> int:
    """La stessa cosa a ogni container nominato: quelli a cui riesce sono scritti, gli altri spiegati."""
    failed = 0
    with connect(args.lab) as lab:
        for name in args.names:
            try:
                action(Container(lab, name))
            except LabError as problem:
                print(problem, file=sys.stderr)
                failed = 1
            else:
                print(name)
    return failed


def connect(lab_id: str) -> Lab:
    """Il laboratorio aperto con quell'id, o l'ultimo."""
    try:
        return Lab.connect(lab_id)
    except NotFoundError as problem:
        if lab_id and rundir.live():
            known = ", ".join(record.id for _, record in rundir.live())
            raise NotFoundError(problem.message, f"uno di questi: {known}") from None
        if lab_id:
            raise
        remedy = "apri un notebook con lab = Lab(), oppure: labkit run busybox"
        raise NotFoundError("Nessun laboratorio è aperto.", remedy) from None
