"""Un programma con un container in pausa e uno al limite della memoria: non finisce da solo."""

import time

from labkit import Lab

lab = Lab(backend="direct")
lab.run("busybox", "sleep 100", detach=True, memory="16m").pause()
lab.run("busybox", "sleep 100", detach=True, memory="16m")
print("pronto", flush=True)
time.sleep(100)
