"""Le capability: il potere di root fatto a pezzi, uno per nome.

Un insieme di capability è qui un ``frozenset`` di nomi interi (``CAP_CHOWN``). Un container nasce
con le 14 di Docker, mai con ``CAP_SYS_ADMIN`` se non la si chiede, e quello che non ha non lo può
riprendere: manca anche dal *bounding set* (capabilities(7)).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from labkit.errors import InvalidError
from labkit.kernel import libc, procfs

_DOCKER = """
AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID
SYS_CHROOT
"""

# linux/capability.h: the position in this list is the number.
_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""

#: Nome → numero, da ``CAP_CHOWN`` (0) a ``CAP_CHECKPOINT_RESTORE`` (40).
CAPABILITIES: Mapping[str, int] = MappingProxyType({f"CAP_{name}": n for n, name in enumerate(_NAMES.split())})

_BY_NUMBER = {number: name for name, number in CAPABILITIES.items()}

#: Tutte quelle che hanno un nome.
ALL = frozenset(CAPABILITIES)

#: Le 14 che Docker dà a un container se non si chiede altro.
DOCKER_DEFAULT = frozenset(f"CAP_{name}" for name in _DOCKER.split())


def parse(name: str) -> frozenset[str]:
    """Le capability indicate da ``name``, scritta come in ``docker run --cap-add``.

    >>> parse("net_raw")
    frozenset({'CAP_NET_RAW'})
    >>> parse("ALL") == ALL
    True
    """
    full = name.strip().upper()
    if full in ("ALL", "CAP_ALL"):
        return ALL
    if not full.startswith("CAP_"):
        full = f"CAP_{full}"
    if full not in CAPABILITIES:
        import difflib  # only here: a container that starts must not pay for it

        close = difflib.get_close_matches(full, sorted(CAPABILITIES), n=1)
        raise InvalidError(
            f"La capability «{name}» non esiste.", f"forse {close[0]}" if close else "l'elenco: man 7 capabilities"
        )
    return frozenset({full})


def compute(add: Iterable[str] = (), drop: Iterable[str] = ()) -> frozenset[str]:
    """Le capability di un container: le 14 di Docker, meno ``drop``, più ``add``.

    Le regole sono quelle di ``docker run``: con ``add`` ALL si parte da tutte e si tolgono le
    altre; con ``drop`` ALL restano solo quelle aggiunte.

    >>> sorted(compute(add=["NET_ADMIN"], drop=["ALL"]))
    ['CAP_NET_ADMIN']
    """
    added, dropped = [parse(name) for name in add], [parse(name) for name in drop]
    some_added = frozenset().union(*(caps for caps in added if caps != ALL))
    some_dropped = frozenset().union(*(caps for caps in dropped if caps != ALL))
    if ALL in added:
        return ALL - some_dropped
    if ALL in dropped:
        return some_added
    return DOCKER_DEFAULT - some_dropped | some_added


def mask(caps: Iterable[str]) -> int:
    """L'insieme come numero, un bit per capability: il modo del kernel.

    >>> hex(mask({"CAP_CHOWN", "CAP_KILL"}))
    '0x21'
    """
    return sum(1 << CAPABILITIES[name] for name in set(caps))


def names(bits: int) -> frozenset[str]:
    """I nomi di una maschera; un numero più nuovo di questa tabella diventa ``CAP_41`` e così via.

    >>> sorted(names(0x21))
    ['CAP_CHOWN', 'CAP_KILL']
    """
    return frozenset(_BY_NUMBER.get(n, f"CAP_{n}") for n in range(bits.bit_length()) if bits >> n & 1)


@lru_cache(maxsize=1)
def last() -> int:
    """Il numero più alto che questo kernel conosce (``/proc/sys/kernel/cap_last_cap``)."""
    try:
        with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return max(_BY_NUMBER)


def bound(caps: Iterable[str]) -> None:
    """Toglie dal *bounding set* tutto quello che non è in ``caps``, anche ciò che non ha ancora un nome qui.

    Chiede ``CAP_SETPCAP``: va fatto prima di cambiare utente (prctl(2), ``PR_CAPBSET_DROP``).
    """
    kept = mask(caps)
    for n in range(last() + 1):
        if not kept >> n & 1:
            libc.prctl(libc.PR_CAPBSET_DROP, n)


def keep(caps: Iterable[str]) -> None:
    """Tiene in mano solo ``caps``: permitted ed effective uguali, inheritable e ambient vuoti (capset(2))."""
    bits = mask(caps) & ((1 << last() + 1) - 1)
    libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_CLEAR_ALL)
    libc.capset(bits, bits, 0)


def limit_to(caps: Iterable[str]) -> None:
    """Lascia al processo solo ``caps``, per sempre: :func:`bound` e poi :func:`keep`.

    Chi deve diventare un altro utente fa ``bound(caps)``, poi setgroups, setgid e setuid, poi
    ``keep(())``: dopo setuid non ci sono più capability da tenere, né il permesso di toglierne.
    """
    wanted = frozenset(caps)
    bound(wanted)
    keep(wanted)


def read(pid: int | str = "self") -> dict[str, frozenset[str]]:
    """Le capability di un processo come le dice ``/proc/PID/status``: ``CapEff``, ``CapBnd`` e le altre.

    >>> sorted(read())
    ['CapAmb', 'CapBnd', 'CapEff', 'CapInh', 'CapPrm']
    """
    return {name: names(int(value, 16)) for name, value in procfs.status(pid).items() if name.startswith("Cap")}
