#!/bin/sh
# limited.sh BYTES PARENT COMMAND...: run a command in a memory cgroup of its own below PARENT, and let it see that
# cgroup as its root, as in a container. The process keeps its pid. Needs root; cgroups of version 2 or 1.
set -eu
bytes=$1 group=$2/$$
shift 2
mkdir "$group"
if [ -e "$group/memory.max" ]; then
    root=/sys/fs/cgroup
    echo "$bytes" > "$group/memory.max"
    [ ! -e "$group/memory.swap.max" ] || echo 0 > "$group/memory.swap.max"
else
    root=/sys/fs/cgroup/memory
    echo "$bytes" > "$group/memory.limit_in_bytes"
    [ ! -e "$group/memory.memsw.limit_in_bytes" ] || echo "$bytes" > "$group/memory.memsw.limit_in_bytes"
fi
echo $$ > "$group/cgroup.procs"
exec unshare --mount sh -c 'mount --bind "$0" "$1" && shift && exec "$@"' "$group" "$root" "$@"
