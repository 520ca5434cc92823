"""Chi siamo per un registro: le credenziali di Docker, e i gettoni che i registri danno in cambio.

Le credenziali si leggono da dove le mette ``docker login`` (``config.json`` o un programma aiutante),
non si stampano mai, e vanno solo al registro per cui sono state scritte o al suo servizio dei gettoni
(distribution, «Token Authentication Specification»).
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from labkit.errors import LabError
from labkit.images.registry_origin import Origin, RegistryError, check_move
from labkit.images.registry_transport import Answer, Transport

#: Under this name `docker login` keeps the credentials of Docker Hub.
_HUB_KEY = "https://{}/v1/".format("index.docker.io")
#: The one registry whose tokens come from a sibling and not from itself, a parent or a child.
_SIBLINGS = {"registry-1.docker.io": "auth.docker.io"}
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PARAMETER = re.compile(r'([A-Za-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,\s*|$)')
_LARGEST_TOKEN = 1 << 18
_WITHOUT = "per farne a meno: export DOCKER_CONFIG=$(mktemp -d)"


@dataclass(frozen=True)
class Credentials:
    """Un nome e un segreto, oppure un gettone di identità; il segreto non si vede mai."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def stored_credentials(registry: str) -> Credentials | None:
    """Quelle che ``docker login`` ha conservato per ``registry``, se ci sono."""
    config = docker_config()
    for key in server_names(registry):
        helper = helper_for(config, key)
        if found := _ask_helper(helper, key) if helper else _from_auths(_table(config, "auths").get(key)):
            return found
    return None


def config_path() -> str:
    """Il file di Docker con le credenziali: sotto ``DOCKER_CONFIG``, o ``~/.docker``."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return f"{folder}/config.json"


def docker_config() -> dict[str, Any]:
    """Il contenuto di quel file; vuoto se non c'è."""
    path = config_path()
    try:
        with open(path, "rb") as file:
            config = json.loads(file.read(1 << 20))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        raise LabError(
            f"Non riesco a leggere le credenziali di Docker in {path}.", f"python3 -m json.tool {path}"
        ) from None
    return config if isinstance(config, dict) else {}


def server_names(registry: str) -> tuple[str, ...]:
    """I nomi sotto cui Docker può avere scritto le credenziali di ``registry``; il primo è quello che usa adesso."""
    if registry == "docker.io":
        return _HUB_KEY, registry
    return registry, f"https://{registry}", f"https://{registry}/v1/"


def helper_for(config: Mapping[str, Any], server: str) -> str:
    """Il programma che custodisce le credenziali di ``server``, o vuoto se stanno nel file."""
    store = config.get("credsStore")
    return str(_table(config, "credHelpers").get(server) or (store if isinstance(store, str) else ""))


def _table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = config.get(key)
    return found if isinstance(found, dict) else {}


def _from_auths(entry: Any) -> Credentials | None:
    if not isinstance(entry, dict):
        return None
    try:
        name, _, password = base64.b64decode(str(entry.get("auth") or "")).decode().partition(":")
    except ValueError:
        name, password = "", ""
    token = str(entry.get("identitytoken") or "")
    name, password = name or str(entry.get("username") or ""), password or str(entry.get("password") or "")
    return Credentials(name, password.rstrip("\0"), token) if name or token else None


def _ask_helper(helper: str, server: str) -> Credentials | None:
    """Le credenziali che custodisce ``docker-credential-HELPER``, se ne ha per ``server``."""
    said = run_helper(helper, "get", server)
    if said is None:
        return None
    try:
        found = json.loads(said)
        name, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, LookupError, TypeError):
        raise _helpless(helper, server) from None
    return Credentials(identity_token=secret) if name == "<token>" else Credentials(name, secret)


def run_helper(helper: str, verb: str, text: str) -> bytes | None:
    """Parla a ``docker-credential-HELPER`` (docker-credential-helpers, README): ``get``, ``store``, ``erase``.

    ``None`` se dice di no: per ``get`` vuol dire che non ne ha, e le sue parole possono avere dentro un segreto.
    """
    if not _HELPER.fullmatch(helper):
        raise LabError("Nella configurazione di Docker il nome dell'aiutante delle credenziali non è un nome.")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, verb], input=text.encode(), capture_output=True, timeout=30, check=False)
    except FileNotFoundError:
        raise LabError(f"Le credenziali di Docker le custodisce {program}, che qui non c'è.", _WITHOUT) from None
    except subprocess.TimeoutExpired:
        raise _helpless(helper, text if verb == "get" else "") from None
    return None if done.returncode else done.stdout


def _helpless(helper: str, server: str) -> LabError:
    program = f"docker-credential-{helper}"
    return LabError(f"{program} non ha risposto bene sulle credenziali.", f"echo {server} | {program} list")


