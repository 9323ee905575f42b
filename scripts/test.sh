#!/usr/bin/env bash
# test.sh VENV [pytest arguments]: the whole suite on VENV's Python, then all that touches Django,
# but for slow tests, on one more interpreter, so that both Djangos are tested: 5.2 runs on Python
# 3.11, the newest one on 3.12 and later. The first run uses mysqlclient, the second PyMySQL. With
# arguments, just those, on both.
set -uo pipefail
cd "$(dirname "$0")/.."
venv=$1; shift
says() { "$1/bin/python" -c 'import sys, django
print("Python {}.{} with Django {}".format(*sys.version_info[:2], django.get_version()))'; }

# An interpreter on the other side of 3.12 than VENV's, from PATH or a version manager.
other_python() {
    local mine wanted candidate
    mine=$("$venv/bin/python" -c 'import sys; print(int(sys.version_info >= (3, 12)))')
    if [ "$mine" = 1 ]; then wanted="3.11"; else wanted="3.14 3.13 3.12"; fi
    for version in $wanted; do
        for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python \
            "$HOME/.local/share/uv/python/cpython-$version".*/bin/python; do
            if "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then echo "$candidate"; return; fi
        done
    done
}

# suite VENV CACHE [pytest arguments]. More workers than cores: most tests wait for a server.
suite() {
    local python=$1/bin/python cache=$2 code; shift 2
    local failed=$cache/v/cache/lastfailed
    rm -f "$failed"
    "$python" -m pytest -o cache_dir="$cache" "$@"; code=$?
    [ $code -eq 1 ] && [ "$(grep -c '"' "$failed")" -le 5 ] || return $code
    # Up to five tests that failed beside others get one more run, alone: some wait for a moment
    # that a machine with more work than cores misses. What fails alone as well has failed; what
    # passes is named, for somebody to make it wait for the event instead of the clock.
    echo "== once more, alone:"; cat "$failed"
    "$python" -m pytest -o cache_dir="$cache" -q --last-failed --last-failed-no-failures none || return 1
    echo "== FAILED BESIDE OTHERS, PASSED ALONE: see the list above"
}

# The second interpreter gets its packages while the first one's tests wait for servers.
other=$(other_python)
second=.venv-other
setting_up=
if [ -n "$other" ] && { [ ! "$second/.ready" -nt pyproject.toml ] \
    || [ ! "$second/.ready" -nt constraints.txt ]; }; then
    nice scripts/setup.sh "$other" "$second" &
    setting_up=$!
fi
# All that touches Django, and is not about servers, texts or files alone, which are the same there.
beside=(-q -n 2 --dist worksteal -m "not slow" --ignore=tests/causes)
for room in change cli lab monitor mysql reaper rules survey web test_docs.py test_house.py test_shape.py; do
    beside+=(--ignore="tests/unit/$room")
done
for subject in change change_crashes change_targets change_watched change_which connect diagnose \
    lab_guardian lab_load lab_proxy lab_server lab_site monitor_refused monitor_sample monitor_watch \
    reaper reaper_crowd sessions watch; do
    beside+=(--ignore="tests/server/test_$subject.py")
done
# Of the lanes only what looks into the interpreter, in test_workers.
beside+=(--ignore-glob='tests/unit/lanes/test_[!w]*.py')
on_second() { UNHANG_DRIVER=pymysql suite "$second" .pytest_cache/second "$@"; }

echo "== $(says "$venv")"
if [ $# -gt 0 ]; then
    suite "$venv" .pytest_cache/first "$@"; code=$?
else
    suite "$venv" .pytest_cache/first -q -n 3 --dist worksteal -m "not demo"; code=$?
fi
if [ -n "$setting_up" ]; then wait "$setting_up" || exit 1; fi
second_code=0
if [ -z "$other" ]; then
    echo "== SKIPPED: no second Python here (3.11 for Django 5.2, 3.12 or newer for the newest Django)"
elif [ $# -gt 0 ]; then
    echo "== $(says "$second")"
    on_second "$@"; second_code=$?
else
    # Beside the demo, which mostly waits, and behind it: the demo measures.
    log=$(mktemp)
    (renice -n 19 -p $BASHPID >/dev/null; on_second "${beside[@]}") >"$log" 2>&1 &
    running=$!
fi
if [ $# -eq 0 ]; then
    suite "$venv" .pytest_cache/demo -q -m demo || code=$?
    if [ -n "$other" ]; then
        wait "$running"; second_code=$?
        echo "== $(says "$second")"
        cat "$log"; rm -f "$log"
    fi
fi
[ $code -ne 0 ] && exit $code
exit $second_code
