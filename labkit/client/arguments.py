"""Le opzioni dei comandi che fanno vivere i container: dichiarate qui, lette da :mod:`labkit.cli`.

I nomi sono quelli di ``docker``. Questo modulo non porta con sé il client: la pagina d'aiuto parte subito.
"""

from __future__ import annotations

import argparse
from typing import Any

from labkit.client.italian import Parser, natural


def lab(p: Parser) -> None:
    p.option("--lab", metavar="ID", default="", help="in quale laboratorio (l'ultimo aperto)")


def name(p: Parser) -> None:
    lab(p)
    p.value("name", metavar="NOME", help="il container")


def names(p: Parser) -> None:
    lab(p)
    p.value("names", metavar="NOME", nargs="+", help="i container")


def inspect(p: Parser) -> None:
    lab(p)
    p.option("--type", metavar="CHE COSA", choices=("container", "image"), default="", help="container o image")
    p.value("names", metavar="NOME", nargs="+", help="container o immagini")


def living(p: Parser) -> None:
    """Le opzioni di run e create su come vivrà il container."""
    p.option("--restart", metavar="REGOLA", help="no, on-failure[:N], always o unless-stopped")
    p.option("--stop-signal", metavar="SEGNALE", default="", help="il segnale con cui si ferma (SIGTERM)")
    p.option(
        "--stop-timeout", metavar="SECONDI", type=natural("il tempo"), help="quanto aspettare prima di SIGKILL (10)"
    )
    p.option("--health-cmd", metavar="COMANDO", help="la prova che dice se sta bene")
    p.option("--health-interval", metavar="DURATA", help="ogni quanto provare (30s)")
    p.option("--health-timeout", metavar="DURATA", help="quanto può durare una prova (30s)")
    p.option("--health-retries", metavar="N", type=natural("il numero di prove"), help="quanti no di fila (3)")
    p.option("--health-start-period", metavar="DURATA", help="per quanto, all'inizio, un no non conta (0s)")
    p.flag("--no-healthcheck", help="nessuna prova, neanche quella dell'immagine")
    p.option("--log-opt", metavar="NOME=VALORE", action="append", default=[], type=_log_option,
             help="quanto tenere delle uscite: max-size=256k, max-file=4")  # fmt: skip


def mounts(p: Parser) -> None:
    """Le opzioni di run e create su che cosa si monta."""
    several: dict[str, Any] = {"action": "append", "default": []}
    p.option("-v", "--volume", metavar="SORGENTE:POSTO[:ro]", **several, help="un volume, o una cartella (./sito)")
    p.option("--mount", metavar="type=…,source=…,target=…", **several, help="lo stesso, una parola per volta")
    p.option("--tmpfs", metavar="POSTO[:size=64m]", **several, help="una cartella in memoria")
    p.option("--volumes-from", metavar="CONTAINER[:ro]", **several, help="gli stessi volumi di un altro container")


def mounted(args: argparse.Namespace) -> dict[str, Any]:
    """Quelle opzioni come le vuole :meth:`Lab.run`."""
    return {
        "volumes": args.volume, "mounts": args.mount, "tmpfs": args.tmpfs, "volumes_from": args.volumes_from,
    }  # fmt: skip


def volumes(p: Parser) -> None:
    lab(p)
    p.value("names", metavar="VOLUME", nargs="+", help="i volumi")


def volume_create(p: Parser) -> None:
    lab(p)
    p.option("-d", "--driver", metavar="NOME", default="local", help="solo local: una cartella di questa macchina")
    p.option("-o", "--opt", metavar="NOME=VALORE", action="append", default=[], help="local non ha opzioni")
    p.option("--label", metavar="NOME=VALORE", action="append", default=[], help="un'etichetta")
    p.value("name", metavar="VOLUME", nargs="?", default="", help="il nome; senza, uno a caso")


def volume_ls(p: Parser) -> None:
    lab(p)
    p.flag("-q", "--quiet", help="solo i nomi")
    p.flag("--json", help="come JSON, per un programma")


