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
    bail,
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

/// What has physical address space.
const IOMEM: &str = "/proc/iomem";

/// Tells what physical address space the device's memory has.
fn address_space() -> Result<()> {
    let iomem = read(Path::new(IOMEM))?;
    let lines: Vec<&str> = iomem
        .lines()
        .filter(|line| line.ends_with("dmirror"))
        .collect();
    println!("  {IOMEM}:");
    for line in &lines {
        println!("      {}", line.trim());
    }
    if lines.is_empty() {
        println!("      nothing for the device");
    }
    Ok(())
}

/// Makes sure that nobody has lost or got physical address space since the file `before` was
/// written.
fn nothing_lost(before: &Path) -> Result<()> {
    if let Some(change) = change(&read(before)?, &read(Path::new(IOMEM))?) {
        bail!("{IOMEM} is not what it was before the driver was loaded: {change}");
    }
    println!("      all as it was before the driver was loaded");
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// What has changed, in one line; none if nothing has.
fn change(before: &str, now: &str) -> Option<String> {
    if before == now {
        return None;
    }
    let only = |word, of: &str, other: &str| {
        let lines: Vec<&str> = of
            .lines()
            .filter(|line| !other.lines().any(|of_other| of_other == *line))
            .map(str::trim)
            .collect();
        (!lines.is_empty()).then(|| format!("{word} {}", lines.join(", ")))
    };
    let changes = [only("new is", now, before), only("gone is", before, now)];
    let changes: Vec<String> = changes.into_iter().flatten().collect();
    Some(match changes.is_empty() {
        true => "the same lines, in another order or number".to_owned(),
        false => changes.join("; "),
    })
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

/// Tells the story; true if every byte was right. It is an error if `/proc/iomem` is not what the
/// file `iomem` says, while the device is in use.
pub(crate) fn tell(path: &Path, iomem: Option<&Path>) -> Result<bool> {
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
    if let Some(before) = iomem {
        nothing_lost(before)?;
    }

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

#[cfg(test)]
mod tests {
    use super::change;

    const BEFORE: &str = "00001000-0009fbff : System RAM\n000a0000-000fffff : Reserved\n";

    #[test]
    fn what_is_the_same_is_no_change() {
        assert_eq!(change(BEFORE, BEFORE), None);
    }

    #[test]
    fn what_is_new_and_what_is_gone() {
        let taken = format!("{BEFORE}7f0000000-fefffffff : dmirror\n");
        assert_eq!(
            change(BEFORE, &taken).unwrap(),
            "new is 7f0000000-fefffffff : dmirror"
        );
        assert_eq!(
            change(&taken, BEFORE).unwrap(),
            "gone is 7f0000000-fefffffff : dmirror"
        );
        let other = taken.replace("Reserved", "PCI Bus");
        assert_eq!(
            change(BEFORE, &other).unwrap(),
            "new is 000a0000-000fffff : PCI Bus, 7f0000000-fefffffff : dmirror; \
             gone is 000a0000-000fffff : Reserved"
        );
        let twice = BEFORE.repeat(2);
        assert_eq!(
            change(BEFORE, &twice).unwrap(),
            "the same lines, in another order or number"
        );
    }
}
