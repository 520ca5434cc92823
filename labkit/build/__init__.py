"""Da un Containerfile a un'immagine: leggerlo, sapere che cosa è già fatto, eseguire il resto.

Si comincia da ``building`` (il lavoro intero, da ``lab.build`` e da ``labkit build``, che è in ``command``):

- leggere: ``lines``, ``words``, ``instructions``, ``containerfile``. È lavoro sul testo, senza file e senza container;
- fare un passo dopo l'altro: ``builder``, con le variabili (``scope``), i passi già fatti (``cache``) e ciò che cambia
  solo la configurazione (``changes``);
- ``RUN``: ``workshop``, in un container di un laboratorio aperto, che le prove possono sostituire; ``clamp`` ne fissa
  le ore;
- ``COPY``, ``ADD``, ``WORKDIR``: ``copying`` decide che cosa va dove, ``sources`` e ``matching`` lo trovano, ``view``
  legge l'immagine di sotto, ``layering`` scrive lo strato;
- raccontare: ``steps`` (un passo, i protocolli, l'errore) e ``telling`` (le parole).
"""
