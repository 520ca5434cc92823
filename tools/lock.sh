#!/bin/sh
# Riscrive i file di requirements/: ogni pacchetto con la sua versione e le sue impronte, nessun indirizzo.
# Per chi sviluppa, quando cambiano le dipendenze di pyproject.toml (o per aggiornarle: make lock UPGRADE=1).
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-.venv/bin/python}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uv

lock() {
    file=$1 what=$2
    shift 2
    "$work/venv/bin/uv" pip compile pyproject.toml --extra editable "$@" ${UPGRADE:+--upgrade} --quiet \
        --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
        --output-file "$file"
    { printf '# %s\n# Scritto da tools/lock.sh (make lock): non si modifica a mano.\n' "$what"
      sed -e '/^#/d' -e "s/ ; sys_platform == 'linux'//" -e "s/ and sys_platform == 'linux'//" "$file"; } > "$work/lock"
    cat "$work/lock" > "$file"
    printf '%s: %s pacchetti\n' "$file" "$(grep -c == "$file")"
}

lock requirements/lab.txt "Che cosa installa chi studia, versione per versione."
lock requirements/dev.txt "Che cosa installa chi prova il corso (make test), versione per versione." --extra dev --extra live
