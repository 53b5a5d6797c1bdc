// SPDX-License-Identifier: GPL-2.0

//! `task_struct`: who is running.
//!
//! Real: which address space the running thread has. Not simulated: signals, credentials,
//! namespaces, scheduling: each thread is one of the host's.

use std::ptr::null_mut;

use ffi::*;

use crate::{
    host::this_thread,
    machine::with,
    mm::{mm_struct, vm_area_struct, PAGE_SIZE},
    pages::page,
    rest::{cred, pid_namespace},
};

pub type pid_t = c_int;
pub type uid_t = c_uint;

pub const TASK_INTERRUPTIBLE: u32 = 1;
pub const TASK_UNINTERRUPTIBLE: u32 = 2;
pub const TASK_NORMAL: u32 = 3;
pub const TASK_FREEZABLE: u32 = 0x2000;

#[repr(C)]
pub struct task_struct {
    pub mm: *mut mm_struct,
    pub pid: pid_t,
    pub tgid: pid_t,
    pub group_leader: *mut task_struct,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct kuid_t {
    pub val: uid_t,
}

/// A task, as it is handed to a new thread.
pub(crate) struct Task {
    mm: *mut mm_struct,
    pid: pid_t,
}

// SAFETY: Whoever spawns a thread of a process has to join it while the process lives.
unsafe impl Send for Task {}

/// Which thread this is; not zero.
pub(crate) fn thread_id() -> usize {
    this_thread(|this| this.id)
}

/// Makes this thread run the task of a process, or of no process at all. Gives the one before.
pub(crate) fn enter(task: Task) -> *mut task_struct {
    let new = Box::into_raw(Box::new(task_struct {
        mm: task.mm,
        pid: task.pid,
        tgid: task.pid,
        group_leader: null_mut(),
    }));
    unsafe { (*new).group_leader = new };
    this_thread(|this| this.current.replace(new))
}

/// A thread of the kernel's.
pub(crate) fn kernel_thread() -> Task {
    Task {
        mm: null_mut(),
        pid: 0,
    }
}

/// Makes this thread one of the kernel's.
pub(crate) fn enter_kernel_thread() {
    enter(kernel_thread());
}

/// Undoes [`enter`], of which `before` is the result.
pub(crate) fn restore(before: *mut task_struct) {
    let ended = this_thread(|this| this.current.replace(before));
    drop(unsafe { Box::from_raw(ended) });
}

/// Undoes the first [`enter`].
pub(crate) fn leave() {
    restore(null_mut());
}

/// The task of this thread, for another one.
pub(crate) fn inherit() -> Task {
    let current = this_thread(|this| this.current.get());
    unsafe {
        Task {
            mm: (*current).mm,
            pid: (*current).pid,
        }
    }
}

/// The task of a process.
pub(crate) fn of_process(mm: *mut mm_struct, pid: pid_t) -> Task {
    Task { mm, pid }
}

pub unsafe extern "C" fn get_current() -> *mut task_struct {
    this_thread(|this| this.current.get())
}

/// Nobody sends signals, but it may be made to say that somebody has.
pub unsafe extern "C" fn signal_pending(_t: *mut task_struct) -> c_int {
    c_int::from(with(|m| m.fails("signal_pending")))
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct vm_fault__bindgen_ty_1 {
    pub vma: *mut vm_area_struct,
    pub gfp_mask: crate::consts::gfp_t,
    pub pgoff: c_ulong,
    pub address: c_ulong,
    pub real_address: c_ulong,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct pte_t {
    pub pte: c_ulong,
}

#[repr(C)]
pub struct vm_fault {
    pub __bindgen_anon_1: vm_fault__bindgen_ty_1,
    pub flags: c_uint,
    pub page: *mut page,
    pub pte: *mut pte_t,
}

impl vm_fault {
    /// A fault at an entry for a page, or for a huge page as a whole.
    pub(crate) fn new(vma: *mut vm_area_struct, addr: usize, page: *mut page, whole: bool) -> Self {
        // Not null says that the fault is not one of a whole PMD; nobody may look at it.
        let pte = std::ptr::without_provenance_mut(align_of::<pte_t>());
        Self {
            __bindgen_anon_1: vm_fault__bindgen_ty_1 {
                vma,
                gfp_mask: crate::consts::GFP_KERNEL,
                pgoff: 0,
                address: addr & !(PAGE_SIZE - 1),
                real_address: addr,
            },
            flags: 0,
            page,
            pte: if whole { std::ptr::null_mut() } else { pte },
        }
    }
}

not_simulated! {
    fn get_task_struct(*mut task_struct) -> *mut task_struct;
    fn put_task_struct(*mut task_struct);
    fn wake_up_process(*mut task_struct) -> c_int;
    fn task_euid(*mut task_struct) -> kuid_t;
    fn task_uid(*mut task_struct) -> kuid_t;
    fn uid_eq(kuid_t, kuid_t) -> bool;
    fn current_euid() -> kuid_t;
    fn current_user_ns() -> *mut c_void;
    fn from_kuid(*mut c_void, kuid_t) -> uid_t;
    fn task_get_pid_ns(*mut task_struct) -> *mut pid_namespace;
    fn task_active_pid_ns(*mut task_struct) -> *mut pid_namespace;
    fn task_tgid_nr_ns(*mut task_struct, *mut pid_namespace) -> pid_t;
    fn get_pid_ns(*mut pid_namespace) -> *mut pid_namespace;
    fn put_pid_ns(*mut pid_namespace);
    fn get_cred(*const cred) -> *const cred;
    fn put_cred(*const cred);
    fn security_cred_getsecid(*const cred, *mut c_uint);
}
