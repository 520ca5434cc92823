"""Dire a un registro chi siamo, e dimenticarlo: ``login`` e ``logout``, con il file e gli aiutanti di Docker.

Le credenziali si provano prima di conservarle; vanno dove Docker le cerca, così valgono anche per lui.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from labkit.errors import LabError
from labkit.images.disk import explained, make_folder, replace_file
from labkit.images.registry import Registry
from labkit.images.registry_auth import (
    Credentials,
    config_path,
    docker_config,
    helper_for,
    run_helper,
    server_names,
)
from labkit.images.registry_origin import RegistryError


def login(registry: str, username: str, password: str) -> str:
    """Prova le credenziali e le conserva; torna dove: un file (in chiaro, come Docker) o il nome di un aiutante.

    Errori: :class:`RegistryError` se il registro non le accetta o non risponde.
    """
    known = Registry(registry, credentials=Credentials(username, password))
    try:
        known.check()
    except RegistryError as problem:
        if problem.status not in (401, 403):
            raise
        why = f"Il registro {registry} non accetta queste credenziali."
        raise RegistryError(why, "controlla nome e password, e ripeti", problem.status) from None
    finally:
        known.transport.close()
    config, server = docker_config(), server_names(registry)[0]
    if helper := helper_for(config, server):
        said = run_helper(helper, "store", json.dumps({"ServerURL": server, "Username": username, "Secret": password}))
        if said is None:
            raise LabError(f"docker-credential-{helper} non ha conservato le credenziali.", "prova con: docker login")
        return f"docker-credential-{helper}"
    secret = base64.b64encode(f"{username}:{password}".encode()).decode()
    _write(config | {"auths": {**_auths(config), server: {"auth": secret}}})
    return config_path()


def logout(registry: str) -> bool:
    """Dimentica le credenziali di un registro; falso se non ce n'erano."""
    config, found = docker_config(), False
    auths = _auths(config)
    for server in server_names(registry):
        if helper := helper_for(config, server):
            had = run_helper(helper, "get", server) is not None
            found = (had and run_helper(helper, "erase", server) is not None) or found
        found = auths.pop(server, None) is not None or found
    if auths != config.get("auths", {}):
        _write(config | {"auths": auths})
    return found


def _auths(config: dict[str, Any]) -> dict[str, Any]:
    auths = config.get("auths")
    return dict(auths) if isinstance(auths, dict) else {}


def _write(config: dict[str, Any]) -> None:
    path = os.path.realpath(config_path())  # some people keep it elsewhere, behind a link
    with explained("conservare le credenziali"):
        make_folder(os.path.dirname(path))
        replace_file(path, json.dumps(config, indent="\t").encode())
