#!/bin/sh
# Make a federation's certificate authority, the SuperLink's certificate, and a key pair for each node.
#   deploy/keys.sh DIR NODES [NAME-OR-ADDRESS-OF-THE-SUPERLINK ...]
# What is there already is kept. ca.key and server.key stay on the SuperLink's machine; nodeN goes to node N alone.
set -eu
[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
dir=$1 nodes=$2
shift 2
umask 077
mkdir -p "$dir"

names="DNS:localhost,IP:127.0.0.1"
for name in "$@"; do
    case $name in
        *[!0-9.]*) names="$names,DNS:$name" ;;
        *) names="$names,IP:$name" ;;
    esac
done

if [ ! -e "$dir/ca.crt" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -days 3650 \
        -subj "/CN=onebasin federation" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -keyout "$dir/ca.key" -out "$dir/ca.crt" 2>/dev/null
fi
if [ ! -e "$dir/server.pem" ]; then
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$names" >"$dir/server.ext"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -subj "/CN=onebasin SuperLink" \
        -keyout "$dir/server.key" -out "$dir/server.csr" 2>/dev/null
    openssl x509 -req -in "$dir/server.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -CAcreateserial -days 825 \
        -extfile "$dir/server.ext" -out "$dir/server.pem" 2>/dev/null
    rm "$dir/server.csr" "$dir/server.ext"
fi
node=0
while [ "$node" -lt "$nodes" ]; do
    [ -e "$dir/node$node" ] || ssh-keygen -q -t ecdsa -b 384 -N "" -C "node $node" -f "$dir/node$node"
    node=$((node + 1))
done
