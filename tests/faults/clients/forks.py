"""Un programma che si sdoppia: il figlio prova a usare il laboratorio del padre, poi ne apre uno suo, poi resta."""

import os
import sys

from labkit import Lab, LabError

lab = Lab()
if os.fork() == 0:
    try:
        lab.run("busybox", "true")
    except LabError as error:
        print(f"figlio: {error}", flush=True)
    sys.exit(0)  # not _exit: finalizers and atexit run in the child too
os.wait()
print("padre:", lab.run("busybox", "true", quiet=True).exit_code, flush=True)
own = os.fork()
if own == 0:
    with Lab() as second:
        print("laboratorio del figlio:", second.run("busybox", "true", quiet=True).exit_code, flush=True)
    sys.exit(0)
os.wait()
survivor = os.fork()
if survivor == 0:
    os.execve("/bin/sleep", ["sleep", "60"], {})  # without the mark: it is meant to outlive the lab
print("figlio che resta:", survivor, flush=True)
os.wait()
