"""``python -m labkit.course.hub``: JupyterLab per chi apre il corso da un collegamento, senza installare niente.

Lo avvia Binder, o un JupyterHub: indirizzo, porta e chiave li decide lui, e li passa sulla riga di comando.
Il resto è come in ``labkit lab``: la copia dello studente, l'italiano, la prima lezione davanti.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from labkit.course import launch
from labkit.course.copies import make_copy
from labkit.course.italiano import server
from labkit.errors import LabError


def main(arguments: Sequence[str]) -> None:
    """Prepara la copia dello studente e diventa il server; ``arguments`` sono le opzioni di JupyterLab, e vincono."""
    folder = make_copy(launch.DEFAULT_FOLDER).folder
    launch.need_kernel()
    os.environ.update(launch.server_environment())
    os.chdir(folder)
    sys.argv = ["jupyter-lab", *launch.lab_options(folder), *arguments]
    server.run()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except LabError as error:
        sys.exit(str(error))
