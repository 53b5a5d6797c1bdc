// SPDX-License-Identifier: GPL-2.0

//! What the crate `kernel` mentions, and hardly anybody here uses: types that nothing is known of,
//! functions that end the test, and a few that do not.
//!
//! Real: `ERR_PTR()`, `IS_ERR()`, `PTR_ERR()`, `memchr()`. Not simulated: `errname()`, which knows no
//! name; `add_taint()`, which does nothing; `cpu_relax()`, which only lets another thread run.

use ffi::*;
use pin_init::Zeroable;

use crate::{consts::*, devices::device, files::file, task::kuid_t};

/// Types that are only ever behind pointers.
macro_rules! opaque {
    ($($name:ident)*) => {$(
        #[repr(C)]
        pub struct $name {
            _not_send: *mut c_void,
        }
    )*};
}

opaque! {
    fwnode_handle
    kvfree_rcu_head
    module
    pid_namespace
    poll_table_struct
    srcu_struct
}

pub type poll_table = poll_table_struct;

#[repr(C)]
pub struct inode {
    pub i_private: *mut c_void,
}

#[repr(C)]
pub struct cred {
    pub euid: kuid_t,
    _not_send: *mut c_void,
}

#[repr(C)]
pub struct fwnode_reference_args {
    pub fwnode: *mut fwnode_handle,
    pub nargs: c_uint,
    pub args: [u64; 16],
}

