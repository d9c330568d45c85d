#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
#   first_process.sh TREE DIRECTORY CGROUP
#
# Makes the root of a node in the mount namespace that it is started in, prints its process id, and stays, so that the
# namespace does. The root is TREE with changes kept in DIRECTORY, which is at its own place there too, so that paths
# that containerd tells are true on the host.
set -eu
tree=$1 directory=$2 cgroup=$3
root=$directory/root

mkdir "$root" "$directory/upper" "$directory/work"
mount -t overlay -o "lowerdir=$tree,upperdir=$directory/upper,workdir=$directory/work" overlay "$root"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount --bind /sys "$root/sys"
# The node's own cgroup alone: runc and the shims enable all controllers of the topmost cgroup that they see, and that
# must not be the machine's. From the machine's own mount, since a new one could change options that all mounts share.
mount --bind "$cgroup" "$root/sys/fs/cgroup"
mkdir -p "$root$directory" "$root/host"
mount --bind "$directory" "$root$directory"

# The machine's own root and cgroups, for containers that are to run what is installed here.
mkdir "$root/machine" "$root/cgroups"
mount --bind / "$root/machine"
mount --bind "$(findmnt -n -o TARGET -t cgroup2 | head -n 1)" "$root/cgroups"

# Not chroot: who enters the namespace of a container made in a chroot, as exec does, would find the host's root.
cd "$root"
pivot_root . host
/bin/busybox umount -l /host
echo $$
exec /bin/busybox sleep infinity
