#!/usr/bin/env bash
# Puts in place what the tests need and is not there. Says what is missing and fails where it cannot install.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()

have() { command -v "$1" >/dev/null 2>&1; }
lacks() { missing+=("$1"); echo "setup: $1" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Debian and its children only: elsewhere the reader knows their package manager better than we do.
apt_install() {
    have apt-get || return 1
    [ "$(id -u)" = 0 ] || have sudo || return 1
    echo "setup: installing $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 && return 0
    as_root apt-get update -qq >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

cargo_install() {
    echo "setup: building $1 (once, a few minutes)"
    # Apart from the project's own target directory: its profile settings would rebuild everything there.
    cargo install --locked --quiet "$1"
}

have cargo || { echo "setup: Rust is missing: https://rustup.rs" >&2; exit 1; }

if ! have node || ! have npm; then
    apt_install nodejs npm || lacks "node 20 or newer and npm are missing; install them with your package manager"
fi
if have node && [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
    lacks "node $(node --version) is too old; the interop tests need 20 or newer"
fi

if [ ! -x "${CHROMIUM:-/usr/bin/chromium}" ]; then
    apt_install chromium fonts-liberation ||
        lacks "Chromium is missing; install it and set CHROMIUM=/path/to/chromium"
fi

have redis-server || apt_install redis-server || lacks "redis-server is missing; install it with your package manager"

have valgrind || apt_install valgrind || lacks "valgrind is missing; install it with your package manager"

# Debian keeps the server's programs where no PATH looks. Nothing that the packages start is used, or in the way.
have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || apt_install postgresql ||
    lacks "PostgreSQL is missing; install the server with your package manager"
have openssl || apt_install openssl || lacks "openssl is missing; install it with your package manager"

have cargo-nextest || cargo_install cargo-nextest || lacks "cargo install --locked cargo-nextest failed"
have cargo-deny || cargo_install cargo-deny || lacks "cargo install --locked cargo-deny failed"

if [ "${#missing[@]}" -gt 0 ]; then
    echo "setup: cannot run the tests here:" >&2
    printf '  - %s\n' "${missing[@]}" >&2
    exit 1
fi

# `npm ci` deletes and refetches; only needed when the lock changed since the last time.
for dir in web tests/interop tests/browser; do
    stamp="$dir/node_modules/.installed"
    if [ ! -e "$stamp" ] || [ "$dir/package-lock.json" -nt "$stamp" ]; then
        echo "setup: npm ci in $dir"
        npm ci --prefix "$dir" --no-progress --loglevel error
        touch "$stamp"
    fi
done
