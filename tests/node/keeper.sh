#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
#   keeper.sh TREE DIRECTORY CGROUP
#
# Starts a node's first process in the new cgroup CGROUP, and waits for the end of its own input: the other end of that
# pipe closes when the tests end, however they end. Then it kills all that runs in the cgroup, containerd and its shims
# among them, and removes it. The node's mounts go with their last process.
set -eu
here=$(dirname "$0")
tree=$1 directory=$2 cgroup=$3

clear_cgroup() {
    echo 1 >"$cgroup/cgroup.kill"
    # A killed task is gone from the process list before it is gone from its cgroup.
    attempt=0
    until find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null; do
        attempt=$((attempt + 1))
        if [ $attempt = 500 ]; then
            echo "cannot remove $cgroup" >&2
            return 1
        fi
        sleep 0.02
    done
}

mkdir "$cgroup"
trap clear_cgroup EXIT
mkdir "$cgroup/runtime"
sh -c 'echo $$ >"$0" && exec "$@"' "$cgroup/runtime/cgroup.procs" \
    unshare --mount --propagation private "$here/first_process.sh" "$tree" "$directory" "$cgroup" &
# So that the reader of the first process's output learns when that process is gone.
exec >&2
cat >/dev/null
