#!/usr/bin/env bash
# setup.sh PYTHON VENV [EXTRAS]: everything the make targets need, once. Prints a line for each thing
# it does. EXTRAS are those of pyproject.toml; dev if left out.
#
# From Debian: the MariaDB server, a plugin of it, its client tools, and what mysqlclient is built
# against.
# From PyPI, pinned by constraints.txt: the rest, into the virtual environment VENV.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 venv=$2 extras=${3:-dev}
say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

command -v "$python" >/dev/null || die "there is no $python; install Python 3.11 or newer."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || die "$("$python" --version) is too old; unhang needs Python 3.11 or newer."

packages=()
PATH=$PATH:/usr/sbin
command -v mariadbd >/dev/null || packages+=(mariadb-server-core)
command -v my_print_defaults >/dev/null || packages+=(mariadb-client-core)
command -v cc >/dev/null || packages+=(gcc libc6-dev)
command -v pkg-config >/dev/null || packages+=(pkg-config)
command -v mariadb_config >/dev/null || command -v mysql_config >/dev/null \
    || packages+=(default-libmysqlclient-dev)
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then packages+=(python3-venv); fi
if [ ${#packages[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ]; then as_root=(); elif sudo -n true 2>/dev/null; then as_root=(sudo -n)
    else die "please install these packages, then run make again: apt install ${packages[*]}"; fi
    command -v apt-get >/dev/null \
        || die "there is no apt-get here; install what Debian calls: ${packages[*]}"
    say "installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    "${as_root[@]}" apt-get -qq -o Acquire::Retries=3 update >/dev/null
    "${as_root[@]}" apt-get -qq -o Acquire::Retries=3 install -y --no-install-recommends \
        "${packages[@]}" >/dev/null
fi

scripts/get_plugins.sh || say "without MariaDB's metadata_lock_info: tests that need it are left out"

say "$("$python" --version) in $venv"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# The constraints hold for what builds the packages, too.
PIP_CONSTRAINT=constraints.txt "$venv/bin/python" -m pip install -q --disable-pip-version-check \
    -c constraints.txt -e ".[$extras]" 2> >(grep -v '^WARNING: Location' >&2)
[ "$extras" != dev ] || touch "$venv/.ready"
say "ready: $("$venv/bin/unhang" --version), Django $("$venv/bin/python" -m django --version)"
