"""Le opzioni dei comandi sui file di un container, con i nomi di ``docker``: le legge :mod:`labkit.cli`.

Questo modulo non porta con sé il client: la pagina d'aiuto parte subito.
"""

from __future__ import annotations

from labkit.client.arguments import lab, name
from labkit.client.image_arguments import flag_value
from labkit.client.italian import Parser


def commit(p: Parser) -> None:
    p.option("-c", "--change", metavar="ISTRUZIONE", action="append", default=[], help='come partirà: CMD ["sh"]')
    p.option("-m", "--message", metavar="TESTO", default="", help="che cosa è cambiato")
    p.option("-a", "--author", metavar="CHI", default="", help="chi l'ha fatta")
    p.option(
        "-p", "--pause", metavar="true|false", type=flag_value, default=True, help="in pausa mentre si legge (true)"
    )
    name(p)
    p.value("image", metavar="IMMAGINE", nargs="?", help="il nome dell'immagine nuova")


def export(p: Parser) -> None:
    p.option("-o", "--output", metavar="FILE", default="", help="in quale file (l'uscita del comando)")
    name(p)


def cp(p: Parser) -> None:
    p.flag("-a", "--archive", help="i file restano di chi erano")
    p.flag("-L", "--follow-link", help="di un link simbolico copia ciò a cui porta")
    lab(p)
    p.value("source", metavar="DA", help="NOME:PERCORSO, un percorso, o - per un tar dall'ingresso")
    p.value("target", metavar="A", help="un percorso, NOME:PERCORSO, o - per un tar all'uscita")
