// SPDX-License-Identifier: GPL-2.0

//! Walks and scripts of `dpmem-ops`: as tests, and for a comparison with what `hosted/walk` says on
//! a simulated kernel.

use std::{
    fs,
    io::{
        Read as _,
        Write as _, //
    },
    path::Path,
};

use anyhow::{
    anyhow,
    bail,
    ensure,
    Context as _,
    Error,
    Result, //
};
use dpmem_ops::{
    walk,
    Play,
    Script,
    Setup,
    Step,
    Walker,
    Watch,
    Who,
    World,
    DEVICE_PAGES,
    MEMORY,
    PAGE_SIZE,
    ROOM,
    SEEDS, //
};
use os_pipe::{
    PipeReader,
    PipeWriter, //
};

use crate::{
    device::Device,
    mapping::page_size,
    native::{
        map,
        Native, //
    },
    process::Child,
    scenarios::DEVICE_SIZE, //
};

/// Plays all that is compared, and says what is seen; false if something is not as a script expects
/// it.
pub(crate) fn all(device: &Path, setup: Setup) -> Result<bool> {
    let khugepaged = "/sys/kernel/mm/transparent_hugepage/khugepaged";
    // Nobody else makes huge pages of small ones meanwhile.
    for name in ["max_ptes_none", "max_ptes_shared", "max_ptes_swap"] {
        fs::write(format!("{khugepaged}/{name}"), "0")
            .with_context(|| format!("writing {name}"))?;
    }
    fs::write(format!("{khugepaged}/scan_sleep_millisecs"), "4000000")
        .context("writing scan_sleep_millisecs")?;
    let walk = |seed: u64| Ok((seed.to_string(), Play::walk(seed).map_err(Error::msg)?));
    let script = |script: Script| Ok((script.name.to_owned(), script.play(DEVICE_PAGES)));
    let walks = SEEDS.filter(|_| setup == Setup::Usual);
    let plays = walks.map(walk).chain(Script::of(setup).map(script));
    let mut good = true;
    for (name, play) in plays.collect::<Result<Vec<_>>>()? {
        forget(device).context("before a play")?;
        let mut say = |line: &str| println!("walk {line}");
        if let Err(err) = run(device, &name, &play, Some(&mut say)) {
            println!("# {name}: {err:#}");
            good = false;
        }
    }
    Ok(good)
}

/// Has both devices forget what was done with them before: whether their memory is registered, and
/// what is to go wrong with it. A simulated machine begins anew for each play.
fn forget(path: &Path) -> Result<()> {
    for device in [Device::open(path)?, Device::open_other(path)?] {
        // What is to go wrong once goes with the memory.
        device.release()?;
    }
    Ok(())
}

/// Plays `script`: a scenario like the others.
pub(crate) fn scenario(device: &Path, script: Script) -> Result<()> {
    // One that ended early is not the next one's affair.
    forget(device)?;
    run(
        device,
        script.name,
        &script.play(DEVICE_SIZE / page_size()),
        None,
    )
}

/// Plays in a process of its own, whose memory is as if it had just begun.
fn run(device: &Path, name: &str, play: &Play, watch: Watch<'_>) -> Result<()> {
    ensure!(page_size() == PAGE_SIZE, "pages are of another size");
    Child::run(|| {
        let memory = play.memory();
        map(MEMORY, memory.huge, memory.nr)?;
        let mut family = Family {
            parent: Walker::new(Native::new(device)?, play, MEMORY, ROOM),
            play,
            child: None,
            trouble: None,
        };
        walk(name, play, &mut family, watch).map_err(|err| anyhow!(err))?;
        match family.trouble {
            Some(trouble) => Err(trouble),
            None => Ok(()),
        }
    })?
    .wait()
}

/// Instead of a step: the child is to say what it sees.
const STATE: u32 = u32::MAX;

/// The child, which does what it is told.
struct Running {
    child: Child,
    orders: PipeWriter,
    answers: PipeReader,
}

impl Running {
    /// Has the child take a step, or say what it sees.
    fn order(&mut self, order: u32) -> Result<String> {
        self.orders.write_all(&order.to_ne_bytes())?;
        self.answer()
    }

    /// What the child says.
    fn answer(&mut self) -> Result<String> {
        let mut len = [0; size_of::<u32>()];
        self.answers.read_exact(&mut len)?;
        let mut answer = vec![0; u32::from_ne_bytes(len) as usize];
        self.answers.read_exact(&mut answer)?;
        Ok(String::from_utf8(answer)?)
    }
}

/// Says something to the parent.
fn say(to: &mut PipeWriter, said: &str) -> Result<()> {
    to.write_all(&u32::try_from(said.len())?.to_ne_bytes())?;
    to.write_all(said.as_bytes())?;
    Ok(())
}

/// This process, and its child, if it has one.
struct Family<'a> {
    parent: Walker<Native>,
    play: &'a Play,
    child: Option<Running>,
    trouble: Option<anyhow::Error>,
}

impl Family<'_> {
    fn order(&mut self, order: u32) -> String {
        let said = match &mut self.child {
            Some(child) => child.order(order),
            None => Err(anyhow!("there is no child")),
        };
        self.note(said.context("the child"))
    }

    fn note(&mut self, said: Result<String>) -> String {
        said.unwrap_or_else(|err| {
            let said = format!("{err:#}");
            self.trouble.get_or_insert(err);
            said
        })
    }

    fn fork(&mut self) -> Result<()> {
        let (mut to, orders) = os_pipe::pipe()?;
        let (answers, mut from) = os_pipe::pipe()?;
        let mut ends = Some((orders, answers));
        let child = Child::run(|| {
            ends.take();
            let process = self.parent.process.child()?;
            let mut walker = self.parent.fork(process);
            // What the parent has open is its own from now on.
            say(&mut from, "")?;
            let mut order = [0; size_of::<u32>()];
            // Until the parent closes its end.
            while to.read_exact(&mut order).is_ok() {
                let order = u32::from_ne_bytes(order);
                let said = match self.play.step(order as usize) {
                    Some(step) => walker.act(step),
                    None if order == STATE => walker.state(),
                    None => bail!("there is no step {order}"),
                };
                say(&mut from, &said)?;
            }
            Ok(())
        })?;
        let (orders, answers) = ends.take().context("the ends are gone")?;
        let mut running = Running {
            child,
            orders,
            answers,
        };
        running.answer()?;
        self.child = Some(running);
        Ok(())
    }
}

impl World for Family<'_> {
    fn act(&mut self, number: usize, step: Step) -> String {
        match step.who {
            Who::Parent => self.parent.act(step),
            Who::Child => self.order(number as u32),
        }
    }

    fn state(&mut self, who: Who) -> String {
        match who {
            Who::Parent => self.parent.state(),
            Who::Child => self.order(STATE),
        }
    }

    fn fork(&mut self) {
        let forked = Family::fork(self).map(|()| String::new());
        self.note(forked);
    }

    fn exit(&mut self) {
        let Some(Running { child, orders, .. }) = self.child.take() else {
            return;
        };
        drop(orders);
        let ended = child.wait().map(|()| String::new());
        self.note(ended);
    }
}
