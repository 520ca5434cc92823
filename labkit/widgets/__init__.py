"""I gusci interattivi: ipywidgets per i comandi, un file JavaScript semplice per ogni disegno vivo.

Niente qui disegna o decide: il disegno è di :mod:`labkit.draw`, le azioni sono del laboratorio.
"""

from labkit.widgets.doctor_board import doctor_widget
from labkit.widgets.namespace_map import namespace_widget
from labkit.widgets.plan_stepper import plan_widget

__all__ = ["doctor_widget", "namespace_widget", "plan_widget"]
