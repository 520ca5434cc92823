"""Si esegue DENTRO un container, con il Python della macchina: prova ad uscire e racconta che cosa ha trovato.

Riceve come primo argomento un JSON (``calls``: nome → numero di syscall e argomenti, e i percorsi da
provare) e scrive un JSON. Non importa niente di labkit: dentro non c'è.
"""

import ctypes
import errno
import json
import os
import socket
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)


def answer(function, *arguments):
    """«ok» o il nome dell'errore."""
    try:
        function(*arguments)
    except OSError as problem:
        return errno.errorcode.get(problem.errno, str(problem.errno))
    return "ok"


def raw(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments))
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def status():
    with open("/proc/self/status") as lines:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def descriptors():
    folder = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
    found = {}
    for name in os.listdir(folder):
        if int(name) != folder:
            try:
                found[name] = os.readlink(name, dir_fd=folder)
            except OSError:
                pass
    os.close(folder)
    return found


def attack_processes():
    """Di ogni processo che si vede: eseguibile, cartella, radice, memoria, ambiente, descrittori."""
    report = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        base, seen = f"/proc/{pid}", {}
        for name in ("exe", "cwd", "root"):
            try:
                target = os.stat(f"{base}/{name}")
                seen[name] = [target.st_dev, target.st_ino]
            except OSError as problem:
                seen[name] = errno.errorcode[problem.errno]
        try:
            seen["fds"] = [os.readlink(f"{base}/fd/{fd}") for fd in os.listdir(f"{base}/fd")]
        except OSError as problem:
            seen["fds"] = errno.errorcode[problem.errno]
        try:
            with open(f"{base}/environ", "rb") as file:
                seen["environ"] = file.read().decode("utf-8", "replace")
        except OSError as problem:
            seen["environ"] = errno.errorcode[problem.errno]
        seen["mem"] = answer(lambda path=f"{base}/mem": os.close(os.open(path, os.O_RDWR)))
        try:
            with open(f"{base}/cmdline", "rb") as file:
                seen["cmdline"] = file.read().decode("utf-8", "replace")
        except OSError as problem:
            seen["cmdline"] = errno.errorcode[problem.errno]
        report[pid] = seen
    here = os.stat("/")
    return {"processes": report, "root": [here.st_dev, here.st_ino], "self": str(os.getpid())}


def read(path):
    try:
        if os.path.isdir(path):
            return sorted(os.listdir(path))
        with open(path, "rb") as file:
            return file.read(4096).decode("utf-8", "replace")
    except OSError as problem:
        return errno.errorcode[problem.errno]


def open_for_writing(path):
    return answer(lambda: os.close(os.open(path, os.O_WRONLY)))


def umount(path):
    return "ok" if libc.umount2(path.encode(), 2) == 0 else errno.errorcode[ctypes.get_errno()]


def remount(path):
    return "ok" if libc.mount(None, path.encode(), None, 32 | 4096, None) == 0 else errno.errorcode[ctypes.get_errno()]


def writable_kernel_files():
    """Ogni file di /proc/sys, /proc/irq, /proc/bus, /proc/fs e /sys che si apre in scrittura."""
    found = []
    for top in ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/sys"):
        for folder, folders, files in os.walk(top):
            folders[:] = [name for name in folders if not os.path.islink(f"{folder}/{name}")]
            for name in files:
                path = f"{folder}/{name}"
                try:
                    mode = os.lstat(path).st_mode
                except OSError:
                    continue
                if stat.S_ISREG(mode) and mode & 0o222 and open_for_writing(path) == "ok":
                    found.append(path)
    return found


def connect(family, address):
    sock = socket.socket(family)
    sock.settimeout(0.5)
    try:
        sock.connect(address)
    except TimeoutError:
        return "ETIMEDOUT"
    except OSError as problem:
        return errno.errorcode[problem.errno]
    finally:
        sock.close()
    return "ok"


def terminal():
    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return {"open": answer(lambda: os.close(os.open("/dev/tty", os.O_RDWR))), "tty_nr": int(fields[4])}


def namespaces():
    return {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in os.listdir("/proc/self/ns")}


def main(question):
    masked, fixed = question["masked"], question["read_only"]
    return {
        "fds": descriptors(),
        "cwd": os.getcwd(),
        "status": status(),
        "environ": dict(os.environ),
        "calls": {name: raw(*(*call, 0, 0, 0, 0, 0)[:6]) for name, call in question["calls"].items()},
        "sockets": {str(n): answer(lambda n=n: socket.socket(n, socket.SOCK_STREAM).close()) for n in (38, 40)},
        "processes": attack_processes(),
        "masked": {path: read(path) for path in masked if os.path.lexists(path)},
        "umount": {path: umount(path) for path in [*masked, *fixed, "/proc", "/sys", "/dev", "/"]},
        "remount": {path: remount(path) for path in [*fixed, "/sys", "/proc", "/"]},
        "write": {path: open_for_writing(path) for path in question["knobs"]},
        "writable": writable_kernel_files(),
        "namespaces": namespaces(),
        "terminal": terminal(),
        "session": [os.getsid(0), os.getpid()],
        "abstract": connect(socket.AF_UNIX, "\0" + question["abstract"]),
        "loopback": connect(socket.AF_INET, ("127.0.0.1", question["port"])),
        "shm": read("/proc/sysvipc/shm"),
        "dev_shm": read("/dev/shm"),
        "keys": read("/proc/keys"),
        "chmod_dev": {name: answer(os.chmod, f"/dev/{name}", 0o666) for name in ("null", "zero", "full", "random")},
        "mknod": answer(os.mknod, "/tmp/disk", 0o600 | stat.S_IFBLK, os.makedev(8, 0)),
        "home": {path: read(path) for path in ("/home", "/root", "/var/lib", "/run")},
        "secrets": {path: read(path) for path in question["secrets"]},
        "mounts": read("/proc/self/mountinfo"),
        "umask": os.umask(0o022),
    }


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
