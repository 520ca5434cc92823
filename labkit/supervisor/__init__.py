"""Il processo privilegiato del laboratorio: guardiano sull'host, supervisore (PID 1) dentro."""
