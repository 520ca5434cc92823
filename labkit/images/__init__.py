"""Le immagini: come si chiamano, di che cosa sono fatte, dove stanno, come viaggiano (OCI image-spec 1.1).

Nessun modulo di qui tocca il kernel: si leggono e si scrivono file, e si parla HTTP. Chi ha bisogno di
altri utenti (spacchettare uno strato) chiama questi moduli da dentro un namespace utente.

::

    reference    il nome: registro, deposito, tag, impronta
    digest       le impronte: di byte compressi, di byte decompressi, di una pila di strati
    descriptor   «sono questi byte»: tipo, impronta, misura, piattaforma
    manifest     il manifesto di un'immagine e l'indice di più piattaforme
    config       come parte, con che storia, su quali strati
    image        Image e Layer, immutabili
    store        dove stanno: una cartella OCI, condivisa da più laboratori
    unpack       da strato a cartella, e diff il contrario
    archive      save e load
    registry     pull e push; local_registry, il registro del corso
"""
