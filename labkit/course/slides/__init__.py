"""Le presentazioni: da un testo in ``slides/`` a un solo file HTML che si apre senza rete.

:mod:`~labkit.course.slides.deck` legge il testo e ne dice gli errori, :mod:`~.run` esegue le celle
sul kernel di adesso, :mod:`~.page` scrive la pagina, :mod:`~.npm` procura reveal.js e il motore dei
widget, :mod:`~.courses` legge i corsi, :mod:`~.command` è il comando ``labkit slides``.
"""

from labkit.course.slides.command import build, live, main

__all__ = ["build", "live", "main"]
