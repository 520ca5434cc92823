"""Un laboratorio con dentro un container, e un programma che non fa più niente."""

import os
import time

from labkit import Lab

lab = Lab()
lab.run("busybox", "sleep 100", env={"LABKIT_RUN": os.environ["LABKIT_RUN"]}, detach=True)
print("pronto", flush=True)
time.sleep(100)
