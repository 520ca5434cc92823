"""Misure fianco a fianco: labkit, il limite fisico in C e gli altri programmi che fanno container."""
