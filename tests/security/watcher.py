"""Si esegue DENTRO un container come PID 1: spia ogni processo che vi entra e prova a rubargli una porta sull'host.

Scrive in /spia una riga JSON per ogni cosa ottenuta da un processo che non è ancora un programma del container.
"""

import json
import os
import stat


def foreign(path):
    """Se ``path`` (un link di /proc) porta a qualcosa che in questa radice, allo stesso nome, non c'è."""
    try:
        name, found = os.readlink(path), os.stat(path)
        if os.readlink(path) != name:  # closed, and its number opened again, while we looked
            return foreign(path)
    except OSError:
        return ""
    if stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode):
        return ""
    try:
        same = os.stat(name)
    except OSError:
        return name
    return "" if (same.st_dev, same.st_ino) == (found.st_dev, found.st_ino) else name


def spy(pid, log):
    doors = [f"/proc/{pid}/{name}" for name in ("exe", "cwd", "root")]
    try:
        doors += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        pass
    for door in doors:
        if name := foreign(door):
            log.write(json.dumps([door, name]) + "\n")
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read()
        if b"supervisor" in command or b"client_pid" in command:
            log.write(json.dumps(["cmdline", command.decode("utf-8", "replace")]) + "\n")
        with open(f"/proc/{pid}/environ", "rb") as file:
            if b"LABKIT_TEST_SECRET" in file.read():
                log.write(json.dumps(["environ"]) + "\n")
    except OSError:
        pass


def main():
    seen = 0
    with open("/spia", "w", buffering=1) as log, open("/visti", "w", buffering=1) as count:
        while True:
            for pid in os.listdir("/proc"):
                if pid.isdecimal() and pid != "1":
                    seen += 1
                    spy(pid, log)
            count.seek(0)
            count.write(str(seen))


if __name__ == "__main__":
    main()
