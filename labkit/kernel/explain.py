"""Da un errno a una frase: perché il kernel ha detto di no, e che cosa si può fare.

La tabella è indicizzata per (syscall, errno); quello che manca lì prende la frase generale
dell'errno. Le frasi seguono le sezioni ERRORS delle pagine del manuale.
"""

from __future__ import annotations

import errno as e
import os

from labkit.errors import KernelError

_GENERAL = {
    e.EPERM: "il kernel non dà il permesso a questo processo",
    e.EACCES: "i permessi del file non lo consentono",
    e.ENOENT: "il file o la cartella non c'è",
    e.EEXIST: "esiste già",
    e.ENOTDIR: "un pezzo del percorso non è una cartella",
    e.EISDIR: "è una cartella, serviva un file",
    e.ENOSPC: "non c'è più spazio (o il kernel non concede altri oggetti di questo tipo)",
    e.ENOMEM: "la memoria non basta",
    e.EMFILE: "il processo ha troppi file aperti",
    e.ENFILE: "la macchina ha troppi file aperti",
    e.EAGAIN: "il limite di processi è raggiunto",
    e.EBUSY: "la risorsa è in uso",
    e.EINVAL: "il kernel non accetta questi argomenti",
    e.ENOSYS: "questo kernel non ha questa chiamata",
    e.EROFS: "il filesystem è in sola lettura",
    e.ELOOP: "il percorso attraversa troppi link simbolici",
    e.ENODEV: "questo kernel non conosce questo tipo di filesystem",
    e.ESRCH: "il processo non c'è",
    e.ENXIO: "il dispositivo non risponde",
    e.EOPNOTSUPP: "l'operazione non è possibile qui",
    e.ENAMETOOLONG: "il nome è troppo lungo",
    e.EADDRINUSE: "l'indirizzo è già usato",
    e.ECONNREFUSED: "nessuno risponde",
    e.EIO: "il disco o il filesystem ha dato un errore",
}

_SPECIFIC: dict[tuple[str, int], tuple[str, str]] = {
    ("unshare", e.EPERM): (
        "per creare questo namespace serve il permesso CAP_SYS_ADMIN in un namespace utente",
        "crea prima un namespace utente: unshare('user')",
    ),
    ("unshare", e.EINVAL): (
        "il processo ha più thread, oppure questo kernel non conosce quel namespace",
        "usa un processo del laboratorio: p = lab.process()",
    ),
    ("unshare", e.ENOSPC): (
        "il limite di namespace della macchina è raggiunto",
        "sudo sysctl user.max_user_namespaces=15000",
    ),
    ("clone3", e.EPERM): ("per creare questi namespace serve CAP_SYS_ADMIN in un namespace utente", ""),
    ("clone3", e.EAGAIN): ("il limite di processi dell'utente o del cgroup è raggiunto", "ulimit -u"),
    ("clone3", e.ENOSPC): (
        "il limite di namespace della macchina è raggiunto",
        "sudo sysctl user.max_user_namespaces=15000",
    ),
    ("setns", e.EPERM): ("per entrare in quel namespace serve CAP_SYS_ADMIN nel namespace utente che lo possiede", ""),
    ("setns", e.EINVAL): ("in quel namespace non si può entrare da qui (è già il tuo, o è di un altro tipo)", ""),
    ("mount", e.EPERM): (
        "per montare serve un namespace mount del proprio namespace utente",
        "prima unshare('user', 'mount')",
    ),
    ("mount", e.EINVAL): ("il filesystem rifiuta queste opzioni, o il punto di mount non è uno", ""),
    ("umount2", e.EINVAL): ("lì non c'è un mount, oppure è bloccato da un namespace più esterno", ""),
    ("sethostname", e.EPERM): (
        "il nome host appartiene a un altro namespace utente",
        "prima unshare('uts')",
    ),
    ("pivot_root", e.EINVAL): ("la nuova radice deve essere un punto di mount, diverso dalla radice di adesso", ""),
    ("write", e.EPERM): (
        "il kernel rifiuta questo valore: la mappa si scrive una volta sola, e solo con i propri id",
        "",
    ),
    ("/proc/self/timens_offsets", e.EPERM): (
        "l'orologio si sposta solo in un namespace time proprio, e questo processo non l'ha ancora",
        "prima unshare('time')",
    ),
    ("/proc/self/timens_offsets", e.EACCES): (
        "nel namespace time è già nato un figlio, e da allora l'orologio non si sposta più",
        "nell'ordine: unshare('time'), time_offset(...), fork()",
    ),
    ("rtnetlink", e.ENODEV): ("qui non c'è un'interfaccia di rete con questo nome", "p.links() dice quali ci sono"),
    ("cpuset.cpus", e.ERANGE): ("una di quelle CPU qui non c'è", "nproc dice quante ce ne sono: da 0 in su"),
    ("cpuset.cpus", e.EINVAL): ("una di quelle CPU qui non c'è", "nproc dice quante ce ne sono: da 0 in su"),
    ("memory.limit_in_bytes", e.EBUSY): (
        "il gruppo usa già più memoria di così, e il kernel non riesce a riprendersela",
        "un limite più alto, oppure ferma il programma",
    ),
    ("io.max", e.ENODEV): ("i limiti valgono per un disco intero, non per una sua parte", "lsblk dice quali sono"),
    ("blkio.throttle.read_bps_device", e.ENODEV): (
        "i limiti valgono per un disco intero, non per una sua parte",
        "lsblk dice quali sono",
    ),
    ("blkio.throttle.write_bps_device", e.ENODEV): (
        "i limiti valgono per un disco intero, non per una sua parte",
        "lsblk dice quali sono",
    ),
    ("cgroup.subtree_control", e.EBUSY): (
        "un gruppo della versione 2 che tiene dei processi non può dare limiti ai suoi figli",
        "sposta prima i processi in un gruppo figlio",
    ),
    ("fsmount", e.EPERM): ("il kernel non lascia montare questo filesystem in questo namespace utente", ""),
}


def error(syscall: str, number: int, path: str = "") -> KernelError:
    """L'errore di ``syscall`` con errno ``number``: messaggio in italiano, rimedio, pagina del manuale."""
    general = (_GENERAL.get(number, os.strerror(number)), "")
    file = os.path.basename(path)
    why, remedy = next((found for key in (path, file, syscall) if (found := _SPECIFIC.get((key, number)))), general)
    where = f" su «{path}»" if path else ""
    name = e.errorcode.get(number, str(number))
    return KernelError(f"{syscall}(2){where}: {name}, {why}.", remedy, errno=number, syscall=syscall, path=path)


def from_os_error(problem: OSError, syscall: str = "") -> KernelError:
    """Lo stesso, da un ``OSError`` di Python."""
    if isinstance(problem, KernelError):
        return problem
    return error(syscall or "syscall", problem.errno or 0, os.fsdecode(problem.filename or ""))
