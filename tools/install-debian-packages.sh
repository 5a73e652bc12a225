#!/bin/sh
# Install what tools/debian-packages.txt lists and this machine lacks, when run as root; else name it.
#
# Nothing is fetched, and no package list is refreshed, when nothing is missing. No service is left running: a test
# starts its own redis-server under croupier, on a port of its own.
set -eu
cd "$(dirname "$0")/.."

missing=""
while read -r package program _; do
    case "$package" in "" | "#"*) continue ;; esac
    [ "$program" = "-" ] && continue
    case "$program" in
        /*)
            # A file, by a glob: a package may bring no program.
            # shellcheck disable=SC2086
            set -- $program
            [ -e "$1" ] || missing="$missing $package"
            ;;
        *) command -v "$program" >/dev/null 2>&1 || missing="$missing $package" ;;
    esac
done <tools/debian-packages.txt
missing="${missing# }"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed: $missing"
    if [ "${CI:-}" = true ]; then
        echo "CI=true: nothing may be skipped, and only root on Debian can install them" >&2
        exit 1
    fi
    echo "tests that need them are skipped; to run those too: sudo apt-get install $missing"
    exit 0
fi

# invoke-rc.d and deb-systemd-invoke ask this file before they start anything. One that is there already is
# somebody's decision, and stays.
policy="${POLICY_RC_D:-/usr/sbin/policy-rc.d}"
if [ ! -e "$policy" ] && [ ! -L "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

# PostgreSQL's package would make a cluster of its own beside; ours are made where tests want them.
clusters="${CREATECLUSTER_CONF:-/etc/postgresql-common/createcluster.conf}"
case " $missing " in
    *" postgresql "*)
        if [ ! -e "$clusters" ]; then
            mkdir -p "$(dirname "$clusters")"
            echo "create_main_cluster = false" >"$clusters"
        fi
        ;;
esac

echo "installing $missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq </dev/null
# One word a package.
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing </dev/null