def challenges(header: str) -> dict[str, dict[str, str]]:
    """Che cosa vuole un 401 (RFC 9110, «WWW-Authenticate»): per ogni schema i suoi parametri.

    >>> challenges('Basic, Bearer service="r"')
    {'basic': {}, 'bearer': {'service': 'r'}}
    """
    found: dict[str, dict[str, str]] = {}
    rest = header[:8192].strip()
    while match := re.match(r"([A-Za-z][A-Za-z0-9-]*)(?:\s*,\s*|\s+|$)(?!=)", rest):
        rest = rest[match.end() :]
        parameters = found.setdefault(match[1].lower(), {})
        while one := _PARAMETER.match(rest):
            quoted = re.sub(r"\\(.)", r"\1", one[2]) if one[2] is not None else one[3]
            parameters[one[1].lower()] = quoted
            rest = rest[one.end() :]
    return found


def may_know(registry: str, realm: str) -> bool:
    """Se le credenziali di ``registry`` possono andare a ``realm``: lui stesso, o lo stesso dominio.

    >>> may_know("registry.gitlab.com", "gitlab.com"), may_know("registry.example", "ladro.example")
    (True, False)
    """
    if registry == realm or _SIBLINGS.get(registry) == realm:
        return True
    above, under = sorted((registry, realm), key=len)
    return "." in above and not above.replace(".", "").isdigit() and under.endswith(f".{above}")


def _name(origin: Origin) -> str:
    """Come si scrive quel registro in ``labkit login``: niente per Docker Hub."""
    if origin.host in _SIBLINGS:
        return ""
    usual = {"http": 80, "https": 443}[origin.scheme] == origin.port
    return f" {origin.host}" if usual else f" {origin.host}:{origin.port}"


class Authorizer:
    """L'intestazione Authorization per ogni cosa che si vuole fare in un registro."""

    def __init__(self, transport: Transport, origin: Origin, credentials: Credentials | None) -> None:
        self._transport, self._origin, self._credentials = transport, origin, credentials
        self._tokens: dict[str, tuple[str, float]] = {}
        self._basic = False
        self._lock = threading.Lock()

    def header(self, scope: str) -> str:
        """L'intestazione da mandare adesso, o vuoto se non ce n'è ancora una."""
        with self._lock:
            if self._basic and self._credentials:
                return self._credentials.basic
            token, until = self._tokens.get(scope, ("", 0.0))
            return f"Bearer {token}" if token and time.monotonic() < until else ""

    def answer(self, refused: Answer, scope: str) -> bool:
        """Risponde a un 401; vero se adesso ha senso riprovare."""
        wanted = challenges(refused.headers.get("WWW-Authenticate", ""))
        if "bearer" in wanted:
            token, seconds = self._token(wanted["bearer"], scope)
            with self._lock:
                self._tokens[scope] = (token, time.monotonic() + seconds)
            return True
        with self._lock:
            again = "basic" in wanted and bool(self._credentials and self._credentials.username) and not self._basic
            self._basic = self._basic or again
        return again

    def _token(self, wanted: Mapping[str, str], scope: str) -> tuple[str, float]:
        realm = wanted.get("realm", "")
        origin = Origin.of(realm)
        check_move(self._origin, origin, "la richiesta di un gettone")
        known = self._credentials
        if known and not may_know(self._origin.host, origin.host):
            raise RegistryError(
                f"Il registro {self._origin.host} vuole che le tue credenziali vadano a {origin.host}, che non è suo: "
                "non le mando.",
                f"se il registro è pubblico, prova senza credenziali: labkit logout{_name(self._origin)}",
            )
        query = {"service": wanted.get("service", ""), "scope": scope or wanted.get("scope", "")}
        query = {key: value for key, value in query.items() if value}
        if known and known.identity_token:
            form = {
                **query,
                "grant_type": "refresh_token",
                "refresh_token": known.identity_token,
                "client_id": "labkit",
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._transport.patiently("POST", realm, headers, body=urlencode(form).encode())
        else:
            url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(query)}"
            answer = self._transport.patiently("GET", url, {}, secret=known.basic if known else "")
        with answer:
            if answer.status in (400, 401, 403):
                what = "non accetta le tue credenziali" if known else "vuole che tu dica chi sei"
                raise RegistryError(
                    f"Il registro {self._origin.host} {what}.", f"labkit login{_name(self._origin)}", answer.status
                )
            if answer.status != 200:
                raise RegistryError(
                    f"Il servizio dei gettoni di {self._origin.host} risponde {answer.status}.",
                    "riprova fra poco",
                    answer.status,
                )
            try:
                data = json.loads(answer.read(_LARGEST_TOKEN))
                token, seconds = str(data.get("token") or data["access_token"]), float(data.get("expires_in") or 60)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                token, seconds = "", 0.0
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise RegistryError(f"Il servizio dei gettoni di {self._origin.host} non ha dato un gettone.")
        return token, min(max(seconds, 60.0), 3600.0) * 0.9
