#!/usr/bin/env bash
# get_plugins.sh [DEST]: MariaDB's plugin metadata_lock_info for the system's server, in
# DEST/.plugins. Debian packs it with the whole server, whose package would start one; so it is
# taken out of the package, and nothing is installed. DEST is `.servers` unless given.
set -euo pipefail
plugin=metadata_lock_info.so
DEST=${1:-.servers}
for folder in /usr/lib/mysql/plugin /usr/lib/*/mariadb*/plugin "$DEST/.plugins"; do
    [ -e "$folder/$plugin" ] && exit 0
done
version=$(dpkg-query -W -f '${Version}' mariadb-server-core 2>/dev/null) \
    || { echo "get_plugins.sh: mariadb-server-core is not installed by dpkg" >&2; exit 1; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
(cd "$work" && apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User=root \
    download "mariadb-server=$version" && dpkg-deb -x mariadb-server*.deb root)
mkdir -p "$DEST/.plugins"
install -m 644 "$(find "$work/root" -name "$plugin")" "$DEST/.plugins/$plugin"
