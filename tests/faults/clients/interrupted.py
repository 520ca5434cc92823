"""Un comando lungo, fermato da Ctrl-C in un momento qualunque, tante volte di fila.

Dice «via» prima di ogni comando; quando il comando è finito, quanto è durato e che cosa c'è nel laboratorio.
"""

import signal
import sys
import time

from labkit import Lab

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
lab = Lab()
for _ in range(int(sys.argv[1])):
    begin = time.monotonic()
    try:
        print("via", flush=True)
        lab.run("busybox", "sleep 30", quiet=True)
    except KeyboardInterrupt:
        pass
    waited = time.monotonic() - begin
    works = lab.run("busybox", ["echo", "ciao"], quiet=True).output.strip()
    print(f"{waited:.3f} {works} {len(lab.ps(all=True))}", flush=True)
