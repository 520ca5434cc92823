"""Le lezioni come programma: esercizi, quiz, previsioni, sorgenti, copie per gli studenti.

=====================  ===============================================================
modulo                 che cosa tiene
=====================  ===============================================================
``student``            chi è lo studente e dov'è la sua cartella
``progress``           che cosa ha già fatto: ``.labkit/progressi.json`` e il riassunto
``exercises``          ``check``, ``hint``, ``parameter``
``quiz``, ``predict``  domande e previsioni (la parte grafica sta in ``labkit.widgets``)
``source``             mostra il codice di labkit dentro la lezione
``copies``             la copia personale dei notebook, che non tocca il lavoro fatto
``execute``            riesegue i notebook verificati e li rimette in ordine
``catalog``            trova esercizi e domande di una lezione
``lessons``            i dati di ogni lezione: ``lesson_NN.py`` e ``quiz_NN.toml``
=====================  ===============================================================
"""
