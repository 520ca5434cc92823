"""Le immagini del corso: che cosa contengono, e come si fanno da pacchetti della distribuzione senza essere root.

Si fanno una volta, prima delle lezioni, e poi stanno fra le immagini dello studente come tutte le altre.

::

    layer     uno strato da pacchetti Debian, file nostri, cartelle e collegamenti
    book      le quattro ricette: base, nginx, mariadb, app
    making    quali mancano, farle, e dove non c'è apt prenderle da un registro pubblico
    command   il comando labkit course-images
    files/    i file nostri, come stanno nell'immagine
"""
