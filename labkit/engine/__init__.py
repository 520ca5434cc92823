"""Da una descrizione a un piano: che cosa fare, in che ordine, e come tornare indietro."""
