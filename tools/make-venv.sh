#!/bin/sh
# Make the virtual environment `$1` from the first Python that is new enough and can make one.
#
# $PYTHON is asked first. What is found on PATH may be a version manager's shim, which picks another Python in another
# directory, so the environment is made by the interpreter that it stands for.
set -eu
target="$1"
seen=""

for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3 /usr/bin/python3; do
    real="$("$candidate" -c '
import sys
print(getattr(sys, "_base_executable", "") or sys.executable if sys.version_info >= (3, 11) else "")
' 2>/dev/null)" || continue
    [ -n "$real" ] || continue
    if ! "$real" -c 'import ensurepip, venv' 2>/dev/null; then
        seen="$real"
        continue
    fi
    echo "making $target from $real"
    rm -rf "$target"
    exec "$real" -m venv "$target"
done

if [ -n "$seen" ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1 && [ -z "${TRIED_BEFORE:-}" ]; then
        echo "$seen cannot make virtual environments; installing python3-venv"
        apt-get update -qq </dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv </dev/null
        TRIED_BEFORE=1 exec sh "$0" "$target"
    fi
    echo "$seen cannot make virtual environments: apt-get install python3-venv" >&2
else
    echo "no Python 3.11 or later was found: install one, or name it: make PYTHON=/path/to/python3 …" >&2
fi
exit 1
