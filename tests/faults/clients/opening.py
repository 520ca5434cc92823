"""Ctrl-C mentre il laboratorio nasce: il programma va avanti, e di quel laboratorio non resta niente."""

import signal
import sys

from labkit import Lab

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
lab = None
try:
    print("via", flush=True)  # inside: who reads it may be quicker than the end of this line
    lab = Lab()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
if lab is None:
    print("interrotto", flush=True)
else:
    lab.close()
    print("aperto", flush=True)
sys.stdin.read()
