"""Le quattro ricette del corso: che cosa c'è in ogni strato, e come parte l'immagine.

Gli utenti, le cartelle e i collegamenti sono quelli che farebbero gli script dei pacchetti.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.recipes.layer import Folder, Step

#: Packages that others ask for and a container does without: what configures a machine, Perl, what starts services.
SKIPPED = frozenset(
    ("awk", "cron", "dbus", "debconf", "debianutils", "dpkg", "init-system-helpers", "install-info", "iproute2",
     "lsb-base", "openssl", "perl", "perl-base", "python3", "sensible-utils", "systemd", "usrmerge")
)  # fmt: skip
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MARIADB = ("mariadb-server-core", "mariadb-client-core")
#: The user of the database, the same number as in the well-known image.
_MYSQL = 999
_FILES = Path(__file__).parent / "files"


@dataclass(frozen=True)
class Recipe:
    """Un'immagine del corso: gli strati sopra quelli di ``base``, e la configurazione di partenza.

    Il tag è la versione del pacchetto ``version``, o è scritto lì; ``public`` è l'immagine da prendere dove non
    ci sono pacchetti Debian, e ``over`` ciò che a quella bisogna aggiungere; ``about`` la dice in una riga.
    """

    name: str
    about: str
    base: str
    version: str
    public: str
    steps: tuple[Step, ...]
    process: Mapping[str, Any]
    over: tuple[Step, ...] = ()


def _with(name: str, line: str) -> str:
    """Il file degli utenti (o dei gruppi) della base, con una riga in più."""
    return (_FILES / "base/etc" / name).read_text(encoding="ascii") + line + "\n"


BASE = Recipe(
    "corso/base",
    "un Debian piccolo: la shell e i comandi di ogni giorno",
    base="",
    version="base-files",
    public="docker.io/library/debian:stable-slim",
    steps=(
        Step(
            "la libreria C e le cartelle del sistema",
            ("base-files", "libc6", "libc-bin"),
            without=r"var/(run|lock)/$|usr/share/(base-files|dict)/",
            files="base",
            folders={
                "root": Folder(0o700),
                "run/lock": Folder(0o1777),
                "usr/lib64": Folder(),
                "var/local": Folder(),  # of the group staff, which a container does not have
            },
            links={
                **{name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")},
                "var/run": "/run",
                "var/lock": "/run/lock",
            },
        ),
        Step(
            "la shell e i comandi di ogni giorno",
            ("bash", "coreutils", "dash", "findutils", "grep", "gzip", "hostname", "mawk", "procps", "sed", "tar"),
            links={"usr/bin/awk": "mawk"},
        ),
        Step(
            "fusi orari, autorità di certificazione, nomi dei servizi",
            ("ca-certificates", "netbase", "tzdata"),
            links={"etc/localtime": "/usr/share/zoneinfo/Etc/UTC"},
            joined={"etc/ssl/certs/ca-certificates.crt": r"usr/share/ca-certificates/.*\.crt"},
        ),
    ),
    process={"Env": [_PATH, "LANG=C.UTF-8"], "Cmd": ["bash"]},
)

NGINX = Recipe(
    "corso/nginx",
    "il server web, con una pagina",
    base="corso/base",
    version="nginx",
    public="docker.io/library/nginx:stable",
    steps=(
        Step("nginx e le sue librerie", ("nginx",), without=r"etc/nginx/(sites-|nginx\.conf$|snippets/)|var/www/"),
        Step(
            "la configurazione e la prima pagina",
            files="nginx",
        ),
    ),
    process={
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["nginx", "-g", "daemon off;"],
        "StopSignal": "SIGQUIT",
        "ExposedPorts": {"80/tcp": {}},
    },
)

MARIADB = Recipe(
    "corso/mariadb",
    "il database (MySQL), che si prepara con le variabili d'ambiente",
    base="corso/base",
    version="mariadb-server-core",
    public="docker.io/library/mariadb:lts",
    steps=(
        Step(
            "l'utente mysql",
            texts={
                "etc/passwd": _with("passwd", f"mysql:x:{_MYSQL}:{_MYSQL}::/var/lib/mysql:/usr/sbin/nologin"),
                "etc/group": _with("group", f"mysql:x:{_MYSQL}:"),
            },
            # Whose they are is decided at the start: where there is one user only, it is that one.
            folders={"var/lib/mysql": Folder(), "run/mysqld": Folder()},
        ),
        Step("le librerie di MariaDB", _MARIADB, later=(*_MARIADB, "libmariadb3", "mariadb-common", "mysql-common")),
        Step("il client di MariaDB", ("mariadb-client-core",), without=r"usr/bin/(mariadb-check|my_print_defaults)$"),
        Step(
            "il server MariaDB",
            ("mariadb-server-core",),
            without=r"usr/share/mysql/(fill_help_tables\.sql$|mysql_test_|(?!english/|italian/|charsets/)[a-z-]+/)"
            r"|usr/bin/(mariadb-upgrade|mysql_upgrade|innochecksum|resolveip|mariadb-install-db|mysql_install_db)$",
        ),
        Step(
            "la configurazione",
            files="mariadb",
            links={"etc/mysql/my.cnf": "mariadb.cnf"},
            folders={"docker-entrypoint-initdb.d": Folder()},
        ),
    ),
    process={
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["mariadbd"],
        "ExposedPorts": {"3306/tcp": {}},
    },
)

_APPLICATION = Step("l'applicazione", files="app")
APP = Recipe(
    "corso/app",
    "una piccola applicazione web in Python",
    base="corso/base",
    version="1.0",
    public="docker.io/library/python:3-slim",
    steps=(
        Step(
            "Python e la sua libreria standard",
            ("python3-minimal", "libpython3-stdlib"),
            without=r"usr/lib/python3[^/]*/(test|idlelib|tkinter|lib2to3|ensurepip|pydoc_data|turtledemo)/"
            r"|usr/share/(python3|binfmts|readline)/|usr/bin/py3",
        ),
        Step("PyMySQL, per parlare con il database", ("python3-pymysql",)),
        _APPLICATION,
    ),
    over=(_APPLICATION,),
    process={
        "Cmd": ["python3", "/app/app.py"],
        "Env": ["PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"],
        "WorkingDir": "/app",
        "ExposedPorts": {"8000/tcp": {}},
    },
)

#: Nell'ordine in cui si fanno: una base prima di chi ci sta sopra.
RECIPES: Mapping[str, Recipe] = {one.name: one for one in (BASE, NGINX, MARIADB, APP)}
