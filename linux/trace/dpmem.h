/* SPDX-License-Identifier: GPL-2.0 */

/*
 * Tracepoints of the crate dpmem. A pagemap is named by its number, which is also
 * the end of the name of its directory in debugfs; offsets and counts are pages.
 */

#undef TRACE_SYSTEM
#define TRACE_SYSTEM dpmem

#if !defined(_TRACE_DPMEM_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_DPMEM_H

#include <linux/mm_types.h>
#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(dpmem_folio,

	TP_PROTO(u64 pagemap, unsigned long offset, unsigned int order),

	TP_ARGS(pagemap, offset, order),

	TP_STRUCT__entry(
		__field(u64, pagemap)
		__field(unsigned long, offset)
		__field(unsigned int, order)
	),

	TP_fast_assign(
		__entry->pagemap = pagemap;
		__entry->offset = offset;
		__entry->order = order;
	),

	TP_printk("pagemap=%llu offset=%lu order=%u",
		  __entry->pagemap, __entry->offset, __entry->order)
);

/* A folio was taken out of the allocator of the driver. */
DEFINE_EVENT(dpmem_folio, dpmem_request,

	TP_PROTO(u64 pagemap, unsigned long offset, unsigned int order),

	TP_ARGS(pagemap, offset, order)
);

/* A folio, or a part of one that was split, went back to the allocator. */
DEFINE_EVENT(dpmem_folio, dpmem_free,

	TP_PROTO(u64 pagemap, unsigned long offset, unsigned int order),

	TP_ARGS(pagemap, offset, order)
);

/* Pages were copied, and those that the kernel let go of have moved. */
TRACE_EVENT(dpmem_migrate,

	TP_PROTO(u64 pagemap, bool to_device, unsigned long copied,
		 unsigned long moved),

	TP_ARGS(pagemap, to_device, copied, moved),

	TP_STRUCT__entry(
		__field(u64, pagemap)
		__field(bool, to_device)
		__field(unsigned long, copied)
		__field(unsigned long, moved)
	),

	TP_fast_assign(
		__entry->pagemap = pagemap;
		__entry->to_device = to_device;
		__entry->copied = copied;
		__entry->moved = moved;
	),

	TP_printk("pagemap=%llu to=%s copied=%lu moved=%lu",
		  __entry->pagemap, __entry->to_device ? "device" : "ram",
		  __entry->copied, __entry->moved)
);

/* A CPU touched a page of the device, and this is the answer; none is "try again". */
TRACE_EVENT(dpmem_fault,

	TP_PROTO(u64 pagemap, unsigned long address, unsigned long offset,
		 unsigned int answer),

	TP_ARGS(pagemap, address, offset, answer),

	TP_STRUCT__entry(
		__field(u64, pagemap)
		__field(unsigned long, address)
		__field(unsigned long, offset)
		__field(unsigned int, answer)
	),

	TP_fast_assign(
		__entry->pagemap = pagemap;
		__entry->address = address;
		__entry->offset = offset;
		__entry->answer = answer;
	),

	TP_printk("pagemap=%llu address=%#lx offset=%lu answer=%s",
		  __entry->pagemap, __entry->address, __entry->offset,
		  __print_flags(__entry->answer, "|", VM_FAULT_RESULT_TRACE))
);

/* Large folios were split, because there is no place as large for them. */
TRACE_EVENT(dpmem_split,

	TP_PROTO(u64 pagemap, unsigned long folios),

	TP_ARGS(pagemap, folios),

	TP_STRUCT__entry(
		__field(u64, pagemap)
		__field(unsigned long, folios)
	),

	TP_fast_assign(
		__entry->pagemap = pagemap;
		__entry->folios = folios;
	),

	TP_printk("pagemap=%llu folios=%lu", __entry->pagemap, __entry->folios)
);

/*
 * Of nr pages, the first of which is at offset, these came home because the
 * driver wanted it. There may be others between the pages.
 */
TRACE_EVENT(dpmem_evict,

	TP_PROTO(u64 pagemap, unsigned long offset, unsigned long nr,
		 unsigned long moved),

	TP_ARGS(pagemap, offset, nr, moved),

	TP_STRUCT__entry(
		__field(u64, pagemap)
		__field(unsigned long, offset)
		__field(unsigned long, nr)
		__field(unsigned long, moved)
	),

	TP_fast_assign(
		__entry->pagemap = pagemap;
		__entry->offset = offset;
		__entry->nr = nr;
		__entry->moved = moved;
	),

	TP_printk("pagemap=%llu offset=%lu nr=%lu moved=%lu",
		  __entry->pagemap, __entry->offset, __entry->nr, __entry->moved)
);

/* Something did not work; the causes are the files of failures/ in debugfs. */
TRACE_EVENT(dpmem_failure,

	TP_PROTO(u64 pagemap, const char *cause, unsigned long nr),

	TP_ARGS(pagemap, cause, nr),

	TP_STRUCT__entry(
		__field(u64, pagemap)
		__string(cause, cause)
		__field(unsigned long, nr)
	),

	TP_fast_assign(
		__entry->pagemap = pagemap;
		__assign_str(cause);
		__entry->nr = nr;
	),

	TP_printk("pagemap=%llu cause=%s nr=%lu",
		  __entry->pagemap, __get_str(cause), __entry->nr)
);

#endif /* _TRACE_DPMEM_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
