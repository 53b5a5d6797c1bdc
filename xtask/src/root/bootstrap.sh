#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# bootstrap.sh ROOT SUITE
#
# Makes a Debian root, with or without the right to make device nodes: the machine's own nodes are mounted where the new root
# wants some. "lxc" tells debootstrap that this is so. Why it failed is in a log of its own.
set -e
mkdir -p "$1/dev"
for device in null zero full random urandom tty; do
	touch "$1/dev/$device"
	mount --bind "/dev/$device" "$1/dev/$device"
done
env container=lxc debootstrap --variant=minbase --include=xz-utils "$2" "$1" || {
	status=$?
	cat "$1/debootstrap/debootstrap.log" >&2
	exit $status
}
