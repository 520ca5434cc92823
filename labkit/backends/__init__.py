"""Dove vive il supervisore: il filo e i verbi sono gli stessi, cambia solo chi lo fa nascere."""
