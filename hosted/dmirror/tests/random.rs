// SPDX-License-Identifier: GPL-2.0

//! Processes that do anything in any order, with two devices, and a model of what they must see:
//! each page of a process is filled with one number, is all zeroes, has failed, or is not there.

mod support;

use bindings::sim::{run, Errno, Mapped, Process, HUGE_PAGE_SIZE, PAGE_SIZE};
use proptest::prelude::*;
use support::{defect, load, Command, Device};

/// How many pages of a process are used: two huge pages, and some.
const NR: usize = 2 * HUGE_PAGE_SIZE / PAGE_SIZE + 16;

const EIO: Errno = Errno(5);

/// What a process does next. Pages are counted from the beginning of its memory, and cut off at its
/// end.
#[derive(Clone, Debug)]
enum Step {
    /// It writes a number to the pages.
    Write(Pages, u8),
    /// A device does.
    DeviceWrite(Pages, u8),
    /// It reads the pages.
    Read(Pages),
    /// A device does.
    DeviceRead(Pages),
    ToDevice(Pages),
    ToRam(Pages),
    /// The same, but large folios have no place.
    ToDeviceSmall(Pages),
    ToRamSmall(Pages),
    Exclusive(Pages),
    Evict,
    /// The device fails the next time that it copies.
    Defect,
    DontNeed(Pages),
    Unmap(Pages),
    Protect(Pages, bool),
    /// The memory of the first of the pages fails.
    Poison(Pages),
    /// The first huge page moves to another address, by this many pages more than a multiple.
    Move(usize),
    /// It has a child, and goes on as the child or as itself.
    Fork(bool),
    /// One of those who wait goes on, and it waits.
    Switch(usize),
    /// It ends, if somebody else is left.
    Exit,
}

#[derive(Clone, Copy, Debug)]
struct Pages {
    first: usize,
    nr: usize,
    /// Which device, if one has to do with it.
    device: usize,
}

fn pages() -> impl Strategy<Value = Pages> {
    let nr = prop_oneof![
        4 => 1..20usize,
        1 => Just(HUGE_PAGE_SIZE / PAGE_SIZE),
        1 => Just(NR),
    ];
    let first = prop_oneof![
        1 => Just(0),
        1 => Just(HUGE_PAGE_SIZE / PAGE_SIZE),
        3 => 0..NR,
    ];
    let any = (first, nr, 0..2usize);
    any.prop_map(|(first, nr, device)| Pages {
        first,
        nr: nr.min(NR - first),
        device,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (pages(), any::<u8>()).prop_map(|(pages, byte)| Step::Write(pages, byte)),
        2 => (pages(), any::<u8>()).prop_map(|(pages, byte)| Step::DeviceWrite(pages, byte)),
        3 => pages().prop_map(Step::Read),
        2 => pages().prop_map(Step::DeviceRead),
        6 => pages().prop_map(Step::ToDevice),
        3 => pages().prop_map(Step::ToRam),
        1 => pages().prop_map(Step::ToDeviceSmall),
        1 => pages().prop_map(Step::ToRamSmall),
        1 => pages().prop_map(Step::Exclusive),
        1 => Just(Step::Evict),
        1 => Just(Step::Defect),
        1 => pages().prop_map(Step::DontNeed),
        1 => pages().prop_map(Step::Unmap),
        2 => (pages(), any::<bool>()).prop_map(|(pages, write)| Step::Protect(pages, write)),
        1 => pages().prop_map(Step::Poison),
        1 => (0..2usize).prop_map(Step::Move),
        2 => any::<bool>().prop_map(Step::Fork),
        2 => any::<prop::sample::Index>().prop_map(|index| Step::Switch(index.index(1 << 20))),
        1 => Just(Step::Exit),
    ]
}

/// What a page of a process must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    /// Where it is, if it is mapped.
    addr: Option<usize>,
    byte: u8,
    write: bool,
    /// Its memory has failed.
    bad: bool,
}

/// A process, and what it must see.
struct Client {
    process: Process,
    pages: Vec<Page>,
}

impl Client {
    fn new() -> Self {
        let process = Process::new();
        let memory = process.mmap(NR * PAGE_SIZE);
        process.madvise_hugepage(memory, NR * PAGE_SIZE);
        let pages = (0..NR).map(|page| Page {
            addr: Some(memory + page * PAGE_SIZE),
            byte: 0,
            write: true,
            bad: false,
        });
        Self {
            process,
            pages: pages.collect(),
        }
    }

