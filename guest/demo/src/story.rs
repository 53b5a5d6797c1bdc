// SPDX-License-Identifier: GPL-2.0

//! The story that the demo tells.

use std::{
    fs,
    path::Path,
    time::{
        Duration,
        Instant, //
    },
};

use anyhow::{
    Context as _,
    Result, //
};

use crate::{
    device::{
        Device,
        Request, //
    },
    mapping::{
        page_size,
        Mapping, //
    },
    pagemap,
};

/// How much memory goes to the device.
const PAGES: usize = 4096;

/// The byte at `i` before the device has changed anything.
fn before(i: usize) -> u8 {
    (i.wrapping_mul(2_654_435_761) >> 11) as u8
}

/// What the device makes of a byte.
fn changed(byte: u8) -> u8 {
    byte ^ 0xa5
}

/// How many of `bytes` are not as `expected` says.
fn wrong(bytes: &[u8], expected: impl Fn(usize) -> u8) -> usize {
    (0..)
        .zip(bytes)
        .filter(|(i, byte)| **byte != expected(*i))
        .count()
}

/// Tells what is where.
fn whereabouts(memory: &Mapping) -> Result<pagemap::Count> {
    let count = pagemap::count(memory)?;
    println!(
        "      {:>5} pages in system memory, {:>5} on the device",
        count.ram, count.device
    );
    Ok(count)
}

/// Does `step`, and tells how long it took.
fn timed<R>(what: &str, step: impl FnOnce() -> Result<R>) -> Result<R> {
    let start = Instant::now();
    let result = step().with_context(|| what.to_owned())?;
    println!("  {what:<58} {:>8.1} ms", millis(start.elapsed()));
    Ok(result)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Tells what physical address space the device's memory has.
fn address_space() -> Result<()> {
    let iomem = fs::read_to_string("/proc/iomem").context("cannot read /proc/iomem")?;
    let lines: Vec<&str> = iomem
        .lines()
        .filter(|line| line.ends_with("dmirror"))
        .collect();
    println!("  /proc/iomem:");
    for line in &lines {
        println!("      {}", line.trim());
    }
    if lines.is_empty() {
        println!("      nothing for the device");
    }
    Ok(())
}

/// Lets one page migrate, and tells whether that goes; false, not an error, if the device has no
/// memory.
pub(crate) fn try_it(path: &Path) -> Result<bool> {
    let device = Device::open(path)?;
    let mut memory = Mapping::private(1)?;
    memory.bytes_mut().fill(1);
    let mut buffer = vec![0u8; page_size()];
    match device.ask(Request::MigrateToDevice, &memory, 1, &mut buffer) {
        Ok(_) => println!("  a page migrates to the device"),
        Err(err) => {
            println!("  no page migrates to the device: {err}");
            return Ok(false);
        }
    }
    address_space()?;
    Ok(true)
}

/// Tells the story; true if every byte was right.
pub(crate) fn tell(path: &Path) -> Result<bool> {
    let size = PAGES * page_size();
    println!(
        "A process with {} MiB, and {}:\n",
        size >> 20,
        path.display()
    );
    let device = Device::open(path)?;
    let mut memory = Mapping::private(PAGES)?;
    let mut buffer = vec![0u8; size];

    timed("the process writes a pattern", || {
        for (i, byte) in memory.bytes_mut().iter_mut().enumerate() {
            *byte = before(i);
        }
        Ok(())
    })?;
    whereabouts(&memory)?;

    let moved = timed("its memory migrates to the device", || {
        Ok(device.ask(Request::MigrateToDevice, &memory, PAGES, &mut buffer)?)
    })?;
    let on_device = whereabouts(&memory)?;
    let mut bad = wrong(&buffer, before);
    println!(
        "      the device has read {} pages, {bad} bytes are wrong",
        moved.cpages
    );
    address_space()?;

    for byte in &mut buffer {
        *byte = changed(*byte);
    }
    let written = timed("the device changes every byte of it", || {
        Ok(device.ask(Request::Write, &memory, PAGES, &mut buffer)?)
    })?;
    println!(
        "      {} pages, {} device fault(s)",
        written.cpages, written.faults
    );
    let still_on_device = whereabouts(&memory)?;

    let differences = timed("the CPU touches it, and faults it back", || {
        Ok(wrong(memory.bytes(), |i| changed(before(i))))
    })?;
    let home = whereabouts(&memory)?;
    println!(
        "      {} bytes compared, {differences} are wrong",
        memory.bytes().len()
    );
    bad += differences;

    let all = |n: usize| n == PAGES;
    let good = bad == 0
        && all(on_device.device)
        && all(still_on_device.device)
        && all(home.ram)
        && all(usize::try_from(moved.cpages)?)
        && all(usize::try_from(written.cpages)?);
    println!(
        "\n  {}",
        if good {
            "Every byte is right."
        } else {
            "That is not as it should be."
        }
    );
    Ok(good)
}
