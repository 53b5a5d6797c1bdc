// SPDX-License-Identifier: GPL-2.0

//! The module goes while processes have memory on its device. It comes last: nothing is on the
//! device any more then.

use std::{
    fs::File,
    io::{
        Read as _,
        Write as _, //
    },
    path::Path, //
};

use anyhow::{
    ensure,
    Context as _,
    Result, //
};
use nix::{
    errno::Errno,
    kmod::{
        delete_module,
        finit_module,
        DeleteModuleFlags,
        ModuleInitFlags, //
    },
};

use crate::{
    device::Device,
    mapping::Mapping,
    process::Child,
    scenarios::{
        check,
        expect,
        fill,
        in_ram,
        migrate,
        pattern,
        Scenario, //
    }, //
};

/// All of them, with their names.
pub(crate) const ALL: &[(&str, Scenario)] = &[("unloaded_under_a_dozen", unloaded_under_a_dozen)];

/// The module, and where it is in the guest.
const MODULE: (&std::ffi::CStr, &str) = (c"dmirror", "/modules/dmirror.ko");

/// How many processes use the device.
const USERS: usize = 12;

const PAGES: usize = 64;

/// Unloads the module, if nobody uses it.
pub(crate) fn unload() -> Result<(), Errno> {
    delete_module(MODULE.0, DeleteModuleFlags::O_NONBLOCK)
}

/// Loads it, without a parameter.
pub(crate) fn load() -> Result<()> {
    let module = File::open(MODULE.1).with_context(|| format!("cannot open {}", MODULE.1))?;
    Ok(finit_module(&module, c"", ModuleInitFlags::empty())?)
}

/// A pipe of which one end is a signal: it is given when the end is dropped.
fn signal() -> Result<(os_pipe::PipeReader, Option<os_pipe::PipeWriter>)> {
    let (reader, writer) = os_pipe::pipe()?;
    Ok((reader, Some(writer)))
}

fn unloaded_under_a_dozen(path: &Path) -> Result<()> {
    let (mut ready, tell) = os_pipe::pipe()?;
    let (close, mut go) = signal()?;
    let (gone, mut went) = signal()?;
    let users = (0..USERS).map(|user| {
        let (tell, close, gone) = (tell.try_clone()?, close.try_clone()?, gone.try_clone()?);
        Child::run(|| {
            // Of the parent alone.
            drop((go.take(), went.take()));
            use_it(path, user, tell, close, gone)
        })
    });
    let users = users.collect::<Result<Vec<_>>>()?;
    drop((tell, close, gone));

    // Files are open.
    ready
        .read_exact(&mut [0; USERS])
        .context("a process ended early")?;
    let found = unload();
    ensure!(
        found == Err(Errno::EWOULDBLOCK),
        "unloading it in use: {found:?}"
    );
    // They are closed, and the memory is still on the device.
    drop(go);
    ready
        .read_exact(&mut [0; USERS])
        .context("a process ended early")?;
    unload().context("unloading it")?;
    drop(went);
    users.into_iter().try_for_each(Child::wait)?;

    load().context("loading it again")?;
    let memory = filled(Mapping::private(PAGES)?, 0);
    migrate(&Device::open(path)?, &memory)?;
    check(memory.bytes(), |page| pattern(page, 0))
}

/// `memory` with pattern `seed`.
fn filled(mut memory: Mapping, seed: usize) -> Mapping {
    fill(memory.bytes_mut(), seed);
    memory
}

/// Puts memory on the device, says so, closes the device when `close` comes, says that, and finds
/// its memory at home when `gone` comes.
fn use_it(
    path: &Path,
    user: usize,
    mut tell: os_pipe::PipeWriter,
    mut close: os_pipe::PipeReader,
    mut gone: os_pipe::PipeReader,
) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = filled(Mapping::private(PAGES)?, user);
    // Of every other process, a huge page.
    let quiet = match user % 2 {
        0 => Mapping::huge()?,
        _ => Mapping::private(PAGES)?,
    };
    let quiet = filled(quiet, user + USERS);
    migrate(&device, &memory)?;
    migrate(&device, &quiet)?;
    tell.write_all(&[0])?;
    close.read_to_end(&mut Vec::new())?;
    drop(device);
    tell.write_all(&[0])?;
    // While the module goes.
    check(memory.bytes(), |page| pattern(page, user))?;
    fill(memory.bytes_mut(), user + 1);
    gone.read_to_end(&mut Vec::new())?;
    // It came without being touched.
    expect(&quiet, in_ram(quiet.pages()))?;
    check(quiet.bytes(), |page| pattern(page, user + USERS))?;
    check(memory.bytes(), |page| pattern(page, user + 1))
}
