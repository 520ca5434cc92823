"""I comandi di ``labkit`` sulle immagini: pull push images rmi tag save load import history login logout…

Non serve un laboratorio aperto: parlano con la cartella delle immagini di questo utente.
"""

from __future__ import annotations

import argparse
import getpass
import os
import signal
import sys
import threading
import time
from typing import BinaryIO

from labkit.client import progress
from labkit.client.images import Images, Show
from labkit.client.registry import CourseRegistry, default_root, row
from labkit.errors import ConflictError, InvalidError, LabError
from labkit.images.local_registry_log import Request
from labkit.images.reference import DEFAULT_REGISTRY, parse
from labkit.images.registry_login import login as enter
from labkit.images.registry_login import logout as leave
from labkit.limits import show_bytes


class _Command(Images):
    """The same verbs, for a terminal: with ``-q`` nothing is shown while the bytes travel."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def _view(self, title: str, sending: bool) -> Show:
        return progress.quiet if self._quiet else progress.usual()


def pull(args: argparse.Namespace) -> int:
    """``labkit pull``: come ``docker pull``."""
    image = _Command(args.quiet).pull(args.name, args.platform, tls_verify=args.tls_verify)
    if not args.quiet:
        print(f"Impronta: {image.digest}")
    print(parse(args.name).familiar)
    return 0


def push(args: argparse.Namespace) -> int:
    """``labkit push``: come ``docker push``."""
    image = _Command(args.quiet).push(args.name, args.target or "", tls_verify=args.tls_verify)
    name = args.target or args.name
    print(name if args.quiet else f"{parse(name).familiar}: impronta {image.digest}, {show_bytes(image.size)}")
    return 0


def images(args: argparse.Namespace) -> int:
    """``labkit images``: la tabella, o gli id (``-q``)."""
    found = Images().images()
    if args.quiet:
        print("".join(f"{one.id.partition(':')[2][:12]}\n" for one in found), end="")
    else:
        print(found)
    return 0


def rmi(args: argparse.Namespace) -> int:
    """``labkit rmi``: come ``docker rmi``; ciò che riesce è scritto, il resto è spiegato."""
    failed = 0
    for name in args.names:
        try:
            print("\n".join(Images().rmi(name, args.force)))
        except LabError as problem:
            print(problem, file=sys.stderr)
            failed = 1
    return failed


def tag(args: argparse.Namespace) -> int:
    """``labkit tag``: come ``docker tag``."""
    Images().tag(args.name, args.target)
    return 0


def save(args: argparse.Namespace) -> int:
    """``labkit save``: come ``docker save``."""
    if args.output:
        Images().save(args.names, args.output)
        return 0
    if sys.stdout.isatty():
        raise ConflictError("Un archivio in un terminale non si legge.", f"labkit save -o prova.tar {args.names[0]}")
    Images().save_to(args.names, sys.stdout.buffer)
    return 0


def load(args: argparse.Namespace) -> int:
    """``labkit load``: come ``docker load``."""
    for image in Images().load(args.input or _stdin("labkit load -i prova.tar")):
        print(f"Caricata: {image.name or image.id}")
    return 0


def import_(args: argparse.Namespace) -> int:
    """``labkit import``: come ``docker import``."""
    source = _stdin("labkit import radice.tar corso/prova:1") if args.file == "-" else args.file
    print(Images().import_image(source, args.name or "", message=args.message, platform=args.platform).id)
    return 0


def history(args: argparse.Namespace) -> int:
    """``labkit history``: come ``docker history``."""
    steps = Images().image(args.name).history()
    print(steps.whole() if args.no_trunc else steps)
    return 0


def prune(args: argparse.Namespace) -> int:
    """``labkit image prune``: come ``docker image prune -f``."""
    print(f"Spazio recuperato: {show_bytes(Images().prune_images())}")
    return 0


def df(args: argparse.Namespace) -> int:
    """``labkit system df``: come ``docker system df``."""
    print(Images().df())
    return 0


def login(args: argparse.Namespace) -> int:
    """``labkit login``: come ``docker login``."""
    registry = args.server or DEFAULT_REGISTRY
    if not args.username and not sys.stdin.isatty():
        raise InvalidError("Qui nessuno può scrivere il nome utente.", "labkit login -u NOME --password-stdin")
    username = args.username or input("Nome utente: ").strip()
    password = sys.stdin.readline().rstrip("\n") if args.password_stdin else getpass.getpass("Password: ")
    if not username or not password:
        raise InvalidError("Servono un nome utente e una password.", "labkit login")
    where = enter(registry, username, password)
    if os.path.isabs(where):
        print(f"Attenzione: la password è scritta in chiaro in {where}, come fa Docker.", file=sys.stderr)
    print(f"Riconosciuto da {registry}.")
    return 0


def logout(args: argparse.Namespace) -> int:
    """``labkit logout``: come ``docker logout``."""
    registry = args.server or DEFAULT_REGISTRY
    print(f"Dimenticate le credenziali per {registry}." if leave(registry) else f"Per {registry} non ce n'erano.")
    return 0


def _stdin(remedy: str) -> BinaryIO:
    if sys.stdin.isatty():
        raise ConflictError("L'archivio si legge da un file o da una pipe, non dalla tastiera.", remedy)
    return sys.stdin.buffer


def registry(args: argparse.Namespace) -> int:
    """``labkit registry``: il registro del corso, acceso finché non si preme Ctrl-C."""
    folder = args.folder or default_root()
    with CourseRegistry(folder, args.port, args.classe, lambda one: print(_line(one), flush=True)) as lit:
        print(_welcome(lit, args.classe), flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service is ended like this
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("\nRegistro spento. Le immagini restano nella sua cartella.")
    return 0


def _welcome(lit: CourseRegistry, host: str) -> str:
    """Che cosa deve scrivere chi lo usa."""
    name = lit.name("corso/prova:1")
    said = [
        f"Registro del corso acceso: {lit.address}",
        f"  le immagini stanno in {lit.folder}",
        "Per mandarci un'immagine, da questa macchina:",
        f"  labkit push corso/prova:1 {name}",
        "Per prenderla:",
        f"  labkit pull {name}",
    ]
    if host:
        port = lit.address.rpartition(":")[2]
        there = f"{'INDIRIZZO' if host == '0.0.0.0' else host}:{port}"
        said += [
            f"Per la classe: {there}, in sola lettura e in chiaro. Chi studia scrive:",
            f"  labkit pull --tls-verify=false {there}/corso/prova:1",
            "oppure, una volta per tutte, per avere i nomi di Docker Hub da qui:",
            f"  export LABKIT_MIRRORS=http://{there}",
        ]
    return "\n".join([*said, "Ctrl-C lo spegne."])


def _line(one: Request) -> str:
    """Una domanda su una riga, con l'ora."""
    client, method, repository, kind, which, status, received, sent = row(one)
    clock = time.strftime("%H:%M:%S", time.localtime(one.moment))
    what = " ".join(part for part in (repository, kind, which) if part)
    return f"{clock}  {client}  {method} {what}  {status}  ricevuti {received}, mandati {sent}"