    fn fork(&self) -> Self {
        Self {
            process: self.process.fork(),
            pages: self.pages.clone(),
        }
    }

    /// The runs of pages among `pages` that are mapped one behind the other, and for which `wants`
    /// says so: which is the first, and how many there are.
    fn runs(&self, pages: Pages, wants: impl Fn(&Page) -> bool) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for i in pages.first..pages.first + pages.nr {
            let page = &self.pages[i];
            let Some(addr) = page.addr.filter(|_| wants(page)) else {
                continue;
            };
            match runs.last_mut() {
                Some((first, nr))
                    if *first + *nr == i
                        && self.pages[i - 1].addr == Some(addr.wrapping_sub(PAGE_SIZE)) =>
                {
                    *nr += 1;
                }
                _ => runs.push((i, 1)),
            }
        }
        runs
    }

    fn addr(&self, page: usize) -> usize {
        self.pages[page].addr.expect("runs are mapped")
    }

    /// The pages are what they must be.
    fn check(&self, pages: Pages) {
        for i in pages.first..pages.first + pages.nr {
            let page = self.pages[i];
            let Some(addr) = page.addr else { continue };
            let mut bytes = [0; PAGE_SIZE];
            if page.bad {
                assert_eq!(self.process.read(addr, &mut bytes), Err(EIO));
                continue;
            }
            // A device that fails once may have been in the way.
            let mut read = || self.process.read(addr, &mut bytes);
            read().or_else(|_| read()).unwrap();
            assert!(
                bytes == [page.byte; PAGE_SIZE],
                "page {i} is {:#x}, and should be {:#x}",
                bytes[0],
                page.byte
            );
        }
    }
}

const ALL: Pages = Pages {
    first: 0,
    nr: NR,
    device: 0,
};

/// The names of the devices.
const DEVICES: [&str; 2] = ["hmm_dmirror0", "hmm_dmirror1"];

