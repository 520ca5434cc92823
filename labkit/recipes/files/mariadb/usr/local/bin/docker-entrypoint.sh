#!/bin/sh
# Il primo avvio prepara il database con le variabili d'ambiente; poi, ogni volta, questo script diventa il server.
# I nomi delle variabili sono quelli dell'immagine ufficiale di MariaDB (e quelli di MySQL, che valgono lo stesso).
set -eu

DATA=/var/lib/mysql
SCRIPTS=/docker-entrypoint-initdb.d

say() { echo "preparazione: $*" >&2; }
refuse() { echo "Errore: $*" >&2; exit 1; }

# value ROOT_PASSWORD: MARIADB_ROOT_PASSWORD, MYSQL_ROOT_PASSWORD, o il contenuto del file di …_FILE.
value() {
    for prefix in MARIADB MYSQL; do
        eval "plain=\${${prefix}_$1-} file=\${${prefix}_$1_FILE-}"
        if [ -n "$plain" ] && [ -n "$file" ]; then
            refuse "${prefix}_$1 e ${prefix}_$1_FILE dicono la stessa cosa: tieni una sola delle due variabili."
        fi
        if [ -n "$file" ]; then
            [ -r "$file" ] || refuse "${prefix}_$1_FILE è «$file», che qui non si può leggere."
            cat "$file"
            return
        fi
        if [ -n "$plain" ]; then
            printf %s "$plain"
            return
        fi
    done
}

# quoted TESTO: un testo fra apici come lo vuole SQL; name NOME: il nome di un database fra accenti gravi.
quoted() { printf "'"; printf %s "$1" | sed -e 's/\\/\\\\/g' -e "s/'/''/g"; printf "'"; }
name() { printf '`'; printf %s "$1" | sed 's/`/``/g'; printf '`'; }

# line TESTO: così com'è; echo cambierebbe le barre rovesciate.
line() { printf '%s\n' "$*"; }

# Le istruzioni che fanno ciò che le variabili chiedono.
statements() {
    line "FLUSH PRIVILEGES;"
    line "DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');"
    line "FLUSH PRIVILEGES;"
    line "ALTER USER 'root'@'localhost' IDENTIFIED BY $(quoted "$root");"
    if [ "$root_host" != localhost ]; then
        line "CREATE USER 'root'@$(quoted "$root_host") IDENTIFIED BY $(quoted "$root");"
        line "GRANT ALL ON *.* TO 'root'@$(quoted "$root_host") WITH GRANT OPTION;"
    fi
    [ -z "$database" ] || line "CREATE DATABASE IF NOT EXISTS $(name "$database");"
    if [ -n "$user" ]; then
        line "CREATE USER $(quoted "$user")@'%' IDENTIFIED BY $(quoted "$password");"
        [ -z "$database" ] || line "GRANT ALL ON $(name "$database").* TO $(quoted "$user")@'%';"
    fi
    line "FLUSH PRIVILEGES;"
}

# Le tabelle di sistema, senza la guida (che è grande, e qui non serve).
system_tables() {
    line "CREATE DATABASE mysql;"
    line "USE mysql;"
    line "SET @auth_root_socket = NULL;"
    for file in mysql_system_tables mysql_performance_tables mysql_system_tables_data maria_add_gis_sp_bootstrap \
        mysql_sys_schema; do
        cat "/usr/share/mysql/$file.sql"
    done
}

# Un server che nessuno raggiunge dalla rete, finché si eseguono i file di /docker-entrypoint-initdb.d.
run_scripts() {
    mariadbd --user="$account" --skip-networking --socket=/run/mysqld/init.sock --pid-file=/run/mysqld/init.pid &
    server=$!
    tries=0
    until client -e 'SELECT 1' > /dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -le 300 ] && kill -0 "$server" || refuse "il server provvisorio non è partito."
        sleep 0.1
    done
    for file in "$SCRIPTS"/*; do
        case "$file" in
            *.sh) say "$file"; . "$file" ;;
            *.sql) say "$file"; client "$database" < "$file" ;;
            *.sql.gz) say "$file"; gzip -dc "$file" | client "$database" ;;
            *) say "$file: non so come si esegue, lo salto" ;;
        esac
    done
    kill "$server"
    wait "$server" || refuse "il server provvisorio è finito male."
}

client() { MYSQL_PWD="$root" mariadb --socket=/run/mysqld/init.sock -u root "$@"; }

prepare() {
    root=$(value ROOT_PASSWORD)
    random=$(value RANDOM_ROOT_PASSWORD)
    empty=$(value ALLOW_EMPTY_ROOT_PASSWORD)$(value ALLOW_EMPTY_PASSWORD)
    root_host=$(value ROOT_HOST)
    root_host=${root_host:-%}
    database=$(value DATABASE)
    user=$(value USER)
    password=$(value PASSWORD)
    if [ -z "$root$random$empty" ]; then
        refuse "il database è nuovo e manca la password di root. Aggiungi per esempio -e MARIADB_ROOT_PASSWORD=segreta" \
            "(oppure MARIADB_RANDOM_ROOT_PASSWORD=1, o MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1)."
    fi
    if [ -n "$user" ] && [ -z "$password" ]; then
        refuse "c'è MARIADB_USER ma manca MARIADB_PASSWORD: un utente ha bisogno della sua password."
    fi
    [ "$user" != root ] || refuse "MARIADB_USER non può essere root, che c'è già: usa MARIADB_ROOT_PASSWORD."
    if [ -z "$root" ] && [ -n "$random" ]; then
        root=$(od -An -N18 -tx1 /dev/urandom | tr -d ' \n')
        say "la password di root è $root"
    fi
    say "creo le tabelle di sistema e ciò che le variabili chiedono"
    # A metà non deve restare niente: un altro avvio troverebbe un database che sembra pronto.
    { system_tables; statements; } |
        mariadbd --bootstrap --user="$account" --datadir="$DATA" --log-warnings=0 > /tmp/preparazione 2>&1 || {
        cat /tmp/preparazione >&2
        refuse "il database non si è potuto preparare."
    }
    rm -f /tmp/preparazione
    [ -z "$(ls "$SCRIPTS" 2> /dev/null)" ] || run_scripts
    : > "$DATA/.preparato"
    say "fatto"
}

# Chi chiede solo una parola al server (la versione, le opzioni) non ha bisogno di un database.
only_asks() {
    for argument; do
        case "$argument" in
            -V | --version | '-?' | --help | --print-defaults) return 0 ;;
        esac
    done
    return 1
}

case "${1-}" in
    -*) set -- mariadbd "$@" ;;
    mysqld) shift; set -- mariadbd "$@" ;;
esac
if [ "${1-}" = mariadbd ] && ! only_asks "$@"; then
    shift
    mkdir -p "$DATA" /run/mysqld
    # Dove di utenti ce n'è uno solo, il server resta root: di quel container, non della macchina.
    account=root
    if [ "$(id -u)" -ne 0 ]; then
        account=$(id -un)
    elif chown mysql:mysql "$DATA" /run/mysqld 2> /dev/null; then
        account=mysql
    fi
    if [ ! -e "$DATA/.preparato" ]; then
        [ ! -d "$DATA/mysql" ] || find "$DATA" -mindepth 1 -delete
        prepare
    fi
    # Il server non ha bisogno delle password: che non restino nel suo ambiente.
    for variable in ROOT_PASSWORD PASSWORD; do
        unset "MARIADB_$variable" "MYSQL_$variable"
    done
    set -- mariadbd --user="$account" "$@"
fi
exec "$@"
