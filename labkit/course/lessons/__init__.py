"""I dati delle lezioni, due file per lezione, che :mod:`labkit.course.catalog` trova da solo.

``lesson_NN.py`` ha gli esercizi, in una tupla ``EXERCISES``. Una verifica riceve il laboratorio (e
le eventuali risposte) e guarda l'EFFETTO sul kernel, mai il testo scritto dallo studente::

    from labkit.course.catalog import Exercise
    from labkit.course.exercises import expect, parameter
    from labkit.model import Outcome

    def _hostname(lab: Lab) -> Outcome:
        wanted = parameter("es-03-1")
        found = lab.container("uno").exec(["hostname"], quiet=True).output.strip()
        return expect(found == wanted, f"un container di nome {wanted}", f"un container di nome {found}")

    EXERCISES = (
        Exercise(
            key="es-03-1",
            title="Un nome tutto tuo",
            goal="Avvia un container «uno» con l'hostname {parametro}.",
            hints=(
                "L'hostname appartiene al namespace uts.",
                "lab.run ha l'opzione hostname=.",
                "lab.run('busybox', 'sleep 100', name='uno', hostname=parameter('es-03-1'), detach=True)",
            ),
            check=_hostname,
            parameter=animal,
        ),
    )

``{parametro}`` in ``goal`` e ``hints`` diventa il parametro dello studente. Nel notebook la cella
dello studente (tag ``es-03-1``) e quella della verifica (``check("es-03-1", lab)``) si seguono; se
la verifica vuole una risposta, la cella la prepara vuota prima delle marche: ``risposta = None``.

``quiz_NN.toml`` ha le domande: una sola risposta giusta, e per ognuna il perché::

    [q-03-1]
    question = "Che cosa cambia sethostname in un nuovo namespace uts?"

    [[q-03-1.answers]]
    text = "il nome che vede chi sta in quel namespace"
    right = true
    why = "il namespace uts tiene la sua copia del nome."

    [[q-03-1.answers]]
    text = "il nome di tutta la macchina"
    why = "quello è il namespace uts di partenza, che non è stato toccato."
"""
