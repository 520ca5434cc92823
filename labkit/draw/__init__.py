"""I disegni del corso: funzioni pure, da un oggetto di :mod:`labkit.model` a testo, SVG, HTML o figura.

Un disegno non chiede niente al kernel e non ricorda niente: gli stessi dati danno gli stessi byte.
Per questo compare uguale in un widget, in una pagina esportata, in una diapositiva e in un test.
"""
