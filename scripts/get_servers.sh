#!/bin/bash
# get_servers.sh [DEST]: unpack the servers that the tests run on, besides the system's MariaDB.
#
#   DEST/mariadb118   MariaDB 11.8 from Debian trixie, about 210 MB
#   DEST/mysql97      MySQL 9.7 from Debian sid, about 330 MB
#
# DEST is `.servers` unless given. Nothing is installed: each folder brings its own copies of every
# library, libc included, and starts through its own loader, so the host may be an older Debian.
# A flavour that is there already is left alone; delete its folder to fetch it anew.
#
# MIRROR=URI names the Debian mirror; without it, the one that this machine's apt uses is taken.
set -euo pipefail

DEST=${1:-.servers}

# What the servers never load; leaving it out saves a third of the download.
UNNEEDED='^(perl|perl-base|perl-modules-.*|libperl.*|libdb5.*|libgdbm.*|libbz2-1.0|.*-common|libc-gconv-modules-extra|libsasl2-modules-db)$'

fail() {
    echo "get_servers.sh: $1" >&2
    exit 1
}

check_tools() {
    local tool
    for tool in apt-get dpkg-deb awk; do
        command -v "$tool" >/dev/null || fail "$tool is missing: this script needs Debian or Ubuntu."
    done
}

find_keyring() {
    local file
    for file in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        if [ -e "$file" ]; then
            echo "$file"
            return
        fi
    done
    fail "no Debian archive keyring: apt-get install debian-archive-keyring"
}

# The mirror of the deb822 stanza that Debian's keyring signs; the security archive has no servers.
mirror_of_sources_files() {
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '
        function stanza_ends() {
            if (uri != "" && signed && uri !~ /security/ && !found) { print uri; found = 1 }
            uri = ""; signed = 0
        }
        /^[ \t]*$/ { stanza_ends() }
        /^URIs:/ { uri = $2 }
        /^Signed-By:.*debian-archive-keyring/ { signed = 1 }
        END { stanza_ends() }'
}

mirror_of_list_files() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        sed -nE 's/^deb[ \t]+(\[[^]]*\][ \t]*)?([^ \t]*debian\/?)[ \t].*/\2/p' |
        awk '!/security/ && !found { print; found = 1 }'
}

find_mirror() {
    local mirror=${MIRROR:-}
    [ -n "$mirror" ] || mirror=$(mirror_of_sources_files || true)
    [ -n "$mirror" ] || mirror=$(mirror_of_list_files || true)
    [ -n "$mirror" ] || fail "no Debian mirror in /etc/apt: name one with MIRROR=URI."
    echo "$mirror"
}

# apt with a state of its own in $1: it neither reads nor changes what this system has installed.
private_apt() {
    local state=$1
    shift
    apt-get -qq \
        -o Dir::State::Lists="$state/lists" -o Dir::State::status="$state/status" \
        -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::Cache="$state/cache" -o Debug::NoLocking=1 -o Acquire::Languages=none \
        -o Acquire::Retries=3 -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any \
        -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false "$@"
}

# package=version for $2... and everything they need, resolved from an empty system.
resolve() {
    local state=$1
    shift
    private_apt "$state" -s --no-install-recommends install "$@" |
        awk '/^Inst /{ gsub(/\(/, "", $3); print $2 "=" $3 }' | sort |
        awk -F= -v unneeded="$UNNEEDED" -v wanted=" $* " \
            '$1 !~ unneeded || index(wanted, " " $1 " ")'
}

# A script in $1/bin that starts $2 (a path below $1/root) through the folder's own loader.
# It finds everything from its own place, so the folder can be moved.
write_wrapper() {
    local folder=$1 program=$2 loader
    [ -e "$folder/root/$program" ] || return 0
    loader=$(cd "$folder/root" && find usr/lib -name 'ld-linux*.so.*' -path '*-linux-gnu*' | sort)
    loader=${loader%%$'\n'*}
    [ -n "$loader" ] || fail "no dynamic loader in $folder/root"
    cat >"$folder/bin/${program##*/}" <<WRAPPER
#!/bin/sh
root=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")/root
exec "\$root/$loader" --argv0 "\$root/$program" \\
    --library-path "\$root/${loader%/*}" "\$root/$program" "\$@"
WRAPPER
    chmod 755 "$folder/bin/${program##*/}"
}

# fetch FLAVOUR SUITE PROGRAM PACKAGE... : unpack Debian packages into DEST/FLAVOUR.
fetch() {
    local flavour=$1 suite=$2 program=$3 folder="$DEST/$1" work="$DEST/.$1.partial"
    shift 3
    if [ -x "$folder/bin/${program##*/}" ]; then
        echo "$flavour is in place: $folder"
        return
    fi
    echo "$flavour: fetching $* and their libraries from Debian $suite"
    rm -rf "$work"
    mkdir -p "$work"/{bin,root,debs,apt/lists/partial,apt/cache/archives/partial}
    : >"$work/apt/status"
    echo "deb [signed-by=$KEYRING] $MIRROR_URI $suite main" >"$work/apt/sources.list"
    private_apt "$work/apt" update || fail "apt-get update failed for Debian $suite at $MIRROR_URI"
    resolve "$work/apt" "$@" >"$work/VERSIONS" || fail "Debian $suite at $MIRROR_URI has no $*"
    # The whole server's package, for its plugins, without what it needs.
    sed -n 's/^mariadb-server-core=/mariadb-server=/p' "$work/VERSIONS" >"$work/PLUGINS"
    cat "$work/PLUGINS" >>"$work/VERSIONS"
    # shellcheck disable=SC2046  # one word per package is what apt-get wants
    (cd "$work/debs" && private_apt "$work/apt" download $(cat "$work/VERSIONS")) ||
        fail "the download of $flavour failed"
    unpack "$work"
    write_wrapper "$work" "$program"
    write_wrapper "$work" usr/bin/mariadb
    write_wrapper "$work" usr/bin/mysql
    # Only a complete folder gets the final name, so an interrupted run leaves nothing half done.
    rm -rf "$folder"
    mv "$work" "$folder"
    echo "$flavour: $("$folder/bin/${program##*/}" --no-defaults --version)"
}

unpack() {
    local work=$1 package
    for package in "$work"/debs/*.deb; do
        dpkg-deb -x "$package" "$work/root"
    done
    rm -rf "$work/debs" "$work/apt" "$work/root/usr/share"/{doc,man,lintian}
    chmod -R go+rX "$work"
}

main() {
    if [ -x "$DEST/mariadb118/bin/mariadbd" ] && [ -x "$DEST/mysql97/bin/mysqld" ]; then
        echo "Nothing to do: mariadb118 and mysql97 are in $DEST."
        return
    fi
    check_tools
    KEYRING=$(find_keyring)
    MIRROR_URI=$(find_mirror)
    mkdir -p "$DEST"
    DEST=$(cd "$DEST" && pwd)
    trap 'rm -rf "$DEST"/.*.partial' EXIT
    fetch mariadb118 trixie usr/sbin/mariadbd mariadb-server-core mariadb-client-core
    fetch mysql97 sid usr/sbin/mysqld mysql-server-core mysql-client-core
}

main
