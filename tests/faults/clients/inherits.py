"""La presa verso il laboratorio è ereditata da un processo che vive più del programma."""

import os
import subprocess
import time

from labkit import Lab

lab = Lab()
lab.run("busybox", "sleep 100", env={"LABKIT_RUN": os.environ["LABKIT_RUN"]}, detach=True)
sockets = []
for name in os.listdir("/proc/self/fd"):
    try:
        if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
            sockets.append(int(name))
    except FileNotFoundError:  # the descriptor of this very listing
        continue
# An empty environment: this one must not carry the mark, it is meant to stay.
heir = subprocess.Popen(["/bin/sleep", "60"], pass_fds=sockets, env={}, stdout=subprocess.DEVNULL)
print(heir.pid, flush=True)
time.sleep(60)
