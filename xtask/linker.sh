#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# What cargo links with: cc. A machine that has only rustup and git has none: root on Debian and its relatives gets one here,
# because nothing of ours can run before something is linked.
if ! command -v cc >/dev/null; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "a C compiler is missing: install gcc and the C library's headers (on Debian: gcc libc6-dev)" >&2
		exit 1
	fi
	(
		# cargo links several programs at a time.
		flock 9
		command -v cc >/dev/null && exit
		# cargo keeps what a linker says to itself, unless it fails.
		{ echo "dpmem: installing a C compiler" >/dev/tty; } 2>/dev/null
		export DEBIAN_FRONTEND=noninteractive
		install() {
			apt-get -q install -y --no-install-recommends gcc libc6-dev
		}
		# A bare machine has no lists of packages yet.
		install >/dev/null 2>&1 || { apt-get -q update && install; } >&2
	) 9<"$0" || exit
fi
exec cc "$@"
