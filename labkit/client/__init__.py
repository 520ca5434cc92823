"""Il lato di chi usa il laboratorio: nessuna chiamata di sistema, solo messaggi sul filo."""
