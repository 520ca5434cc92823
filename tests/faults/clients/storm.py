"""Apre un laboratorio e ci fa nascere container senza fermarsi mai; dice «pronto» e poi un numero per container.

Gli argomenti sono il seme e, se si vuole, il backend.
"""

import os
import random
import sys

from labkit import Lab
from labkit.errors import ConflictError, LabClosedError

dice = random.Random(int(sys.argv[1]))
mark = {"LABKIT_RUN": os.environ["LABKIT_RUN"]}
lab = Lab(*sys.argv[2:])
print("pronto", flush=True)
for number in range(1_000_000):
    try:
        network = dice.choice(("bridge", "bridge", "none"))
        if dice.random() < 0.6:
            lab.run("busybox", ["sh", "-c", "sleep 100 & sleep 100"], network=network, env=mark, detach=True)
        elif dice.random() < 0.5:
            lab.run("busybox", "true", network=network, env=mark, quiet=True)
        elif running := list(lab.ps()):
            dice.choice(running).exec("true", env=mark, quiet=True)
        print(number, flush=True)
    except LabClosedError:
        sys.exit(3)
    except ConflictError:  # a container that somebody has killed while it was used
        continue
