#!/bin/sh
# Sceglie l'utente di nginx e poi diventa lui: exec tiene lo stesso PID, così i segnali gli arrivano.
set -eu

if [ "${1-}" = nginx ]; then
    # I processi che lavorano cambiano utente: dove di utenti ce n'è uno solo, restano root.
    user=root
    while read -r first _ count; do
        if [ "$first" -le 33 ] && [ $((33 - first)) -lt "$count" ]; then user=www-data; fi
    done < /proc/self/uid_map
    # nginx ascolta solo l'ultimo -g: ciò che si aggiunge va dentro quello che c'è.
    before='' found=''
    for argument; do
        shift
        if [ "$before" = -g ]; then
            argument="user $user; $argument"
            found=1
        fi
        before=$argument
        set -- "$@" "$argument"
    done
    [ -n "$found" ] || set -- "$@" -g "user $user;"
fi
exec "$@"
