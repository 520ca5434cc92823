"""Un'aggiunta di nbval (``-p tests.notebooks.spoiling``): quando una cella dà l'output conservato, lo si guasta.

nbval deve accorgersene: se non se ne accorge quella cella non prova niente, e fallisce. Le celle in cui se n'è
accorto hanno nel rapporto JUnit la proprietà ``noticed``.
"""

from __future__ import annotations

import copy
from typing import Any

from nbval.plugin import IPyNbCell

#: What nbval compares, among what our notebooks store.
COMPARED = ("text/plain", "text/html", "text/latex", "image/svg+xml")
WORDS = "\nriga che il kernel non ha detto\n"

_compare = IPyNbCell.compare_outputs


def spoil(output: Any) -> bool:
    """Guasta un output, sul posto; falso se non ha niente che nbval confronti."""
    if output["output_type"] == "error":
        output["evalue"] += WORDS
        return True
    if "text" in output:
        output["text"] += WORDS
        return True
    for mime in COMPARED:
        if mime in output.get("data", {}):
            output["data"][mime] += WORDS
            return True
    return False


def compare_outputs(self: Any, test: Any, ref: Any, skip_compare: Any = None) -> bool:
    """Come quella di nbval, e in più il confronto con gli output conservati guastati."""
    if not _compare(self, test, ref, skip_compare):
        return False
    worse = copy.deepcopy(ref)
    spoiled = [spoil(output) for output in worse]
    if any(spoiled):
        if _compare(self, test, worse, skip_compare):
            self.comparison_traceback.append("Un output guastato va bene lo stesso: nbval non lo confronta.")
            return False
        self.user_properties.append(("noticed", "yes"))
    return True


IPyNbCell.compare_outputs = compare_outputs