/// Calls `f` with a device, which is opened for it: what a file has seen ends with it.
fn with_device<R>(client: &Client, device: usize, f: impl FnOnce(&Device<'_>) -> R) -> R {
    f(&Device::open_as(&client.process, DEVICES[device]).unwrap())
}

fn command(client: &Client, device: usize, command: Command, addr: usize, nr: usize) {
    // That something could not be done is no error here: it is what the process sees that matters.
    with_device(client, device, |device| {
        let _ = device.call(command, addr, nr);
    });
}

fn all_steps(steps: &[Step]) {
    let _driver = load().unwrap();
    let mut clients = vec![Client::new()];
    for step in steps {
        let client = clients.last_mut().expect("there is always one");
        match *step {
            Step::Write(pages, byte) => {
                for (first, nr) in client.runs(pages, |page| page.write && !page.bad) {
                    let write = || {
                        client
                            .process
                            .write(client.addr(first), &vec![byte; nr * PAGE_SIZE])
                    };
                    write().or_else(|_| write()).unwrap();
                    client.pages[first..first + nr]
                        .iter_mut()
                        .for_each(|page| page.byte = byte);
                }
            }
            Step::DeviceWrite(pages, byte) => {
                for (first, nr) in client.runs(pages, |page| page.write && !page.bad) {
                    let bytes = vec![byte; nr * PAGE_SIZE];
                    with_device(client, pages.device, |device| {
                        let write = || device.write(client.addr(first), &bytes);
                        write().or_else(|_| write()).unwrap();
                    });
                    client.pages[first..first + nr]
                        .iter_mut()
                        .for_each(|page| page.byte = byte);
                }
            }
            Step::Read(pages) => client.check(pages),
            Step::DeviceRead(pages) => {
                for (first, nr) in client.runs(pages, |page| !page.bad) {
                    let bytes = with_device(client, pages.device, |device| {
                        let read = || device.read(client.addr(first), nr);
                        read().or_else(|_| read()).unwrap()
                    });
                    for (page, bytes) in client.pages[first..].iter().zip(bytes.chunks(PAGE_SIZE)) {
                        assert!(bytes.iter().all(|byte| *byte == page.byte));
                    }
                }
            }
            Step::ToDevice(pages) | Step::ToDeviceSmall(pages) => {
                for (first, nr) in client.runs(pages, |_| true) {
                    with_device(client, pages.device, |device| {
                        if matches!(step, Step::ToDeviceSmall(_)) {
                            device.break_next(defect::NO_LARGE).unwrap();
                        }
                        let _ = device.call(Command::MigrateToDev, client.addr(first), nr);
                    });
                }
            }
            Step::ToRam(pages) | Step::ToRamSmall(pages) => {
                for (first, nr) in client.runs(pages, |_| true) {
                    with_device(client, pages.device, |device| {
                        if matches!(step, Step::ToRamSmall(_)) {
                            device.break_next(defect::NO_LARGE).unwrap();
                        }
                        let _ = device.call(Command::MigrateToSys, client.addr(first), nr);
                    });
                }
            }
            Step::Exclusive(pages) => {
                for (first, nr) in client.runs(pages, |_| true) {
                    command(
                        client,
                        pages.device,
                        Command::Exclusive,
                        client.addr(first),
                        nr,
                    );
                }
            }
            Step::Evict => {
                for device in 0..DEVICES.len() {
                    command(client, device, Command::Evict, 0, 1);
                }
            }
            Step::Defect => {
                with_device(client, 0, |device| {
                    device.break_next(defect::BREAK_DOWN).unwrap()
                });
            }
            Step::DontNeed(pages) => {
                for (first, nr) in client.runs(pages, |_| true) {
                    client
                        .process
                        .madvise_dontneed(client.addr(first), nr * PAGE_SIZE);
                    for page in &mut client.pages[first..first + nr] {
                        (page.byte, page.bad) = (0, false);
                    }
                }
            }
            Step::Unmap(pages) => {
                for (first, nr) in client.runs(pages, |_| true) {
                    client.process.munmap(client.addr(first), nr * PAGE_SIZE);
                    for page in &mut client.pages[first..first + nr] {
                        assert_eq!(client.process.mapped(page.addr.unwrap()), Mapped::None);
                        page.addr = None;
                    }
                }
            }
            Step::Poison(pages) => {
                let i = pages.first;
                let Page {
                    addr, byte, bad, ..
                } = client.pages[i];
                let Some(addr) = addr else { continue };
                let now = client.process.poison(addr).is_ok();
                assert!(!(now && bad), "it fails twice");
                assert_eq!(now || bad, client.process.mapped(addr) == Mapped::Poisoned);
                // Whoever has the same page loses it as well.
                for client in &mut clients {
                    for (n, page) in client.pages.iter_mut().enumerate() {
                        let Some(addr) = page.addr else { continue };
                        if client.process.mapped(addr) == Mapped::Poisoned && !page.bad {
                            assert!(now && n == i && page.byte == byte, "page {n}");
                            page.bad = true;
                        }
                    }
                }
            }
            Step::Protect(pages, write) => {
                for (first, nr) in client.runs(pages, |_| true) {
                    client
                        .process
                        .mprotect(client.addr(first), nr * PAGE_SIZE, write);
                    client.pages[first..first + nr]
                        .iter_mut()
                        .for_each(|page| page.write = write);
                }
            }
            Step::Move(by) => {
                let pages = Pages {
                    nr: HUGE_PAGE_SIZE / PAGE_SIZE,
                    ..ALL
                };
                let room = client.process.mmap(2 * HUGE_PAGE_SIZE);
                client.process.munmap(room, 2 * HUGE_PAGE_SIZE);
                for (first, nr) in client.runs(pages, |_| true) {
                    let to = room + (first + by) * PAGE_SIZE;
                    client
                        .process
                        .mremap(client.addr(first), nr * PAGE_SIZE, to);
                    for (i, page) in client.pages[first..first + nr].iter_mut().enumerate() {
                        page.addr = Some(to + i * PAGE_SIZE);
                    }
                }
            }
            Step::Fork(child_first) => {
                let child = client.fork();
                let last = clients.len();
                clients.push(child);
                if !child_first {
                    clients.swap(last - 1, last);
                }
            }
            Step::Switch(which) => {
                let last = clients.len() - 1;
                clients.swap(which % (last + 1), last);
            }
            Step::Exit if clients.len() > 1 => {
                clients.pop();
            }
            Step::Exit => {}
        }
        if let Some(client) = clients.last() {
            client.check(Pages {
                first: 7,
                nr: 1,
                device: 0,
            });
        }
    }
    for client in &clients {
        client.check(ALL);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        max_shrink_iters: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_processes_see(steps in prop::collection::vec(step(), 1..24)) {
        run(|| all_steps(&steps));
    }
}