impl Default for fwnode_reference_args {
    fn default() -> Self {
        Self {
            fwnode: std::ptr::null_mut(),
            nargs: 0,
            args: [0; 16],
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct iov_iter__bindgen_ty_1__bindgen_ty_1 {
    pub count: usize,
}

#[repr(C)]
pub struct iov_iter__bindgen_ty_1 {
    pub __bindgen_anon_1:
        crate::device_private::__BindgenUnionField<iov_iter__bindgen_ty_1__bindgen_ty_1>,
    pub bindgen_union_field: [u64; 1],
}

#[repr(C)]
pub struct iov_iter {
    pub data_source: bool,
    pub __bindgen_anon_1: iov_iter__bindgen_ty_1,
}

pub const ITER_SOURCE: u32 = 1;
pub const ITER_DEST: u32 = 0;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct kernel_param_ops {
    pub flags: c_uint,
    pub set: Option<unsafe extern "C" fn(val: *const c_char, kp: *const kernel_param) -> c_int>,
    pub get: Option<unsafe extern "C" fn(buffer: *mut c_char, kp: *const kernel_param) -> c_int>,
    pub free: Option<unsafe extern "C" fn(arg: *mut c_void)>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union kernel_param__bindgen_ty_1 {
    pub arg: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct kernel_param {
    pub name: *const c_char,
    pub mod_: *mut module,
    pub ops: *const kernel_param_ops,
    pub perm: u16,
    pub level: i8,
    pub flags: u8,
    pub __bindgen_anon_1: kernel_param__bindgen_ty_1,
}

/// For the crate `error`: `IS_ERR()` and relatives are all real.
pub unsafe extern "C" fn ERR_PTR(error: c_long) -> *mut c_void {
    std::ptr::without_provenance_mut(error as usize)
}

pub unsafe extern "C" fn IS_ERR(ptr: *const c_void) -> bool {
    ptr as usize >= 0usize.wrapping_sub(MAX_ERRNO as usize)
}

pub unsafe extern "C" fn PTR_ERR(ptr: *const c_void) -> c_long {
    ptr as c_long
}

/// The name of an error.
pub unsafe extern "C" fn errname(_err: c_int) -> *const c_char {
    std::ptr::null()
}

pub unsafe extern "C" fn cpu_relax() {
    crate::host::yield_now();
}

pub unsafe extern "C" fn memchr(s: *const c_void, c: c_int, n: usize) -> *mut c_void {
    // As C has it: only the lowest eight bits count.
    let bytes = unsafe { std::slice::from_raw_parts(s.cast::<u8>(), n) };
    let found = bytes.iter().position(|byte| *byte == c as u8);
    found.map_or(std::ptr::null_mut(), |at| {
        s.wrapping_byte_add(at).cast_mut()
    })
}

not_simulated! {
    fn BUG() -> !;
    fn WARN_ON(bool) -> bool;
    fn __dev_fwnode(*const device) -> *mut fwnode_handle;
    fn __wake_up_pollfree(*mut crate::wait::wait_queue_head);
    fn _copy_from_iter(*mut c_void, usize, *mut iov_iter) -> usize;
    fn _copy_to_iter(*const c_void, usize, *mut iov_iter) -> usize;
    fn cleanup_srcu_struct(*mut srcu_struct);
    fn dev_name(*const device) -> *const c_char;
    fn fwnode_count_parents(*const fwnode_handle) -> c_uint;
    fn fwnode_get_name(*const fwnode_handle) -> *const c_char;
    fn fwnode_get_name_prefix(*const fwnode_handle) -> *const c_char;
    fn fwnode_get_named_child_node(*const fwnode_handle, *const c_char) -> *mut fwnode_handle;
    fn fwnode_get_next_child_node(*const fwnode_handle, *mut fwnode_handle) -> *mut fwnode_handle;
    fn fwnode_get_nth_parent(*mut fwnode_handle, c_uint) -> *mut fwnode_handle;
    fn fwnode_handle_get(*mut fwnode_handle) -> *mut fwnode_handle;
    fn fwnode_handle_put(*mut fwnode_handle);
    fn fwnode_property_get_reference_args(
        *const fwnode_handle,
        *const c_char,
        *const c_char,
        c_uint,
        c_uint,
        *mut fwnode_reference_args,
    ) -> c_int;
    fn fwnode_property_match_string(*const fwnode_handle, *const c_char, *const c_char) -> c_int;
    fn fwnode_property_present(*const fwnode_handle, *const c_char) -> bool;
    fn fwnode_property_read_bool(*const fwnode_handle, *const c_char) -> bool;
    fn fwnode_property_read_string(*const fwnode_handle, *const c_char, *mut *const c_char) -> c_int;
    fn fwnode_property_read_u8_array(*const fwnode_handle, *const c_char, *mut u8, usize) -> c_int;
    fn fwnode_property_read_u16_array(*const fwnode_handle, *const c_char, *mut u16, usize) -> c_int;
    fn fwnode_property_read_u32_array(*const fwnode_handle, *const c_char, *mut u32, usize) -> c_int;
    fn fwnode_property_read_u64_array(*const fwnode_handle, *const c_char, *mut u64, usize) -> c_int;
    fn init_srcu_struct_with_key(*mut srcu_struct, *const c_char, *mut crate::locks::lock_class_key) -> c_int;
    fn iov_iter_advance(*mut iov_iter, usize);
    fn iov_iter_revert(*mut iov_iter, usize);
    fn is_of_node(*const fwnode_handle) -> bool;
    fn get_random_bytes(*mut c_void, usize);
    fn kstrtobool(*const c_char, *mut bool) -> c_int;
    fn kvfree_call_rcu(*mut kvfree_rcu_head, *mut c_void);
    fn poll_wait(*mut file, *mut crate::wait::wait_queue_head, *mut poll_table);
    fn local_interrupt_disable();
    fn local_interrupt_enable();
    fn srcu_barrier(*mut srcu_struct);
    fn srcu_read_lock(*mut srcu_struct) -> c_int;
    fn srcu_read_unlock(*mut srcu_struct, c_int);
    fn srcu_readers_active(*mut srcu_struct) -> bool;
    fn strncpy_from_user(*mut c_char, *const c_char, c_long) -> c_long;
    fn synchronize_srcu(*mut srcu_struct);
    fn synchronize_srcu_expedited(*mut srcu_struct);
}

pub const TAINT_WARN: u32 = 9;
pub const BUGFLAG_WARNING: u32 = 1;

pub type lockdep_ok = c_uint;
pub const lockdep_ok_LOCKDEP_STILL_OK: lockdep_ok = 0;
pub const TAINT_USER: u32 = 6;

/// What a machine of a test is trusted with, nobody asks.
pub unsafe extern "C" fn add_taint(_flag: c_uint, _lockdep_ok: lockdep_ok) {}
