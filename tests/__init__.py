"""Le prove del corso: `make test` le esegue tutte, da root e da utente."""
