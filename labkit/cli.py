"""Il comando ``labkit``: il laboratorio dal terminale, con i nomi e le opzioni di ``docker``.

Un errore è una riga in italiano con il rimedio, mai un traceback (con ``LABKIT_DEBUG=1`` sì). I codici di
uscita sono quelli di Docker. Ogni comando importa solo quello che gli serve, per partire subito.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence

from labkit.client import arguments, content_arguments, image_arguments, network_arguments
from labkit.client.italian import Parser, natural, suggestion
from labkit.errors import InvalidError, LabError
from labkit.limits import LIMIT_NAMES

Command = Callable[[argparse.Namespace], int]

DESCRIPTION = "Dentro i container: il laboratorio del corso, dal terminale. Le opzioni sono quelle di docker."


def doctor(args: argparse.Namespace) -> int:
    """che cosa sa fare questa macchina, e come darle quello che le manca"""
    from labkit.client.doctor import doctor as examine

    report = examine()
    if args.json:
        _print_json(report.to_json())
    else:
        print(report)
    return 0 if report.ok else 1


def lab(args: argparse.Namespace) -> int:
    """apre JupyterLab sulla tua copia delle lezioni"""
    from labkit.course.launch import DEFAULT_FOLDER, open_lab

    return open_lab(args.folder or DEFAULT_FOLDER, browser=not args.no_browser, port=args.port)


def slides(args: argparse.Namespace) -> int:
    """le presentazioni delle lezioni: build, live, corsi"""
    from labkit.course.slides.command import main as slides_main

    return slides_main(args.arguments)


def course_images(args: argparse.Namespace) -> int:
    """prepara le immagini del corso: base, nginx, mariadb, app"""
    from labkit.recipes.command import course_images as make

    return make(args)


def clean(args: argparse.Namespace) -> int:
    """toglie quello che resta di laboratori morti (una macchina spenta di colpo), e nient'altro"""
    from labkit.client.cleanup import clean as sweep

    return sweep(dry_run=args.dry_run, kernels=args.kernels)


def _container_command(name: str, module: str = "commands") -> Command:
    """The commands that speak to a laboratory live in modules of their own: they bring in the whole client."""

    def command(args: argparse.Namespace) -> int:
        import importlib

        chosen: Command = getattr(importlib.import_module(f"labkit.client.{module}"), name)
        return chosen(args)

    return command


def _living(name: str) -> Command:
    return _container_command(name, "living")


def _image(name: str) -> Command:
    return _container_command(name, "image_commands")


def _network(name: str) -> Command:
    return _container_command(name, "networking")


def _volume(name: str) -> Command:
    return _container_command(name, "volumes")


def build(args: argparse.Namespace) -> int:
    """costruisce un'immagine da un Containerfile"""
    from labkit.build.command import build as make

    return make(args)


def _content(name: str) -> Command:
    return _container_command(name, "content_commands")


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, ensure_ascii=False, indent=2))


def _options_of_run(p: Parser) -> None:
    p.flag("-d", "--detach", help="lascia il container in funzione e scrive il suo id")
    _options_of_create(p)


