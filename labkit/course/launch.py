"""Apre JupyterLab sulla copia dello studente: un comando, un indirizzo, e Ctrl-C per finire.

Il server ascolta solo su questa macchina, parla nel suo registro (``.labkit/jupyter.log``) e non nel
terminale, e finisce quando finisce ``labkit lab``: con Ctrl-C, con la finestra del terminale, o ucciso.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

from labkit.course.copies import make_copy
from labkit.course.student import STATE
from labkit.errors import ConflictError, LabError, NotFoundError

#: Dove sta la copia dello studente se non se ne sceglie un'altra.
DEFAULT_FOLDER = "~/dentro-i-container"

#: Il nome del kernel del corso: il cartellino «labkit» della scheda di avvio.
KERNEL = "labkit"

#: Quanto si aspetta che il server risponda, in secondi: un disco lento può volerne venti.
START_TIMEOUT = 60.0


def open_lab(
    folder: str | os.PathLike[str] = DEFAULT_FOLDER,
    *,
    browser: bool = True,
    port: int = 8888,
    source: str | os.PathLike[str] | None = None,
) -> int:
    """Prepara (o aggiorna) la copia in ``folder``, avvia lì JupyterLab e aspetta che finisca.

    Stampa l'indirizzo, con la chiave che serve per entrare. Se ``port`` è occupata ne prova altre
    cinquanta; con ``browser=False`` non apre il browser. ``source`` è la cartella dei notebook
    verificati (di solito quella del progetto). Restituisce il codice di uscita: 0 se è finito bene.
    Solleva :class:`~labkit.errors.LabError` se la copia non si può fare o JupyterLab non parte.
    """
    report = make_copy(folder, source)
    print(report, flush=True)
    return serve(report.folder, browser=browser, port=port)


def serve(folder: Path, *, page: str = "", browser: bool = True, port: int = 8888) -> int:
    """Avvia JupyterLab in ``folder`` (che ha già la sua ``.labkit``) sulla pagina ``page`` e aspetta che finisca."""
    need_kernel()
    already = _address(folder, None)
    if already is not None:
        print(f"JupyterLab è già aperto su questa cartella: {already}", flush=True)
        return 0
    if os.geteuid() == 0:
        print("Stai lavorando da root: il corso non ne ha bisogno, un utente qualunque è più sicuro.", flush=True)
    with _log(folder).open("wb") as log, _until_signal():
        server = subprocess.Popen(
            server_command(folder, port, page=page),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=server_environment(),
            cwd=folder,
        )
        try:
            address = _wait_ready(server, folder)
            print(f"JupyterLab è pronto: {address}\nPer finire: Ctrl-C qui.", flush=True)
            if browser:
                _show(folder, address)
            return _finished(server.wait(), folder)
        except KeyboardInterrupt:
            print("\nChiudo JupyterLab e i suoi laboratori…", flush=True)
            return 0
        finally:
            _end(server)


def server_command(folder: Path, port: int = 8888, *, retries: int = 50, page: str = "") -> list[str]:
    """Il comando che avvia JupyterLab sulla copia in ``folder``, sulla pagina ``page`` o sulla prima lezione."""
    return [
        *(sys.executable, "-m", "labkit.course.italiano.server"),
        *(("--allow-root",) if os.geteuid() == 0 else ()),
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--ServerApp.port_retries={retries}",
        *lab_options(folder, page),
    ]


def lab_options(folder: Path, page: str = "") -> list[str]:
    """Le opzioni di JupyterLab che fanno il corso, qualunque sia l'indirizzo a cui il server risponde."""
    state = folder / STATE
    return [
        "--no-browser",
        f"--ServerApp.root_dir={folder}",
        # Ctrl-C reaches the server too, and it would ask an English question.
        "--ServerApp.answer_yes=True",
        # Named, the shell is not a login one: a login shell would forget where the command labkit is.
        f"--ServerApp.terminado_settings={{'shell_command': {[os.environ.get('SHELL') or '/bin/sh']!r}}}",
        f"--LabApp.default_url={page or first_page(folder)}",
        f"--LabApp.workspaces_dir={state / 'workspaces'}",
        # One card in the launcher, and no choice to get wrong.
        f"--KernelSpecManager.allowed_kernelspecs={KERNEL}",
        "--KernelSpecManager.ensure_native_kernel=False",
        f"--MultiKernelManager.default_kernel_name={KERNEL}",
    ]


