// SPDX-License-Identifier: GPL-2.0

//! The tracepoints of the driver's framework: what they say of a few pages of which everything is
//! known.

use std::{
    fs,
    path::{
        Path,
        PathBuf, //
    },
};

use anyhow::{
    ensure,
    Context as _,
    Result, //
};

use crate::{
    debugfs::Counters,
    device::{
        Device,
        Failure, //
    },
    mapping::Mapping,
    scenarios::{
        check,
        fill,
        migrate,
        pattern,
        Scenario, //
    }, //
};

/// The scenarios, on a kernel that can trace.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    ("what_the_trace_says", what_the_trace_says),
    ("evicted_in_blocks", evicted_in_blocks),
];

/// Where the trace is controlled.
const TRACEFS: &str = "/sys/kernel/tracing";

/// The trace is on for as long as this lives.
struct Trace;

impl Trace {
    fn start() -> Result<Self> {
        let this = Self;
        write("trace", "")?;
        write("events/dpmem/enable", "1")?;
        Ok(this)
    }

    /// The events of pagemap `number`, in order: the name, and what is said behind the number.
    fn events(&self, number: u64) -> Result<Vec<String>> {
        let trace = fs::read_to_string(file("trace"))?;
        let whose = format!(": pagemap={number} ");
        let event = |line: &str| {
            let (before, said) = line.split_once(&whose)?;
            let name = before.rsplit_once(' ')?.1;
            Some(format!("{name} {said}"))
        };
        Ok(trace.lines().filter_map(event).collect())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // The next scenarios do not care.
        let _ = write("events/dpmem/enable", "0");
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(TRACEFS).join(name)
}

fn write(name: &str, what: &str) -> Result<()> {
    fs::write(file(name), what).with_context(|| format!("cannot write to {TRACEFS}/{name}"))
}

fn what_the_trace_says(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    // What is registered anew hands out its first pages first.
    device.release()?;
    Device::open_other(path)?.release()?;
    let trace = Trace::start()?;

    let mut memory = Mapping::private(3)?;
    fill(memory.bytes_mut(), 50);
    migrate(&device, &memory)?;
    let number = Counters::only()?.number()?;
    ensure!(memory.bytes().first() == Some(&pattern(0, 50)));
    let evicted = device.evict()?;
    ensure!(evicted == 2, "{evicted} pages were evicted");

    let mut huge = Mapping::huge()?;
    fill(huge.bytes_mut(), 51);
    device.fail(Failure::Large)?;
    migrate(&device, &huge)?;

    let pages = huge.pages();
    let request = |offset| format!("dpmem_request offset={offset} order=0");
    let mut expected: Vec<String> = (0..3).map(request).collect();
    expected.extend([
        "dpmem_migrate to=device copied=3 moved=3".to_owned(),
        // The fault has a reference to the page until it is over.
        "dpmem_migrate to=ram copied=1 moved=1".to_owned(),
        format!("dpmem_fault address={:#x} offset=0 answer=", memory.addr()),
        "dpmem_free offset=0 order=0".to_owned(),
        "dpmem_migrate to=ram copied=2 moved=2".to_owned(),
        "dpmem_free offset=1 order=0".to_owned(),
        "dpmem_free offset=2 order=0".to_owned(),
        // From the first page that is out to the end of its block, which has 64 pages.
        "dpmem_evict offset=1 nr=63 moved=2".to_owned(),
        "dpmem_split folios=1".to_owned(),
    ]);
    expected.extend((0..pages).map(request));
    expected.push(format!(
        "dpmem_migrate to=device copied={pages} moved={pages}"
    ));
    let events = trace.events(number)?;
    same(&events, &expected)
}

/// Several blocks are evicted at once, and a huge page that each of eight cuts is one of them once.
fn evicted_in_blocks(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    device.release()?;
    Device::open_other(path)?.release()?;
    let trace = Trace::start()?;

    let mut memory = Mapping::private(150)?;
    fill(memory.bytes_mut(), 52);
    migrate(&device, &memory)?;
    let number = Counters::only()?.number()?;
    ensure!(device.evict()? == 150);
    let mut huge = Mapping::huge()?;
    fill(huge.bytes_mut(), 53);
    migrate(&device, &huge)?;
    ensure!(device.evict()? == huge.pages() as u64);

    check(memory.bytes(), |page| pattern(page, 52))?;
    check(huge.bytes(), |page| pattern(page, 53))?;
    let mut events = trace.events(number)?;
    events.retain(|event| event.starts_with("dpmem_evict"));
    let pages = huge.pages();
    let expected = [
        // The last block comes first, and all three fit into one batch.
        "dpmem_evict offset=128 nr=192 moved=150".to_owned(),
        format!("dpmem_evict offset=0 nr={pages} moved={pages}"),
    ];
    same(&events, &expected)
}

/// Compares what was seen.
fn same(events: &[String], expected: &[String]) -> Result<()> {
    let first_other = expected.iter().zip(events).position(|(a, b)| a != b);
    let at = first_other.unwrap_or_else(|| expected.len().min(events.len()));
    ensure!(
        events == expected,
        "event {at} is {:?}, not {:?}",
        events.get(at),
        expected.get(at)
    );
    Ok(())
}
