"""I gusci interattivi: ipywidgets per i comandi, un file JavaScript semplice per ogni disegno vivo.

Niente qui disegna o decide: il disegno è di :mod:`labkit.draw`, le azioni sono del laboratorio.
"""
