// SPDX-License-Identifier: GPL-2.0

//! Misc devices, and the files that processes open.
//!
//! Real: `open`, `ioctl`, `mmap`, `release`, in which order, and as whom. Not simulated: file
//! descriptors, reading and writing.

use core::{ffi::CStr, ops::Deref};

use ffi::*;
use pin_init::Zeroable;

use crate::{
    consts::*,
    debugfs::seq_file,
    devices::device,
    driver::{file_get, file_put},
    errno::*,
    lockdep,
    locks::{acquire, release},
    machine::{might_sleep, with},
    mm::vm_area_struct,
    process::{Errno, Process},
    report::{report, Traced},
    rest::{cred, inode, iov_iter, module},
};

#[repr(C)]
pub struct file {
    pub private_data: *mut c_void,
    pub f_cred: *const cred,
    pub f_flags: c_uint,
}

impl file {
    /// A file that nothing is known of yet.
    pub(crate) fn for_reading() -> Self {
        Self {
            private_data: std::ptr::null_mut(),
            f_cred: std::ptr::null(),
            f_flags: O_RDONLY,
        }
    }
}

#[repr(C)]
pub struct kiocb {
    pub ki_filp: *mut file,
    pub ki_pos: loff_t,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct file_operations {
    pub owner: *mut module,
    pub llseek: Option<unsafe extern "C" fn(*mut file, loff_t, c_int) -> loff_t>,
    pub read: Option<unsafe extern "C" fn(*mut file, *mut c_char, usize, *mut loff_t) -> isize>,
    pub write: Option<unsafe extern "C" fn(*mut file, *const c_char, usize, *mut loff_t) -> isize>,
    pub open: Option<unsafe extern "C" fn(*mut inode, *mut file) -> c_int>,
    pub release: Option<unsafe extern "C" fn(*mut inode, *mut file) -> c_int>,
    pub mmap: Option<unsafe extern "C" fn(*mut file, *mut vm_area_struct) -> c_int>,
    pub read_iter: Option<unsafe extern "C" fn(*mut kiocb, *mut iov_iter) -> isize>,
    pub write_iter: Option<unsafe extern "C" fn(*mut kiocb, *mut iov_iter) -> isize>,
    pub unlocked_ioctl: Option<unsafe extern "C" fn(*mut file, c_uint, c_ulong) -> c_long>,
    pub compat_ioctl: Option<unsafe extern "C" fn(*mut file, c_uint, c_ulong) -> c_long>,
    pub show_fdinfo: Option<unsafe extern "C" fn(*mut seq_file, *mut file)>,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct miscdevice {
    pub minor: c_int,
    pub name: *const c_char,
    pub fops: *const file_operations,
    pub this_device: *mut device,
}

pub const compat_ptr_ioctl: Option<unsafe extern "C" fn(*mut file, c_uint, c_ulong) -> c_long> =
    None;

/// Calls `f` while nobody else opens a misc device, registers or unregisters one.
fn with_misc_locked<R>(f: impl FnOnce() -> R) -> R {
    let owner = with(|m| &raw mut m.misc_owner);
    lockdep::acquire(lockdep::MISC);
    unsafe { acquire(owner, "lock of misc devices") };
    let result = f();
    lockdep::release(lockdep::MISC);
    unsafe { release(owner, "lock of misc devices") };
    result
}

pub unsafe extern "C" fn misc_register(misc: *mut miscdevice) -> c_int {
    might_sleep("misc_register");
    let name = unsafe { CStr::from_ptr((*misc).name.cast()) };
    let name = name.to_string_lossy().into_owned();
    with_misc_locked(|| {
        with(|m| {
            if m.fails("misc_register") {
                return -(ENOMEM as c_int);
            }
            if m.devices.contains_key(&name) {
                return -(EEXIST as c_int);
            }
            m.devices.insert(name, Traced::new(misc));
            0
        })
    })
}

pub unsafe extern "C" fn misc_deregister(misc: *mut miscdevice) {
    might_sleep("misc_deregister");
    with_misc_locked(|| {
        with(|m| {
            let before = m.devices.len();
            m.devices.retain(|_, other| **other != misc);
            if m.devices.len() + 1 != before {
                report("a misc device is unregistered that is not there");
            }
        });
    });
}

pub unsafe extern "C" fn generic_file_open(_inode: *mut inode, _filp: *mut file) -> c_int {
    0
}

/// A file that a process has opened. Dropping it closes it.
pub struct OpenFile<P: Deref<Target = Process>> {
    process: P,
    file: Box<file>,
    ops: *const file_operations,
}

// SAFETY: What is behind the pointers is used under locks; an open file can be used by any thread
// of its process.
unsafe impl<P: Deref<Target = Process> + Send> Send for OpenFile<P> {}
// SAFETY: As above.
unsafe impl<P: Deref<Target = Process> + Sync> Sync for OpenFile<P> {}

impl Process {
    /// Opens the misc device `name`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none; those of the driver.
    pub fn open(&self, name: &str) -> Result<OpenFile<&Self>, Errno> {
        OpenFile::of(self, name)
    }
}

impl<P: Deref<Target = Process>> OpenFile<P> {
    /// As [`Process::open`], for who has the process in some other way than by a reference.
    ///
    /// # Errors
    ///
    /// Those of [`Process::open`].
    pub fn of(process: P, name: &str) -> Result<Self, Errno> {
        // It is not unregistered before it is open.
        with_misc_locked(|| Self::open(process, name))
    }

    fn open(process: P, name: &str) -> Result<Self, Errno> {
        let misc = with(|m| m.devices.get(name).map(|misc| **misc)).ok_or(Errno(ENOENT))?;
        let ops = unsafe { (*misc).fops };
        if !file_get() {
            return Err(Errno(ENODEV));
        }
        let mut file = Box::new(file {
            private_data: misc.cast(),
            f_cred: std::ptr::null(),
            f_flags: O_RDWR,
        });
        if let Some(open) = unsafe { (*ops).open } {
            let result = process.run(|| unsafe { open(std::ptr::null_mut(), &raw mut *file) });
            if result != 0 {
                file_put();
                return Err(Errno(result.unsigned_abs()));
            }
        }
        Ok(Self { process, file, ops })
    }

    fn raw(&self) -> *mut file {
        std::ptr::from_ref(&*self.file).cast_mut()
    }

    /// `ioctl()`.
    ///
    /// # Errors
    ///
    /// `ENOTTY` if there are no ioctls; those of the driver.
    pub fn ioctl(&self, cmd: u32, arg: usize) -> Result<usize, Errno> {
        self.ioctl_by(&self.process, cmd, arg)
    }

    /// As [`OpenFile::ioctl`], by a process that was handed the file, or has inherited it.
    ///
    /// # Errors
    ///
    /// As for that.
    pub fn ioctl_by(&self, process: &Process, cmd: u32, arg: usize) -> Result<usize, Errno> {
        let call = unsafe { (*self.ops).unlocked_ioctl }.ok_or(Errno(ENOTTY))?;
        let result = process.run(|| unsafe { call(self.raw(), cmd, arg) });
        match usize::try_from(result) {
            Ok(result) => Ok(result),
            Err(_) => Err(Errno(u32::try_from(result.unsigned_abs()).unwrap_or(EIO))),
        }
    }

    /// `mmap()` of the file, private, to be read and written.
    ///
    /// # Errors
    ///
    /// `ENODEV` if that is not possible; those of the driver.
    pub fn mmap(&self, len: usize) -> Result<usize, Errno> {
        let call = unsafe { (*self.ops).mmap }.ok_or(Errno(ENODEV))?;
        let process = &*self.process;
        process.run(|| process.mmap_file(len, |vma| unsafe { call(self.raw(), vma) }))
    }
}

impl<P: Deref<Target = Process>> Drop for OpenFile<P> {
    fn drop(&mut self) {
        if let Some(release) = unsafe { (*self.ops).release } {
            self.process
                .run(|| unsafe { release(std::ptr::null_mut(), self.raw()) });
        }
        file_put();
    }
}

not_simulated! {
    fn fget(c_uint) -> *mut file;
    fn fput(*mut file);
    fn get_file(*mut file) -> *mut file;
    fn get_unused_fd_flags(c_uint) -> c_int;
    fn put_unused_fd(c_uint);
    fn fd_install(c_uint, *mut file);
}
