// SPDX-License-Identifier: GPL-2.0

//! debugfs, and sequence files, which its files are.
//!
//! Real: directories and files, what is read from them, that they go with what they show. Not
//! simulated: writing, modes, reading a file in pieces while it changes, who waits when a file goes
//! that is being read.

use std::{collections::BTreeMap, ffi::CStr, ptr::null_mut};

use ffi::*;

use crate::{
    consts::*,
    errno::*,
    files::{file, file_operations},
    machine::{might_sleep, with},
    process::err_ptr,
    report::report,
    rest::inode,
};

/// A directory or a file: only its address counts.
#[repr(C)]
pub struct dentry {
    _not_send: *mut c_void,
}

/// What the machine knows of one.
pub(crate) struct Entry {
    name: String,
    /// Where it is; zero is the top.
    parent: usize,
    /// What a file shows, and how.
    file: Option<(*mut c_void, *const file_operations)>,
}

/// All of them, by the addresses of their `dentry`s.
pub(crate) type Entries = BTreeMap<usize, Entry>;

type Show = Option<unsafe extern "C" fn(m: *mut seq_file, v: *mut c_void) -> c_int>;

#[repr(C)]
pub struct seq_file {
    pub private: *mut c_void,
    show: Show,
    text: String,
}

/// Adds an entry to the directory `parent`.
unsafe fn add(
    name: *const c_char,
    parent: *mut dentry,
    file: Option<(*mut c_void, *const file_operations)>,
) -> *mut dentry {
    let name = unsafe { CStr::from_ptr(name.cast()) };
    let name = name.to_string_lossy().into_owned();
    let parent = parent as usize;
    // An error as a parent is an error that was made before, and shall make no other one.
    if parent >= 0usize.wrapping_sub(MAX_ERRNO as usize) {
        return err_ptr(ENODEV);
    }
    with(|m| {
        if parent != 0 && !m.debugfs.contains_key(&parent) {
            report("a file of debugfs is made in a directory that is gone");
        }
        let same = |entry: &Entry| entry.parent == parent && entry.name == name;
        if m.debugfs.values().any(same) {
            return err_ptr(EEXIST);
        }
        let entry = Box::into_raw(Box::new(dentry {
            _not_send: null_mut(),
        }));
        let new = Entry { name, parent, file };
        m.debugfs.insert(entry as usize, new);
        entry
    })
}

pub unsafe extern "C" fn debugfs_create_dir(
    name: *const c_char,
    parent: *mut dentry,
) -> *mut dentry {
    might_sleep("debugfs_create_dir");
    if with(|m| m.fails("debugfs_create_dir")) {
        return err_ptr(ENOMEM);
    }
    unsafe { add(name, parent, None) }
}

pub unsafe extern "C" fn debugfs_create_file_full(
    name: *const c_char,
    _mode: u16,
    parent: *mut dentry,
    data: *mut c_void,
    _aux: *const c_void,
    fops: *const file_operations,
) -> *mut dentry {
    might_sleep("debugfs_create_file");
    unsafe { add(name, parent, Some((data, fops))) }
}

pub unsafe extern "C" fn debugfs_remove(entry: *mut dentry) {
    might_sleep("debugfs_remove");
    let entry = entry as usize;
    if entry == 0 || entry >= 0usize.wrapping_sub(MAX_ERRNO as usize) {
        return;
    }
    with(|m| {
        let mut gone = vec![entry];
        while let Some(entry) = gone.pop() {
            let inside = m.debugfs.iter().filter(|(_, other)| other.parent == entry);
            gone.extend(inside.map(|(inside, _)| *inside));
            if m.debugfs.remove(&entry).is_none() {
                report("a file of debugfs is removed that is not there");
                continue;
            }
            let entry = std::ptr::with_exposed_provenance_mut::<dentry>(entry);
            drop(unsafe { Box::from_raw(entry) });
        }
    });
}

