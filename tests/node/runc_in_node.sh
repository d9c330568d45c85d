#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# runc as containerd of a node calls it. containerd knows cgroups by their paths on the host, but the node's
# /sys/fs/cgroup shows what is below the first component. No limits: the node's cgroup may have no controllers, and a
# limit that cannot be set is an error to runc.
set -eu
previous=
for argument; do
    if [ "$previous" = --bundle ]; then
        config=$argument/config.json
        jq 'del(.linux.resources) | .linux.cgroupsPath |= sub("^/[^/]+"; "")' "$config" >"$config.new"
        busybox mv "$config.new" "$config"
    fi
    previous=$argument
done
exec runc "$@"
