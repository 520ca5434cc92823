"""Il laboratorio è aperto da un thread che finisce subito: vive fino alla fine del programma."""

import sys
import threading
import time

from labkit import Lab

labs = []
thread = threading.Thread(target=lambda: labs.append(Lab()))
thread.start()
thread.join()
time.sleep(0.3)
results = []
threads = [
    threading.Thread(target=lambda: results.append(labs[0].run("busybox", "true", quiet=True).exit_code))
    for _ in range(4)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(results, flush=True)
sys.stdin.read()
