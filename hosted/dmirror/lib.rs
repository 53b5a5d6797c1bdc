// SPDX-License-Identifier: GPL-2.0

//! The sample driver `samples/dmirror`, hosted.

#![no_std]
#![feature(used_with_arg)]

include!(concat!(env!("OUT_DIR"), "/root.rs"));

/// Sets the parameter `name` of the module, as `insmod` does. A parameter is set once, before the
/// module is loaded.
///
/// # Errors
///
/// [`ENOENT`] if there is none of that name; [`EINVAL`]; [`EEXIST`] if it is set already.
pub fn set_parameter(name: &str, value: &CStr) -> Result {
    use kernel::{bindings, module_param};

    let parameters = [
        (
            "memory_mib",
            &module_param::PARAM_OPS_USIZE,
            module_parameters::memory_mib.as_void_ptr(),
        ),
        (
            "peers",
            &module_param::PARAM_OPS_U8,
            module_parameters::peers.as_void_ptr(),
        ),
        (
            "allocator",
            &module_param::PARAM_OPS_U8,
            module_parameters::allocator.as_void_ptr(),
        ),
        (
            "fault_pages",
            &module_param::PARAM_OPS_USIZE,
            module_parameters::fault_pages.as_void_ptr(),
        ),
        (
            "spm_addr_dev0",
            &module_param::PARAM_OPS_U64,
            module_parameters::spm_addr_dev0.as_void_ptr(),
        ),
        (
            "spm_addr_dev1",
            &module_param::PARAM_OPS_U64,
            module_parameters::spm_addr_dev1.as_void_ptr(),
        ),
    ];
    let mut parameters = parameters.into_iter();
    let (_, ops, arg) = parameters.find(|known| known.0 == name).ok_or(ENOENT)?;
    let parameter = bindings::kernel_param {
        name: value.as_char_ptr(),
        mod_: core::ptr::null_mut(),
        ops: core::ptr::from_ref(ops),
        perm: 0,
        level: -1,
        flags: 0,
        __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 { arg },
    };
    let set = ops.set.ok_or(EINVAL)?;
    // SAFETY: The value is a string of C, and these are the operations for the type of the
    // parameter, which `arg` points to.
    kernel::error::to_result(unsafe { set(value.as_char_ptr(), &parameter) })
}
