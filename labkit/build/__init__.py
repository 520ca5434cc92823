"""Da un Containerfile a un'immagine: leggerlo, sapere che cosa è già fatto, eseguire il resto.

La lettura (``lines``, ``words``, ``instructions``, ``containerfile``) e la memoria (``cache``) sono pure; chi esegue
un passo (``workshop``) è un laboratorio aperto, e si può sostituire nelle prove.
"""