def volume_file(p: Parser) -> None:
    lab(p)
    p.value("name", metavar="VOLUME", help="il volume")
    p.value("file", metavar="FILE", nargs="?", default="-", help="un tar; «-», o niente, per i flussi del comando")


def volume_prune(p: Parser) -> None:
    lab(p)
    p.flag("-a", "--all", help="anche quelli che hanno un nome")


def _log_option(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    if key == "max-size" and value:
        return "log_max_size", value
    if key == "max-file" and value.isdecimal():
        return "log_max_files", int(value)
    raise argparse.ArgumentTypeError(f"«{text}» non va bene: max-size=256k oppure max-file=4")


def life(args: argparse.Namespace) -> dict[str, Any]:
    """Quelle opzioni come le vuole :meth:`Lab.run`."""
    wanted = {
        key: getattr(args, key)
        for key in (
            "restart", "stop_signal", "stop_timeout", "health_cmd", "health_interval", "health_timeout",
            "health_retries", "health_start_period", "no_healthcheck",
        )
    }  # fmt: skip
    return wanted | dict(args.log_opt)


def limits(p: Parser) -> None:
    """I limiti, come li scrive docker."""
    p.option("-m", "--memory", metavar="BYTE", help="quanta memoria al massimo (64m, 1g)")
    p.option("--memory-swap", metavar="BYTE", help="memoria e swap insieme (-1 senza limite)")
    p.option("--cpus", metavar="NUMERO", help="quante CPU per volta (0.5)")
    p.option("-c", "--cpu-shares", metavar="PESO", help="il peso quando le CPU non bastano (1024)")
    p.option("--cpuset-cpus", metavar="CPU", help="su quali CPU (0-1, 0,3)")
    p.option("--pids-limit", metavar="NUMERO", help="quanti processi e thread (-1 senza limite)")
    p.option("--device-read-bps", metavar="DISCO:BYTE", action="append", help="byte al secondo letti da un disco")
    p.option("--device-write-bps", metavar="DISCO:BYTE", action="append", help="byte al secondo scritti su un disco")


def update(p: Parser) -> None:
    limits(p)
    names(p)


def stats(p: Parser) -> None:
    p.flag("--no-stream", help="una volta sola, poi finisce")
    lab(p)
    p.value("names", metavar="NOME", nargs="*", help="i container (tutti quelli che girano)")


def start(p: Parser) -> None:
    p.flag("-a", "--attach", help="mostra le uscite finché gira")
    p.flag("-i", "--interactive", help="manda al programma quello che scrivi")
    names(p)


def restart(p: Parser) -> None:
    p.option("-t", "--time", metavar="SECONDI", type=natural("il tempo"), help="quanto aspettare (10)")
    names(p)


def attach(p: Parser) -> None:
    p.flag("--no-stdin", help="guarda soltanto: non manda quello che scrivi")
    name(p)


def rename(p: Parser) -> None:
    name(p)
    p.value("new", metavar="NUOVO", help="il nome nuovo")


def logs(p: Parser) -> None:
    p.flag("-f", "--follow", help="continua a mostrare finché il container gira")
    p.flag("-t", "--timestamps", help="mette l'ora davanti a ogni riga")
    p.option("--since", metavar="QUANDO", help="da quando: un'ora (2026-01-31T10:00:00) o quanto tempo fa (5m)")
    p.option("--until", metavar="QUANDO", help="fino a quando")
    p.option("-n", "--tail", metavar="N", default="all", help="solo le ultime N righe")
    name(p)


def events(p: Parser) -> None:
    p.option("--since", metavar="QUANDO", help="anche quelli di prima: un'ora, o quanto tempo fa (5m)")
    p.option("--until", metavar="QUANDO", help="fino a quando; se no continua finché non lo fermi")
    p.option("-f", "--filter", metavar="CHIAVE=VALORE", action="append", default=[], type=_filter,
             help="solo quelli giusti: container=NOME, event=die")  # fmt: skip
    p.flag("--json", help="uno per riga come JSON, per un programma")
    lab(p)


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or key not in ("container", "event") or not value:
        raise argparse.ArgumentTypeError(f"«{text}» non va bene: container=NOME oppure event=die")
    return key, value
