// SPDX-License-Identifier: GPL-2.0

/* The tracepoints of the crate dpmem, for Rust code to call. */

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include <trace/events/dpmem.h>
