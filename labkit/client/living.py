"""I comandi di ``labkit`` della vita di un container: create start restart attach rename wait top logs events."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime

from labkit.client import terminal
from labkit.client.commands import connect, each, need_terminal, request, stay
from labkit.client.container import Container
from labkit.client.lab import warn
from labkit.client.output import clean
from labkit.client.wire import Channel
from labkit.errors import InvalidError
from labkit.model import Event, to_json


def create(args: argparse.Namespace) -> int:
    """``labkit create``: come ``docker create``."""
    asked = request(args)
    with connect(args.lab) as lab:
        info = lab.wire.call("create", **asked)
    warn(info)
    print(info["id"])
    return 0


def start(args: argparse.Namespace) -> int:
    """``labkit start``: come ``docker start``; con ``-a`` o ``-i`` resta con un container solo."""
    if not (args.attach or args.interactive):
        return each(args, lambda container: container.start())
    if len(args.names) > 1:
        raise InvalidError("Con -a o -i si avvia un container alla volta.", f"labkit start -a {args.names[0]}")
    with connect(args.lab) as lab:
        return _stay(lab.wire.open("start", name=args.names[0], attach=True), args.interactive)


def attach(args: argparse.Namespace) -> int:
    """``labkit attach``: come ``docker attach``; Ctrl-P Ctrl-Q lo lascia dov'è."""
    with connect(args.lab) as lab:
        return _stay(Container(lab, args.name).attach(), not args.no_stdin)


def _stay(channel: Channel, wants_stdin: bool) -> int:
    """With a program that is there already: the laboratory says first whether it has a terminal and reads its input."""
    piece = channel.receive()
    if piece is None:
        return int(channel.result["exit_code"])
    born = piece[1]["attached"]
    interactive, tty = wants_stdin and born["interactive"], born["tty"]
    need_terminal(tty and interactive, "--no-stdin, per guardare soltanto")
    return stay(channel, interactive=interactive, tty=tty and terminal.is_terminal(1))


def restart(args: argparse.Namespace) -> int:
    """``labkit restart``: come ``docker restart``."""
    return each(args, lambda container: container.restart(args.time))


def rename(args: argparse.Namespace) -> int:
    """``labkit rename``: come ``docker rename``."""
    with connect(args.lab) as lab:
        Container(lab, args.name).rename(args.new)
    return 0


def wait(args: argparse.Namespace) -> int:
    """``labkit wait``: il codice di uscita di ognuno, quando resta fermo."""
    with connect(args.lab) as lab:
        for name in args.names:
            print(Container(lab, name).wait(), flush=True)
    return 0


def top(args: argparse.Namespace) -> int:
    """``labkit top``: i processi di un container, con i PID del laboratorio."""
    with connect(args.lab) as lab:
        rows = Container(lab, args.name).top()
    print("PID     COMANDO")
    for pid, command in rows:
        print(f"{pid:<7} {clean(command)}")
    return 0


def logs(args: argparse.Namespace) -> int:
    """``labkit logs``: i byte come il container li ha scritti, ognuno sul suo flusso."""
    with connect(args.lab) as lab:
        channel = Container(lab, args.name).open_logs(
            follow=args.follow, timestamps=args.timestamps, since=args.since, until=args.until, tail=args.tail
        )
        for stream, data in channel:
            out = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
            out.write(data)
            out.flush()
        dropped = int(channel.result["dropped"])
    if dropped and args.tail == "all" and args.since is None:
        print(f"(Le prime righe, {dropped}, non ci sono più: --log-opt max-size dice quanto tenere.)", file=sys.stderr)
    return 0


def events(args: argparse.Namespace) -> int:
    """``labkit events``: che cosa succede, una riga alla volta, finché non lo si ferma."""
    chosen: dict[str, list[str]] = {}
    for key, value in args.filter:
        chosen.setdefault(key, []).append(value)
    with connect(args.lab) as lab:
        since = args.since if args.since is not None else datetime.now(UTC)
        for event in lab.follow_events(since=since, until=args.until, filters=chosen):
            print(json.dumps(to_json(event), ensure_ascii=False) if args.json else line(event), flush=True)
    return 0


def line(event: Event) -> str:
    """Un evento come lo scrive ``docker events``.

    >>> line(Event(0.5, "die", "web", {"exit_code": 3}, "4f2a"))
    '1970-01-01T00:00:00.500000Z container die 4f2a (exit_code=3, name=web)'
    """
    moment = datetime.fromtimestamp(event.time, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    details = ", ".join(f"{key}={value}" for key, value in [*event.details.items(), ("name", event.name)])
    return f"{moment} container {event.action} {event.id} ({clean(details)})"
