#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# enter.sh ROOT FOLDER [SOURCE TARGET]... -- COMMAND...
#
# Runs COMMAND in ROOT. Called in a mount namespace of its own: nothing that is mounted here is seen outside, and nothing has
# to be unmounted.
set -e
root=$1
folder=$2
shift 2
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
while [ "$1" != -- ]; do
	mkdir -p "$root$2"
	mount --rbind "$1" "$root$2"
	shift 2
done
shift
exec chroot "$root" /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$folder" "$@"
