// SPDX-License-Identifier: GPL-2.0

//! Constants of C.
//!
//! Real: what user space, the hardware or the kernel's headers know as well: the bits of mappings,
//! of opened files and of faults, sizes. Not simulated: the values of flags of allocations, which
//! have no meaning outside of C: each is the smallest that is different from the others.

use ffi::*;

pub type gfp_t = c_uint;
pub type vm_flags_t = c_ulong;
pub type vm_fault_t = c_uint;
pub type resource_size_t = u64;
pub type loff_t = c_longlong;
pub type blk_status_t = u8;

pub const PAGE_SHIFT: u32 = 12;
pub const BITS_PER_LONG: u32 = 64;
pub const MAX_ERRNO: u32 = 4095;
pub const MAX_NUMNODES: u32 = 1;
pub const NUMA_NO_NODE: c_int = -1;
pub const ARCH_KMALLOC_MINALIGN: usize = 8;
pub const KMALLOC_MAX_SIZE: u32 = 1 << 22;
pub const MISC_DYNAMIC_MINOR: u32 = 255;

pub const __GFP_ZERO: gfp_t = 1 << 0;
pub const __GFP_HIGHMEM: gfp_t = 1 << 1;
pub const __GFP_NOWARN: gfp_t = 1 << 2;
/// What may sleep has this bit.
pub const ___GFP_DIRECT_RECLAIM: gfp_t = 1 << 3;
pub const GFP_ATOMIC: gfp_t = 1 << 4;
pub const GFP_NOWAIT: gfp_t = 1 << 5;
pub const GFP_KERNEL: gfp_t = ___GFP_DIRECT_RECLAIM;
pub const GFP_KERNEL_ACCOUNT: gfp_t = ___GFP_DIRECT_RECLAIM | 1 << 6;

pub const VM_NONE: u32 = 0;
pub const VM_READ: vm_flags_t = 1 << 0;
pub const VM_WRITE: vm_flags_t = 1 << 1;
pub const VM_EXEC: vm_flags_t = 1 << 2;
pub const VM_SHARED: vm_flags_t = 1 << 3;
pub const VM_MAYREAD: vm_flags_t = 1 << 4;
pub const VM_MAYWRITE: vm_flags_t = 1 << 5;
pub const VM_MAYEXEC: vm_flags_t = 1 << 6;
pub const VM_MAYSHARE: vm_flags_t = 1 << 7;
pub const VM_PFNMAP: vm_flags_t = 1 << 10;
pub const VM_IO: vm_flags_t = 1 << 14;
pub const VM_DONTCOPY: vm_flags_t = 1 << 17;
pub const VM_DONTEXPAND: vm_flags_t = 1 << 18;
pub const VM_LOCKONFAULT: vm_flags_t = 1 << 19;
pub const VM_ACCOUNT: vm_flags_t = 1 << 20;
pub const VM_NORESERVE: vm_flags_t = 1 << 21;
pub const VM_HUGETLB: vm_flags_t = 1 << 22;
pub const VM_SYNC: vm_flags_t = 1 << 23;
pub const VM_ARCH_1: vm_flags_t = 1 << 24;
pub const VM_WIPEONFORK: vm_flags_t = 1 << 25;
pub const VM_DONTDUMP: vm_flags_t = 1 << 26;
pub const VM_SOFTDIRTY: vm_flags_t = 1 << 27;
pub const VM_MIXEDMAP: vm_flags_t = 1 << 28;
pub const VM_HUGEPAGE: vm_flags_t = 1 << 29;
pub const VM_NOHUGEPAGE: vm_flags_t = 1 << 30;
pub const VM_MERGEABLE: vm_flags_t = 1 << 31;

pub const O_RDONLY: u32 = 0;
pub const O_WRONLY: u32 = 1;
pub const O_RDWR: u32 = 2;
pub const O_ACCMODE: u32 = 3;
pub const O_CREAT: u32 = 0o100;
pub const O_EXCL: u32 = 0o200;
pub const O_NOCTTY: u32 = 0o400;
pub const O_TRUNC: u32 = 0o1000;
pub const O_APPEND: u32 = 0o2000;
pub const O_NONBLOCK: u32 = 0o4000;
pub const O_NDELAY: u32 = O_NONBLOCK;
pub const O_DSYNC: u32 = 0o10000;
pub const FASYNC: u32 = 0o20000;
pub const O_DIRECT: u32 = 0o40000;
pub const O_LARGEFILE: u32 = 0o100000;
pub const O_DIRECTORY: u32 = 0o200000;
pub const O_NOFOLLOW: u32 = 0o400000;
pub const O_NOATIME: u32 = 0o1000000;
pub const O_CLOEXEC: u32 = 0o2000000;
pub const O_SYNC: u32 = 0o4010000;
pub const O_PATH: u32 = 0o10000000;
pub const O_TMPFILE: u32 = 0o20200000;

pub type vm_fault_reason = c_uint;
pub const vm_fault_reason_VM_FAULT_OOM: vm_fault_reason = 0x1;
pub const vm_fault_reason_VM_FAULT_SIGBUS: vm_fault_reason = 0x2;
pub const vm_fault_reason_VM_FAULT_SIGSEGV: vm_fault_reason = 0x40;

include!(concat!(env!("OUT_DIR"), "/sizes.rs"));