def _options_of_create(p: Parser) -> None:
    p.flag("-i", "--interactive", help="manda al programma quello che scrivi")
    p.flag("-t", "--tty", help="dà al programma un terminale")
    p.flag("--rm", help="toglie il container quando finisce", dest="remove")
    p.flag("--read-only", help="radice in sola lettura")
    p.flag("--init", help="mette un PID 1 che raccoglie i processi orfani")
    p.option("--name", metavar="NOME", default="", help="il nome del container")
    p.option("-e", "--env", metavar="NOME=VALORE", action="append", default=[], help="una variabile d'ambiente")
    p.option("--env-file", metavar="FILE", action="append", default=[], help="le variabili scritte in un file")
    p.option("--secret", metavar="id=NOME,src=FILE", action="append", default=[], help="un segreto in /run/secrets")
    p.option("--template", metavar="FILE:PERCORSO", action="append", default=[], help="un file scritto da un modello")
    p.option("--entrypoint", metavar="PROGRAMMA", default=None, help="il programma, prima del comando")
    p.option("-h", "--hostname", metavar="NOME", default="", help="il nome della macchina visto da dentro")
    p.option("-u", "--user", metavar="UTENTE[:GRUPPO]", default="", help="con quale utente")
    p.option("-w", "--workdir", metavar="CARTELLA", default="", help="in quale cartella")
    p.option("-p", "--publish", metavar="PORTA:PORTA", action="append", default=[], help="pubblica una porta")
    network_arguments.joining(p)
    p.option("--cap-add", metavar="NOME", action="append", default=[], help="aggiunge una capability")
    p.option("--cap-drop", metavar="NOME", action="append", default=[], help="toglie una capability")
    p.option("--pull", metavar="QUANDO", default="missing", help="quando scaricare l'immagine: missing, always, never")
    p.option("--platform", metavar="PIATTAFORMA", default="", help="per quale macchina è l'immagine (linux/arm64)")
    arguments.limits(p)
    arguments.mounts(p)
    arguments.living(p)
    arguments.lab(p)
    p.value("image", metavar="IMMAGINE", help="host, busybox, una cartella o un'immagine")
    p.value("command", metavar="COMANDO", nargs=argparse.REMAINDER, help="il programma e i suoi argomenti")


def _options_of_exec(p: Parser) -> None:
    p.flag("-i", "--interactive", help="manda al programma quello che scrivi")
    p.flag("-t", "--tty", help="dà al programma un terminale")
    p.option("-e", "--env", metavar="NOME=VALORE", action="append", default=[], help="una variabile d'ambiente")
    p.option("--env-file", metavar="FILE", action="append", default=[], help="le variabili scritte in un file")
    p.option("-u", "--user", metavar="UTENTE[:GRUPPO]", default=None, help="con quale utente")
    p.option("-w", "--workdir", metavar="CARTELLA", default=None, help="in quale cartella")
    arguments.lab(p)
    p.value("name", metavar="NOME", help="il container")
    p.value("command", metavar="COMANDO", nargs=argparse.REMAINDER, help="il programma e i suoi argomenti")


def _options_of_ps(p: Parser) -> None:
    p.flag("-a", "--all", help="anche i container fermi")
    p.flag("-q", "--quiet", help="solo gli id")
    p.flag("--json", help="come JSON, per un programma")
    arguments.lab(p)


def _options_of_stop(p: Parser) -> None:
    p.option("-t", "--time", metavar="SECONDI", type=natural("il tempo"), help="quanto aspettare (10)")
    arguments.names(p)


def _options_of_kill(p: Parser) -> None:
    p.option("-s", "--signal", metavar="SEGNALE", default="KILL", help="quale segnale (KILL)")
    arguments.names(p)


def _options_of_rm(p: Parser) -> None:
    p.flag("-f", "--force", help="anche se gira")
    p.flag("-v", "--volumes", help="con i suoi volumi senza nome")
    arguments.names(p)


def _options_of_doctor(p: Parser) -> None:
    p.flag("--json", help="come JSON, per un programma")


def _options_of_lab(p: Parser) -> None:
    p.flag("--no-browser", help="scrive l'indirizzo e non apre il browser")
    p.option("--port", metavar="PORTA", type=natural("la porta"), default=8888, help="la porta da provare (8888)")
    p.value("folder", metavar="CARTELLA", nargs="?", help="dove tenere la tua copia (~/dentro-i-container)")


def _options_of_course_images(p: Parser) -> None:
    p.flag("-l", "--list", help="dice quali ci sono e quali mancano, e non fa niente")
    p.flag("-f", "--force", help="le rifà anche se ci sono")
    p.flag("-q", "--quiet", help="se ci sono già non dice niente")
    p.value("names", metavar="NOME", nargs="*", help="base, nginx, mariadb, app (tutte)")


