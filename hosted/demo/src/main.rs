// SPDX-License-Identifier: GPL-2.0

//! A device with memory, and processes that use it, on a simulated kernel: what happens, what it
//! took, and a picture.
//!
//! The driver is in [`device`], and knows nothing of this file. Every byte is compared in the end.

mod device;
mod timeline;

use std::{
    error::Error,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use bindings::sim::{self, Event, Mapped, Process, PAGE_SIZE};
use dpmem::{NrPages, UserAddr, UserRange};

use device::{Context, Device};
use timeline::{Area, Phase, Timeline};

/// How much memory the device has, in pages: eight huge pages.
const VRAM: usize = 8 * 512;

/// What can go wrong.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// An error of the kernel's.
fn errno(err: kernel::error::Error) -> Box<dyn Error> {
    format!("{err:?}").into()
}

/// An error of a system call.
fn sys(err: sim::Errno) -> Box<dyn Error> {
    format!("error {} of a system call", err.0).into()
}

/// A process with memory that it uses with the device.
struct Client {
    name: &'static str,
    process: Process,
    context: Context,
    memory: usize,
    /// What has to be there.
    bytes: Vec<u8>,
}

impl Client {
    /// A process with `nr` pages, large ones if `huge`, and a pattern in them.
    fn new(name: &'static str, nr: usize, huge: bool) -> Outcome<Self> {
        let process = Process::new();
        let context = process.run(Context::new).map_err(errno)?;
        let memory = process.mmap(nr * PAGE_SIZE);
        if huge {
            process.madvise_hugepage(memory, nr * PAGE_SIZE);
        }
        let seed = name.len();
        let bytes = (0..nr * PAGE_SIZE).map(|i| (i / PAGE_SIZE * 7 + i % 251 + seed) as u8);
        Ok(Self {
            name,
            process,
            context,
            memory,
            bytes: bytes.collect(),
        })
    }

    fn nr(&self) -> usize {
        self.bytes.len() / PAGE_SIZE
    }

    /// The process writes its pattern.
    fn write(&self) -> Outcome {
        self.process.write(self.memory, &self.bytes).map_err(sys)
    }

    /// The device adds `number` to each byte of `nr` pages from page `first` on.
    fn run(&mut self, device: &Device, first: usize, nr: usize, number: u8) -> Outcome {
        let start = UserAddr::new(self.memory + first * PAGE_SIZE).map_err(errno)?;
        let range = UserRange::new(start, NrPages::new(nr)).map_err(errno)?;
        let run = || self.context.run(device, range, number);
        self.process.run(run).map_err(errno)?;
        for byte in &mut self.bytes[first * PAGE_SIZE..(first + nr) * PAGE_SIZE] {
            *byte = byte.wrapping_add(number);
        }
        Ok(())
    }

    /// A CPU reads page `page`, which must be as it should.
    fn touch(&self, page: usize) -> Outcome {
        let at = page * PAGE_SIZE;
        let mut now = [0; PAGE_SIZE];
        self.process.read(self.memory + at, &mut now).map_err(sys)?;
        match now[..] == self.bytes[at..at + PAGE_SIZE] {
            true => Ok(()),
            false => Err(format!("{}: page {page} is not what it should be", self.name).into()),
        }
    }

    /// How many of its pages are on the device.
    fn on_device(&self) -> usize {
        let pages = (0..self.nr()).map(|i| self.process.mapped(self.memory + i * PAGE_SIZE));
        pages
            .filter(|mapped| matches!(mapped, Mapped::Device(..)))
            .count()
    }
}

/// What the tracepoints have said.
#[derive(Default)]
struct Counts {
    in_: usize,
    out: usize,
    evicted: usize,
    faults: usize,
    splits: usize,
    no_room: usize,
}

impl Counts {
    fn add(&mut self, event: &Event) {
        match event {
            Event::Migrate {
                to_device: true,
                moved,
                ..
            } => self.in_ += moved,
            Event::Migrate { moved, .. } => self.out += moved,
            Event::Evict { moved, .. } => self.evicted += moved,
            Event::Fault { .. } => self.faults += 1,
            Event::Failure { cause, nr, .. } if cause == "no_room" => self.no_room += nr,
            _ => {}
        }
    }
}

/// What is said of a phase when it is over.
struct Narrator {
    begun: Instant,
    phases: Vec<Phase>,
    total: Counts,
    events: Vec<(Instant, Event)>,
    splits: Vec<Instant>,
}

impl Narrator {
    /// Runs a phase, and says what has happened in it.
    fn phase<R>(&mut self, name: &'static str, f: impl FnOnce() -> Outcome<R>) -> Outcome<R> {
        let start = Instant::now();
        let result = f()?;
        let end = Instant::now();
        let events = sim::events();
        let mut counts = Counts::default();
        for (_, event) in &events {
            counts.add(event);
            self.total.add(event);
        }
        self.events.extend(events);
        // Those of the kernel as well, of which the driver knows nothing.
        let splits = sim::splits();
        counts.splits = splits.len();
        self.total.splits += splits.len();
        self.splits.extend(splits);
        self.phases.push(Phase { name, start, end });
        println!(
            "  {name:<34} {:>7} {:>7} {:>7} {:>7} {:>6} {:>9.1}",
            counts.in_,
            counts.out,
            counts.evicted,
            counts.faults,
            counts.splits,
            milliseconds(end - start),
        );
        Ok(result)
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    /// One below `below`.
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// Everybody works at once: the device on pieces of the memory, the CPU on others.
fn at_once(device: &Arc<Device>, clients: Vec<Client>) -> Outcome<Vec<Client>> {
    let threads: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(i, mut client)| {
            let device = device.clone();
            sim::spawn(move || -> Result<Client, String> {
                let mut numbers = Numbers(0x9e37_79b9 + i as u64);
                for _ in 0..10 {
                    let first = numbers.next(client.nr() / 64) * 64;
                    let nr = 64.min(client.nr() - first);
                    let done = client.run(&device, first, nr, 3);
                    done.map_err(|err| err.to_string())?;
                    let page = numbers.next(client.nr());
                    client.touch(page).map_err(|err| err.to_string())?;
                }
                Ok(client)
            })
        })
        .collect();
    let mut clients = Vec::new();
    for thread in threads {
        clients.push(thread.join()?);
    }
    Ok(clients)
}

fn show(path: &Path) -> Outcome {
    println!("A device with {} MiB of memory, and four processes that want 20 MiB of it. Every byte is compared.\n", (VRAM * PAGE_SIZE) >> 20);
    println!(
        "  {:<34} {:>7} {:>7} {:>7} {:>7} {:>6} {:>9}",
        "pages:", "in", "out", "evicted", "faults", "splits", "ms"
    );
    let mut narrator = Narrator {
        begun: Instant::now(),
        phases: Vec::new(),
        total: Counts::default(),
        events: Vec::new(),
        splits: Vec::new(),
    };
    // From now on, changes of page tables are noted.
    sim::changes();
    let device = Arc::new(Device::new(NrPages::new(VRAM)).map_err(errno)?);
    let mut clients = vec![
        Client::new("render", 2 * 512, true)?,
        Client::new("train", 4 * 512, true)?,
        Client::new("browser", 512, false)?,
        Client::new("video", 3 * 512, true)?,
    ];
    let areas: Vec<Area> = clients.iter().map(area).collect();

    narrator.phase("processes write their memory", || {
        clients.iter().try_for_each(Client::write)
    })?;
    narrator.phase("jobs: it moves to the device", || {
        for client in &mut clients[..3] {
            let nr = client.nr();
            client.run(&device, 0, nr, 1)?;
        }
        Ok(())
    })?;
    narrator.phase("CPUs touch it: it comes home", || {
        clients[0].touch(100)?;
        (0..clients[2].nr() / 3).try_for_each(|page| clients[2].touch(page))
    })?;
    narrator.phase("jobs again", || {
        for i in [0, 2] {
            let nr = clients[i].nr();
            clients[i].run(&device, 0, nr, 1)?;
        }
        Ok(())
    })?;
    let child = narrator.phase("a child writes to what is shared", || {
        let parent = &clients[2];
        let process = parent.process.fork();
        let mut child = Client {
            name: "a child",
            context: process.run(Context::new).map_err(errno)?,
            process,
            memory: parent.memory,
            bytes: parent.bytes.clone(),
        };
        for page in child.nr() / 2..child.nr() {
            let at = page * PAGE_SIZE;
            child.bytes[at] ^= 0xff;
            child
                .process
                .write(child.memory + at, &child.bytes[at..=at])
                .map_err(sys)?;
        }
        Ok(child)
    })?;
    narrator.phase("a large folio splits", || {
        let train = &mut clients[1];
        // A page in the middle is given up, and so the folio is mapped page by page. The next that
        // a CPU touches comes home by itself.
        let gap = 512 + 256;
        train
            .process
            .madvise_dontneed(train.memory + gap * PAGE_SIZE, PAGE_SIZE);
        train.bytes[gap * PAGE_SIZE..(gap + 1) * PAGE_SIZE].fill(0);
        (gap - 64..gap).try_for_each(|page| train.touch(page))
    })?;
    narrator.phase("no room: others have to leave", || {
        for i in [3, 1, 0, 3] {
            let nr = clients[i].nr();
            clients[i].run(&device, 0, nr, 1)?;
        }
        Ok(())
    })?;
    let clients = narrator.phase("everybody at once, with CPUs", || at_once(&device, clients))?;
    let on_device: usize = clients.iter().map(Client::on_device).sum();
    let out = device.nr_out();
    narrator.phase("every byte is compared", || {
        let all = clients.iter().chain([&child]);
        let mut all = all.flat_map(|client| (0..client.nr()).map(move |page| (client, page)));
        all.try_for_each(|(client, page)| client.touch(page))
    })?;
    narrator.phase("processes end, the driver goes", || {
        drop((clients, child));
        drop(device);
        Ok(())
    })?;

    let total = &narrator.total;
    println!(
        "  {:<34} {:>7} {:>7} {:>7} {:>7} {:>6} {:>9.1}",
        "all of it:",
        total.in_,
        total.out,
        total.evicted,
        total.faults,
        total.splits,
        milliseconds(narrator.begun.elapsed()),
    );
    println!(
        "\nBefore the comparison {on_device} pages of processes were on the device, which had {out} pages in use; {} times there was no \
         room. No byte was lost.",
        total.no_room
    );
    let timeline = Timeline {
        vram: VRAM,
        areas,
        phases: narrator.phases,
        changes: sim::changes(),
        events: narrator.events,
        splits: narrator.splits,
    };
    let written = timeline.write(path);
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    println!("Who had which page when: {}", path.display());
    Ok(())
}

/// What the picture is to show of a process.
fn area(client: &Client) -> Area {
    Area {
        name: client.name,
        process: client.process.id(),
        addr: client.memory,
        nr: client.nr(),
    }
}

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: demo FILE.svg");
        return ExitCode::from(2);
    };
    // What is reported, or left over when the machine is switched off, ends the program as well.
    match sim::run(|| show(Path::new(&path))) {
        Ok(()) => {
            // It would have ended otherwise.
            println!("Nothing is left over.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("demo: error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_well_and_draws_a_picture() {
        let path = std::env::temp_dir().join(format!("dpmem-demo-{}.svg", std::process::id()));
        let shown = sim::run(|| show(&path).map_err(|err| err.to_string()));
        let picture = std::fs::read_to_string(&path);
        let _ = std::fs::remove_file(&path);
        assert_eq!(shown, Ok(()));
        let picture = picture.unwrap();
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
        // Each process has its colour in the device's memory.
        for colour in &timeline::COLOURS[..4] {
            assert!(picture.matches(colour).count() > 4, "{colour}");
        }
    }
}
