"""Una domanda con le sue opzioni: pulsanti di scelta che si usano con il mouse e con la tastiera.

La usano le previsioni e i quiz. Le frecce cambiano la scelta, e JupyterLab non le prende per sé; quando
non si può più scegliere, la scelta fatta resta in vista.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from labkit.widgets.shell import STYLE


class Choices(anywidget.AnyWidget):
    """Domanda, opzioni, un eventuale pulsante e la frase sotto; ``reply`` è HTML, il resto è testo."""

    _esm = Path(__file__).with_suffix(".js")
    _css = STYLE

    question = traitlets.Unicode().tag(sync=True)
    options = traitlets.List(traitlets.Unicode()).tag(sync=True)
    index = traitlets.Int(None, allow_none=True).tag(sync=True)
    locked = traitlets.Bool(False).tag(sync=True)
    action = traitlets.Unicode().tag(sync=True)
    reply = traitlets.Unicode().tag(sync=True)

    def __init__(self, question: str, options: Sequence[str], index: int | None = None, action: str = "") -> None:
        super().__init__(question=question, options=list(options), index=index, action=action)

    @traitlets.validate("index")
    def _among_the_options(self, proposal: Any) -> int | None:
        index: int | None = proposal["value"]
        possible = index is None or 0 <= index < len(self.options)
        return index if possible and not self.locked else self.index  # a click already on its way changes nothing

    def on_answer(self, callback: Callable[[int], None]) -> None:
        """Chiama ``callback`` con la scelta fatta ogni volta che si preme il pulsante."""

        def received(_widget: Any, content: Any, _buffers: Any) -> None:
            if isinstance(content, dict) and content.get("kind") == "answer" and self.index is not None:
                callback(self.index)

        self.on_msg(received)
