"""La lingua italiana di JupyterLab, con le parole del corso.

Il pacchetto dichiara questo modulo nel gruppo ``jupyterlab.languagepack`` e JupyterLab ne legge i file
``locale/it_IT/LC_MESSAGES/*.json``: un file per dominio, una frase per riga. ``tools/untranslated.py``
elenca le frasi dell'interfaccia che mancano ancora.
"""
