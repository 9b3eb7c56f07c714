#!/bin/sh
# A Flower federation on this machine, with TLS and registered keys: a SuperLink, its SuperExec and some nodes.
#   deploy/local.sh up DIR NODES    start it; all its files are in DIR
#   deploy/local.sh node DIR K      start node K again
#   deploy/local.sh down DIR        stop it; `up` goes on with the same keys and memories
# PORT is the SuperLink's, by default 8000; node K listens on PORT + 1 + K. SUPERLINK is where nodes look for it, if
# not there. NODE_CONFIG is what every node is told besides.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
usage() {
    sed -n '2,7s/^# //p' "$0" >&2
    exit 2
}
[ $# -ge 2 ] || usage
mkdir -p "$2"
dir=$(cd "$2" && pwd)
port=${PORT:-8000}
export FLWR_HOME="$dir/home" FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 OMP_NUM_THREADS=1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" # nodes have working directories of their own

# Run a command in a process group of its own, and again whenever it ends, as systemd would.
start() {
    name=$1 folder=$2
    shift 2
    (cd "$folder" && exec setsid sh -c 'while :; do "$@"; sleep 5; done' "$name" "$@") </dev/null >>"$dir/$name.log" 2>&1 &
    echo $! >"$dir/$name.pid"
}

start_node() {
    mkdir -p "$dir/node$1"
    start "node$1" "$dir/node$1" flower-supernode --superlink "${SUPERLINK:-127.0.0.1:$port}" \
        --root-certificates "$dir/keys/ca.crt" --auth-supernode-private-key "$dir/keys/node$1" \
        --host 127.0.0.1 --port $((port + 1 + $1)) \
        --node-config "partition-id=$1 state-dir=\"memory\" ${NODE_CONFIG:-}"
}

up() {
    command -v flower-superlink >/dev/null || { echo "no flower-superlink; is the environment active?" >&2 && exit 1; }
    [ ! -e "$dir/superlink.pid" ] || { echo "$dir is up already; first: $0 down $dir" >&2 && exit 1; }
    "$here/keys.sh" "$dir/keys" "$1"
    [ -e "$dir/keys/superexec" ] || (umask 077 && openssl rand -hex 32 >"$dir/keys/superexec")
    mkdir -p "$FLWR_HOME"
    cat >"$FLWR_HOME/config.toml" <<END
[superlink]
default = "local"

[superlink.local]
address = "127.0.0.1:$port"
root-certificates = "$dir/keys/ca.crt"
END
    start superlink . flower-superlink --host 127.0.0.1 --port "$port" --database "$dir/superlink.db" \
        --ssl-ca-certfile "$dir/keys/ca.crt" --ssl-certfile "$dir/keys/server.pem" \
        --ssl-keyfile "$dir/keys/server.key" --enable-supernode-auth --disable-runtime-dependency-installation \
        --isolation process --superexec-auth-secret-file "$dir/keys/superexec"
    start superexec . flower-superexec --runtime-api-address "127.0.0.1:$port" \
        --root-certificates "$dir/keys/ca.crt" --superexec-auth-secret-file "$dir/keys/superexec"
    node=0
    while [ "$node" -lt "$1" ]; do
        [ -e "$dir/keys/node$node.registered" ] || register "$node"
        start_node "$node"
        node=$((node + 1))
    done
    echo "$1 nodes; to use them: export FLWR_HOME=$FLWR_HOME"
}

# Tell the SuperLink of a node's key; at first it may not be there yet.
register() {
    tries=0
    until flwr supernode register "$dir/keys/node$1.pub" >"$dir/keys/registering" 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 60 ] || { cat "$dir/keys/registering" "$dir/superlink.log" >&2 && exit 1; }
        sleep 1
    done
    mv "$dir/keys/registering" "$dir/keys/node$1.registered"
}

# Nodes first, and to their end: they take their leave of the SuperLink.
down() {
    for files in "$dir/node*.pid" "$dir/superexec.pid $dir/superlink.pid"; do
        for file in $files; do
            [ ! -e "$file" ] || kill -s TERM -- "-$(cat "$file")" 2>/dev/null || true
        done
        for file in $files; do
            while [ -e "$file" ] && kill -s 0 -- "-$(cat "$file")" 2>/dev/null; do sleep 0.1; done
            rm -f "$file"
        done
    done
}

case $1 in
    up) [ $# -eq 3 ] || usage; up "$3" ;;
    node) [ $# -eq 3 ] || usage; start_node "$3" ;;
    down) down ;;
    *) usage ;;
esac