def _options_of_clean(p: Parser) -> None:
    p.flag("-n", "--dry-run", help="dice che cosa toglierebbe, senza toglierlo")
    p.flag("--kernels", help="toglie anche i kernel scaricati per le macchine virtuali")


def _options_of_slides(p: Parser) -> None:
    p.value("arguments", metavar="ARGOMENTI", nargs=argparse.REMAINDER, help="labkit slides --help li elenca")


#: Name, options, what runs, one line of help: in the order of the help page.
COMMANDS: dict[str, tuple[Callable[[Parser], None], Command, str]] = {
    "doctor": (_options_of_doctor, doctor, doctor.__doc__ or ""),
    "lab": (_options_of_lab, lab, lab.__doc__ or ""),
    "run": (_options_of_run, _container_command("run"), "crea un container e ci esegue un programma"),
    "exec": (_options_of_exec, _container_command("execute"), "esegue un altro programma in un container che gira"),
    "ps": (_options_of_ps, _container_command("ps"), "i container del laboratorio"),
    "inspect": (arguments.inspect, _container_command("inspect", "inspection"), "tutto di un container o immagine"),
    "logs": (arguments.logs, _living("logs"), "quello che un container ha scritto"),
    "top": (arguments.name, _living("top"), "i processi di un container"),
    "create": (_options_of_create, _living("create"), "crea un container senza avviarlo"),
    "diff": (arguments.name, _content("diff"), "che cosa un container ha cambiato nei suoi file"),
    "commit": (content_arguments.commit, _content("commit"), "fa un'immagine da un container"),
    "export": (content_arguments.export, _content("export"), "la radice di un container in un tar"),
    "cp": (content_arguments.cp, _content("cp"), "copia file fra un container e questa macchina"),
    "start": (arguments.start, _living("start"), "avvia un container creato o fermo"),
    "stop": (_options_of_stop, _container_command("stop"), "ferma con SIGTERM e, se non basta, con SIGKILL"),
    "restart": (arguments.restart, _living("restart"), "ferma e riavvia"),
    "kill": (_options_of_kill, _container_command("kill"), "manda un segnale"),
    "pause": (arguments.names, _container_command("pause", "accounting"), "ferma i processi dove sono"),
    "unpause": (arguments.names, _container_command("unpause", "accounting"), "li fa ripartire da dove erano"),
    "update": (arguments.update, _container_command("update", "accounting"), "cambia i limiti mentre gira"),
    "stats": (arguments.stats, _container_command("stats", "accounting"), "quanta memoria, CPU e disco usano adesso"),
    "attach": (arguments.attach, _living("attach"), "si attacca a un programma che gira"),
    "wait": (arguments.names, _living("wait"), "aspetta che si fermi e scrive il codice di uscita"),
    "rename": (arguments.rename, _living("rename"), "cambia nome a un container"),
    "rm": (_options_of_rm, _container_command("rm"), "toglie container fermi"),
    "events": (arguments.events, _living("events"), "che cosa succede nel laboratorio, man mano"),
    "images": (image_arguments.images, _image("images"), "le immagini che ci sono già"),
    "build": (image_arguments.build, build, build.__doc__ or ""),
    "pull": (image_arguments.pull, _image("pull"), "prende un'immagine da un registro"),
    "push": (image_arguments.push, _image("push"), "manda un'immagine a un registro"),
    "tag": (image_arguments.tag, _image("tag"), "dà un altro nome a un'immagine"),
    "rmi": (image_arguments.rmi, _image("rmi"), "toglie immagini"),
    "history": (image_arguments.history, _image("history"), "i passi che hanno fatto un'immagine"),
    "save": (image_arguments.save, _image("save"), "mette immagini in un file"),
    "load": (image_arguments.load, _image("load"), "prende le immagini di un file"),
    "import": (image_arguments.import_, _image("import_"), "fa un'immagine dal tar di una radice"),
    "login": (image_arguments.login, _image("login"), "dice a un registro chi sei"),
    "logout": (image_arguments.server, _image("logout"), "dimentica le credenziali di un registro"),
    "registry": (image_arguments.registry, _image("registry"), "accende il registro del corso, anche per una classe"),
    "image prune": (image_arguments.prune, _image("prune"), "toglie le immagini che non hanno più un nome"),
    "system df": (image_arguments.nothing, _image("df"), "quanto posto occupano le immagini"),
    "course-images": (_options_of_course_images, course_images, course_images.__doc__ or ""),
    "volume create": (arguments.volume_create, _volume("create"), "fa un volume: una cartella che resta"),
    "volume ls": (arguments.volume_ls, _volume("ls"), "i volumi, e chi li usa"),
    "volume inspect": (arguments.volumes, _volume("inspect"), "tutto di un volume, come JSON"),
    "volume rm": (arguments.volumes, _volume("rm"), "toglie volumi che nessuno usa, con i loro dati"),
    "volume backup": (arguments.volume_file, _volume("backup"), "scrive in un tar ciò che c'è in un volume"),
    "volume restore": (arguments.volume_file, _volume("restore"), "fa un volume nuovo da un tar"),
    "volume prune": (arguments.volume_prune, _volume("prune"), "toglie quelli senza nome che nessuno usa"),
    "network create": (network_arguments.create, _network("create"), "crea una rete"),
    "network ls": (network_arguments.listing, _network("ls"), "le reti, e chi c'è"),
    "network inspect": (network_arguments.networks, _network("inspect"), "tutto di una rete, come JSON"),
    "network rm": (network_arguments.networks, _network("rm"), "toglie reti su cui non c'è nessuno"),
    "network connect": (network_arguments.connect, _network("connect"), "attacca un container a una rete"),
    "network disconnect": (network_arguments.pair, _network("disconnect"), "stacca un container da una rete"),
    "network prune": (arguments.lab, _network("prune"), "toglie tutte le reti su cui non c'è nessuno"),
    "clean": (_options_of_clean, clean, clean.__doc__ or ""),
    "slides": (_options_of_slides, slides, slides.__doc__ or ""),
}


