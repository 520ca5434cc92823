"""Le opzioni dei comandi sulle immagini, con i nomi di ``docker``: dichiarate qui, lette da :mod:`labkit.cli`.

Questo modulo non porta con sé il client: la pagina d'aiuto parte subito.
"""

from __future__ import annotations

import argparse

from labkit.client.italian import Parser, natural


def flag_value(text: str) -> bool:
    """``true`` o ``false``, come li scrive chi usa docker."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"vuole true o false, non «{text}»")
    return text == "true"


def _travelling(p: Parser) -> None:
    p.flag("-q", "--quiet", help="non mostra i pezzi mentre viaggiano")
    p.option("--tls-verify", metavar="true|false", type=flag_value, default=True,
             help="false: il registro è quello di una classe, e parla in chiaro")  # fmt: skip


def pull(p: Parser) -> None:
    _travelling(p)
    p.option("--platform", metavar="SISTEMA/PROCESSORE", default="", help="per un'altra macchina: linux/arm64")
    p.value("name", metavar="IMMAGINE", help="quale immagine: nginx, nginx:1.27, 127.0.0.1:5000/corso/prova")


def push(p: Parser) -> None:
    _travelling(p)
    p.value("name", metavar="IMMAGINE", help="quale immagine")
    p.value("target", metavar="NOME", nargs="?", help="con che nome mandarla (il suo)")


def images(p: Parser) -> None:
    p.flag("-q", "--quiet", help="solo gli id")


def rmi(p: Parser) -> None:
    p.flag("-f", "--force", help="con un id: toglie tutti i suoi nomi")
    p.value("names", metavar="IMMAGINE", nargs="+", help="le immagini")


def tag(p: Parser) -> None:
    p.value("name", metavar="IMMAGINE", help="quale immagine")
    p.value("target", metavar="NOME", help="il nome in più")


def build(p: Parser) -> None:
    p.option("-t", "--tag", metavar="NOME", action="append", default=[], help="il nome dell'immagine (anche più d'uno)")
    p.option("-f", "--file", metavar="FILE", default="", help="quale Containerfile (Containerfile, o Dockerfile)")
    p.option("--build-arg", metavar="NOME=VALORE", action="append", default=[], help="il valore di un ARG")
    p.option("--target", metavar="STADIO", default="", help="a quale stadio fermarsi (l'ultimo)")
    p.option("--network", metavar="RETE", default="none", help="la rete dei RUN: none (predefinita) o bridge")
    p.flag("--no-cache", help="rifà anche i passi già fatti")
    p.flag("--pull", help="chiede al registro l'immagine di partenza, anche se c'è già")
    p.flag("-q", "--quiet", help="scrive solo l'id dell'immagine")
    p.option("--lab", metavar="ID", default="", help="in quale laboratorio (l'ultimo aperto)")
    p.value("folder", metavar="CARTELLA", help="la cartella con il Containerfile e i file da copiare")


def save(p: Parser) -> None:
    p.option("-o", "--output", metavar="FILE", default="", help="in quale file (l'uscita del comando)")
    p.value("names", metavar="IMMAGINE", nargs="+", help="le immagini")


def load(p: Parser) -> None:
    p.option("-i", "--input", metavar="FILE", default="", help="da quale file (l'ingresso del comando)")


def import_(p: Parser) -> None:
    p.option("-m", "--message", metavar="TESTO", default="", help="una nota nella storia dell'immagine")
    p.option("--platform", metavar="SISTEMA/PROCESSORE", default="", help="per quale macchina (questa)")
    p.value("file", metavar="FILE", help="il tar della radice, o - per l'ingresso del comando")
    p.value("name", metavar="NOME", nargs="?", help="il nome dell'immagine")


def history(p: Parser) -> None:
    p.flag("--no-trunc", help="con i comandi interi")
    p.value("name", metavar="IMMAGINE", help="quale immagine")


def prune(p: Parser) -> None:
    p.flag("-f", "--force", help="come in docker: qui non si chiede mai conferma")


def nothing(p: Parser) -> None:
    """Nessuna opzione."""


def login(p: Parser) -> None:
    p.option("-u", "--username", metavar="NOME", default="", help="il nome utente")
    p.flag("--password-stdin", help="legge la password dall'ingresso del comando")
    server(p)


def server(p: Parser) -> None:
    p.value("server", metavar="REGISTRO", nargs="?", help="quale registro (Docker Hub)")


def registry(p: Parser) -> None:
    p.option("--folder", metavar="CARTELLA", default="", help="dove tenere le immagini (i dati dell'utente)")
    p.option("--port", metavar="PORTA", type=natural("la porta"), default=5000, help="su quale porta (5000)")
    p.option("--classe", metavar="INDIRIZZO", default="", help="anche su questo indirizzo, da cui si legge e basta")
