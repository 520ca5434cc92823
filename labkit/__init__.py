"""labkit: il laboratorio del corso «Dentro i container».

Sono questi i nomi che le lezioni usano; importarli non carica niente che tocchi il kernel::

    from labkit import Lab
    lab = Lab()
    lab.run("busybox", ["hostname"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.client.doctor import doctor
    from labkit.course.emulated import EmulatedMachine
    from labkit.course.exercises import check, hint, parameter
    from labkit.course.laboratory import Lab
    from labkit.course.predict import predict
    from labkit.course.quiz import quiz
    from labkit.course.source import source
    from labkit.draw.charts import chart
    from labkit.errors import LabError
    from labkit.model import ContainerSpec
    from labkit.widgets import doctor_widget, namespace_widget, plan_widget

__all__ = [
    "ContainerSpec",
    "EmulatedMachine",
    "Lab",
    "LabError",
    "chart",
    "check",
    "doctor",
    "doctor_widget",
    "hint",
    "namespace_widget",
    "parameter",
    "plan_widget",
    "predict",
    "quiz",
    "source",
]

_WHERE = {
    "ContainerSpec": "labkit.model",
    "EmulatedMachine": "labkit.course.emulated",
    "Lab": "labkit.course.laboratory",
    "LabError": "labkit.errors",
    "chart": "labkit.draw.charts",
    "check": "labkit.course.exercises",
    "doctor": "labkit.client.doctor",
    "doctor_widget": "labkit.widgets",
    "hint": "labkit.course.exercises",
    "namespace_widget": "labkit.widgets",
    "parameter": "labkit.course.exercises",
    "plan_widget": "labkit.widgets",
    "predict": "labkit.course.predict",
    "quiz": "labkit.course.quiz",
    "source": "labkit.course.source",
}


def __getattr__(name: str) -> Any:
    # Lazy: the supervisor imports labkit.kernel through this package and must stay small.
    if name not in _WHERE:
        raise AttributeError(f"labkit non ha «{name}»")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext labkit``: aggiunge la cella magica ``%%lab``."""
    from labkit.client.magic import load_ipython_extension as load

    load(shell)