def help_page() -> str:
    """La pagina di ``labkit --help``."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, _, text) in COMMANDS.items())
    return (
        f"uso: labkit COMANDO [opzioni]\n\n{DESCRIPTION}\n\ncomandi:\n{rows}\n\n"
        "labkit COMANDO --help   le opzioni di un comando\nlabkit --version        la versione\n"
    )


def parse(argv: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """Il comando scelto e le sue opzioni; un errore è un :class:`~labkit.errors.InvalidError`."""
    size = 2 if " ".join(argv[:2]) in COMMANDS else 1
    name, rest = " ".join(argv[:size]), argv[size:]
    if name not in COMMANDS:
        family = [known.partition(" ")[2] for known in COMMANDS if known.startswith(f"{name} ")]
        if family:
            said = f"labkit {name} non ha «{rest[0]}»" if rest else f"labkit {name}: manca che cosa fare"
            raise InvalidError(f"{said}: {', '.join(family)}.", f"labkit {name} {family[0]} --help")
        near = suggestion(name, COMMANDS)
        what = f"«{name}» non è un'opzione di labkit" if name.startswith("-") else f"labkit non ha il comando «{name}»"
        raise InvalidError(f"{what}.", f"labkit {near}" if near else "labkit --help")
    options, command, text = COMMANDS[name]
    parser = Parser(
        prog=f"labkit {name}", description=text[:1].upper() + text[1:] + ".", short_help=name not in ("run", "create")
    )
    options(parser)
    if name == "slides":  # its own parser speaks, even for --help
        return command, argparse.Namespace(arguments=list(rest))
    return command, parser.parse_args(rest)


def main(argv: Sequence[str] | None = None) -> int:
    """Esegue ``labkit`` con questi argomenti (quelli della riga di comando se mancano); torna il codice di uscita."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(help_page(), end="")
        return 0
    if argv[0] in ("-v", "--version", "version"):
        print(f"labkit {_version()}")
        return 0
    try:
        command, args = parse(argv)
        code = command(args)
        sys.stdout.flush()
        return code
    except LabError as error:
        # Docker: 125, 126 or 127 from `run` (and from a command of `exec`), 1 from the rest.
        usage = isinstance(error, InvalidError)
        return _complain(str(error), error.exit_code if argv[0] == "run" or usage or error.exit_code != 125 else 1)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # `labkit ps | head`: whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # the promise of this command: one sentence, never a traceback
        if os.environ.get("LABKIT_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}"
        return _complain(f"Qualcosa di imprevisto: {what}. Rimedio: LABKIT_DEBUG=1 labkit … per i dettagli", 125)


#: How the library spells a remedy, and how the same thing is written in a terminal.
_SPELLINGS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (
        r"\blab\.network\.(\w+)\('([^']*)'(?:, '([^']*)')?\)",
        lambda found: " ".join(filter(None, ("labkit network", found[1], found[2], found[3]))),
    ),
    (r"\blab\.network\.(ls|prune)\(\)", r"labkit network \1"),
    (r"\bnetwork='([^']+)'", r"--network \1"),
    (r"\bnetwork=\['([^']+)', '([^']+)'\]", r"--network \1 --network \2"),
    (r"\b(subnet|gateway|ip|mtu)=(?:'([^']*)'|(\d+))", r"--\1 \2\3"),
    (r"\bpublish=", "-p "),
    (rf"\b({'|'.join(LIMIT_NAMES)})='?([\w./:-]+)'?", lambda found: f"--{found[1].replace('_', '-')} {found[2]}"),
    (r"\b(name|hostname|workdir|user)='([^']*)'", r"--\1 \2"),
    (r"\brestart='([^']*)'", r"--restart \1"),
    (r"\bremove=True", "--rm"),
    (r"\bno_healthcheck\b", "--no-healthcheck"),
    (r"\bhealth_(\w+)=", lambda found: f"--health-{found[1].replace('_', '-')} "),
    (r"\blog_max_size='([^']*)', log_max_files=(\d+)", r"--log-opt max-size=\1 --log-opt max-file=\2"),
    (r"\benv=\{'(\w+)': '([^']*)'\}", r"-e \1=\2"),
    (r"\benv=\['([^']*)'\]", r"-e \1"),
    (r"\bsecrets=\{'([^']*)': Path\('([^']*)'\)\}", r"--secret id=\1,src=\2"),
    (r"\btemplates=\{'([^']*)': Path\('([^']*)'\)\}", r"--template \2:\1"),
    (r"-p '([^']*)'", r"-p \1"),
    (r"\blab\.ps\(all=True\)", "labkit ps -a"),
    (r"\bplatform='([\w/]+)'", r"--platform \1"),
    (r"\blab\.run\('(\w+)', '([^']*)'\)", r"labkit run \1 \2"),
)


def in_shell(sentence: str) -> str:
    """La stessa frase con i rimedi scritti come in un terminale, su una riga sola.

    >>> in_shell("Rimedio: publish='8080:80', oppure lab.run('busybox', 'ls /bin')")
    'Rimedio: -p 8080:80, oppure labkit run busybox ls /bin'
    """
    for pattern, spelling in _SPELLINGS:
        sentence = re.sub(pattern, spelling, sentence)
    # A picture of several lines (where a file is written badly) stays as it is.
    return sentence if "\n" in sentence else " ".join(sentence.split())


def _complain(sentence: str, code: int) -> int:
    print(in_shell(sentence), file=sys.stderr)
    return code


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("dentro-i-container")
    except PackageNotFoundError:
        return "(non installato)"