/// The files of debugfs, each by its path.
pub fn debugfs() -> Vec<String> {
    with(|m| {
        let files = m.debugfs.iter().filter(|(_, entry)| entry.file.is_some());
        files.map(|(entry, _)| path(&m.debugfs, *entry)).collect()
    })
}

fn path(entries: &Entries, mut entry: usize) -> String {
    let mut names = Vec::new();
    while let Some(found) = entries.get(&entry) {
        names.push(found.name.as_str());
        entry = found.parent;
    }
    names.reverse();
    names.join("/")
}

/// Reads a file of debugfs.
pub fn read_debugfs(name: &str) -> Option<String> {
    let (data, fops) = with(|m| {
        let mut entries = m.debugfs.iter();
        let found = entries.find(|(entry, _)| path(&m.debugfs, **entry) == name)?;
        found.1.file
    })?;
    let fops = unsafe { &*fops };
    let mut inode = inode { i_private: data };
    let mut file = file::for_reading();
    if unsafe { fops.open?(&raw mut inode, &raw mut file) } != 0 {
        return None;
    }
    let mut text = Vec::new();
    let mut pos = 0;
    loop {
        let mut piece = [0u8; 64];
        let len = piece.len();
        let got =
            unsafe { fops.read?(&raw mut file, piece.as_mut_ptr().cast(), len, &raw mut pos) };
        match usize::try_from(got) {
            Ok(got @ 1..) => text.extend_from_slice(&piece[..got]),
            _ => break,
        }
    }
    if let Some(release) = fops.release {
        unsafe { release(&raw mut inode, &raw mut file) };
    }
    String::from_utf8(text).ok()
}

pub unsafe extern "C" fn single_open(file: *mut file, show: Show, data: *mut c_void) -> c_int {
    might_sleep("single_open");
    let seq = Box::new(seq_file {
        private: data,
        show,
        text: String::new(),
    });
    unsafe { (*file).private_data = Box::into_raw(seq).cast() };
    0
}

pub unsafe extern "C" fn single_release(_inode: *mut inode, file: *mut file) -> c_int {
    let seq = unsafe { (*file).private_data }.cast::<seq_file>();
    drop(unsafe { Box::from_raw(seq) });
    0
}

pub unsafe extern "C" fn seq_read(
    file: *mut file,
    buf: *mut c_char,
    size: usize,
    ppos: *mut loff_t,
) -> isize {
    might_sleep("seq_read");
    let seq = unsafe { (*file).private_data }.cast::<seq_file>();
    let pos = unsafe { *ppos } as usize;
    if pos == 0 {
        unsafe { (*seq).text.clear() };
        if let Some(show) = unsafe { (*seq).show } {
            let result = unsafe { show(seq, null_mut()) };
            if result < 0 {
                return result as isize;
            }
        }
    }
    let text = unsafe { &(*seq).text };
    let rest = text.as_bytes().get(pos..).unwrap_or(&[]);
    let len = rest.len().min(size);
    unsafe {
        buf.cast::<u8>()
            .copy_from_nonoverlapping(rest.as_ptr(), len)
    };
    unsafe { *ppos += len as loff_t };
    len as isize
}

/// Rust has one format, `%pA`, which is what `core::fmt` has made.
pub unsafe extern "C" fn seq_printf(m: *mut seq_file, _f: *const c_char, mut args: ...) {
    let text = unsafe {
        &*args
            .arg::<*const c_void>()
            .cast::<core::fmt::Arguments<'_>>()
    };
    let text = text.to_string();
    unsafe { (*m).text.push_str(&text) };
}

not_simulated! {
    fn default_llseek(*mut file, loff_t, c_int) -> loff_t;
    fn noop_llseek(*mut file, loff_t, c_int) -> loff_t;
    fn seq_lseek(*mut file, loff_t, c_int) -> loff_t;
    fn simple_open(*mut inode, *mut file) -> c_int;
}