def server_environment() -> dict[str, str]:
    """L'ambiente del server: il comando ``labkit`` nei terminali, e di JupyterLab solo le parti che servono."""
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    ours = str(Path(__file__).parent / "jupyter")
    environment["JUPYTER_CONFIG_PATH"] = os.pathsep.join(
        [ours, *filter(None, [environment.get("JUPYTER_CONFIG_PATH")])]
    )
    return environment


def first_page(folder: Path) -> str:
    """L'indirizzo della prima lezione dentro JupyterLab, o JupyterLab vuoto se non ce ne sono."""
    lessons = sorted(folder.glob("[0-9][0-9]-*.ipynb"))
    return f"/lab/tree/{quote(lessons[0].name)}" if lessons else "/lab"


def need_kernel() -> None:
    """Un :class:`~labkit.errors.NotFoundError` se il kernel del corso non è installato in questo Python."""
    from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager

    if KERNEL not in KernelSpecManager(ensure_native_kernel=False).find_kernel_specs():
        raise NotFoundError(
            f"Il kernel «{KERNEL}» non è installato in questo Python (c'è solo {NATIVE_KERNEL_NAME}).",
            f"{sys.executable} -m pip install dentro-i-container, oppure make setup",
        )


def _address(folder: Path, pid: int | None) -> str | None:
    """The address, token included, of the server of this folder (and of this process, if given)."""
    from jupyter_server.serverapp import list_running_servers

    for info in list_running_servers():
        if Path(info["root_dir"]) == folder and pid in (None, info["pid"]) and _owned(info):
            token = f"?token={info['token']}" if info.get("token") else ""
            # The root, not /lab: the server sends who comes there to its first page.
            return f"http://127.0.0.1:{info['port']}{info['base_url']}{token}"
    return None


def _owned(info: dict[str, Any]) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{info['pid']}").stat().st_uid == os.getuid()
    return False


def _wait_ready(server: subprocess.Popen[bytes], folder: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise LabError(f"JupyterLab non è partito. {_last_words(folder)}", f"cat {_log(folder)}")
        address = _address(folder, server.pid)
        if address is not None:
            return address
        time.sleep(0.1)
    raise LabError(f"JupyterLab non risponde dopo {START_TIMEOUT:.0f} secondi.", f"cat {_log(folder)}")


def _finished(code: int, folder: Path) -> int:
    if code > 0:
        raise LabError(f"JupyterLab è finito male. {_last_words(folder)}", f"cat {_log(folder)}")
    return 0


def _log(folder: Path) -> Path:
    return folder / STATE / "jupyter.log"


def _last_words(folder: Path) -> str:
    lines = _log(folder).read_text(errors="replace").split("\n")
    said = [line for line in lines if line.strip()]
    return f"Le sue ultime parole: {said[-1].strip()}" if said else ""


def _show(folder: Path, address: str) -> None:
    """Open the browser, where there is one: a text browser would take the terminal away."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or shutil.which("wslview")):
        return
    # The key goes in a private file, not on a command line that every user of the machine can read.
    page = folder / STATE / "apri.html"
    with contextlib.suppress(FileNotFoundError):
        page.unlink()
    with os.fdopen(os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        target = html.escape(json.dumps(address)[1:-1], quote=True)
        file.write(f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={target}">')
    webbrowser.open(page.as_uri())


@contextlib.contextmanager
def _until_signal() -> Iterator[None]:
    """The end asked by a signal, or by the terminal's window closing, is a Ctrl-C like the other."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and its kernels, even if the student is in a hurry and presses Ctrl-C again."""
    for send in (server.terminate, server.kill):
        if server.poll() is not None:
            return
        send()
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            server.wait(timeout=15)
    if server.poll() is None:
        raise ConflictError(f"Il processo {server.pid} di JupyterLab non vuole finire.", f"kill -9 {server.pid}")
