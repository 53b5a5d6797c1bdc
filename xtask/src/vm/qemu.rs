// SPDX-License-Identifier: GPL-2.0

//! The machine: QEMU's command line.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::accel::Accel;
use crate::arch::Arch;
use crate::cli::{MachineOptions, Profile};
use crate::tools::Tools;

/// Memory that is kept from the kernel, for the devices of test_hmm that have memory which the CPU
/// can address: two of them, with 256 MiB each.
const RESERVED_MIB: u64 = 512;
/// The size of one device's part.
const DEVICE_BYTES: u64 = 256 << 20;
/// Usual memory.
const PLAIN_MIB: u64 = 4096;
/// Memory for a kernel whose KASAN takes an eighth of it.
const DEBUG_MIB: u64 = 6144;
/// Where x86's memory continues above the hole for devices.
const X86_HIGH: u64 = 1 << 32;
/// Where the memory of the machine `virt` begins.
const VIRT_BASE: u64 = 1 << 30;

/// A machine to boot.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    arch: Arch,
    image: PathBuf,
    initrd: PathBuf,
    memory: u64,
    cpu: String,
    cpus: u32,
    arguments: Vec<String>,
    first_devices: Vec<String>,
    devices: Vec<String>,
    interactive: bool,
    counting: bool,
    emulated: bool,
    two_nodes: bool,
    accel: Accel,
}

impl Machine {
    /// A machine of the lab.
    pub(crate) fn new(
        arch: Arch,
        profile: Profile,
        image: PathBuf,
        initrd: PathBuf,
        options: &MachineOptions,
    ) -> Self {
        let usual = match profile {
            Profile::Plain => PLAIN_MIB,
            Profile::Debug => DEBUG_MIB,
        };
        let memory = options.mem.map_or(usual, |size| size.0);
        let mut arguments = vec![format!("console={}", arch.console()), "panic=-1".to_owned()];
        match arch {
            Arch::X86_64 => arguments.push(format!("memmap={RESERVED_MIB}M${X86_HIGH:#x}")),
            Arch::Arm64 => arguments.push(format!("mem={memory}M")),
        }
        if profile == Profile::Debug {
            arguments.push("page_owner=on".to_owned());
        }
        arguments.extend(options.append.clone());
        Self {
            arch,
            image,
            initrd,
            memory,
            cpus: options.cpus.unwrap_or(2),
            cpu: options.cpu.clone().unwrap_or_else(|| "max".to_owned()),
            arguments,
            first_devices: options.device.clone(),
            devices: Vec::new(),
            interactive: false,
            counting: false,
            emulated: options.emulated,
            two_nodes: options.two_nodes,
            accel: Accel::Tcg,
        }
    }

    /// Adds a kernel argument.
    pub(crate) fn argument(&mut self, argument: &str) {
        self.arguments.push(argument.to_owned());
    }

    /// Adds a device, as QEMU's command line names it.
    pub(crate) fn device(&mut self, device: &str) {
        self.devices.push(device.to_owned());
    }

    /// Lets its time be the number of instructions that its only CPU has executed, and gives it two
    /// nodes.
    pub(crate) fn count_instructions(&mut self) {
        self.counting = true;
        self.two_nodes = true;
        self.cpus = 1;
    }

    /// Whether it may be run by a processor of `host`: QEMU itself counts instructions, and has
    /// what the host's does not.
    pub(super) fn may_be_real(&self, host: Arch) -> bool {
        self.arch == host && !self.counting && !self.emulated
    }

    /// With this accelerator.
    pub(super) fn with_accel(mut self, accel: Accel) -> Self {
        self.accel = accel;
        self
    }

    /// With the terminal as its console.
    pub(crate) fn interactive(mut self) -> Self {
        self.interactive = true;
        self
    }

    /// Without a terminal.
    pub(super) fn headless(mut self) -> Self {
        self.interactive = false;
        self
    }

    /// test_hmm's parameters for the reserved memory.
    pub(crate) fn coherent_memory(&self) -> Vec<String> {
        let base = match self.arch {
            Arch::X86_64 => X86_HIGH,
            Arch::Arm64 => VIRT_BASE + (self.memory << 20),
        };
        vec![
            format!("spm_addr_dev0={base:#x}"),
            format!("spm_addr_dev1={:#x}", base + DEVICE_BYTES),
        ]
    }

    /// How it is started.
    pub(crate) fn command(&self, tools: &Tools) -> Result<Command> {
        let mut job = tools.job();
        let mut see = |path: &Path, inside: &str| -> Result<PathBuf> {
            let folder = path.parent().context("a file without a folder")?;
            let name = path.file_name().context("a file without a name")?;
            Ok(job.bind(folder, inside).join(name))
        };
        let image = see(&self.image, "/boot/image")?;
        let initrd = see(&self.initrd, "/boot/initrd")?;
        let mut command = job.command(self.arch.qemu());
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ]);
        command.args(["-smp", &self.cpus.to_string()]);
        if self.counting {
            command.args(["-accel", "tcg,thread=single"]);
            command.args(["-icount", "shift=0,sleep=off"]);
        } else {
            command.args(["-accel", self.accel.argument()]);
        }
        if self.two_nodes {
            let half = (self.memory + RESERVED_MIB) / 2;
            // All CPUs are in the first, so that it makes no difference how many there are.
            let all = format!(",cpus=0-{}", self.cpus - 1);
            for (node, cpus) in [(0, all.as_str()), (1, "")] {
                command.arg("-object");
                command.arg(format!("memory-backend-ram,id=node{node},size={half}M"));
                command.arg("-numa");
                command.arg(format!("node,memdev=node{node}{cpus}"));
            }
        }
        match self.arch {
            // Little memory below 4 GiB, so that there is some above.
            Arch::X86_64 => command.args(["-M", "q35,max-ram-below-4g=1G"]),
            Arch::Arm64 => command.args(["-M", "virt"]),
        };
        for device in &self.first_devices {
            command.args(["-device", device]);
        }
        command.args([
            "-cpu",
            &self.cpu,
            "-m",
            &format!("{}M", self.memory + RESERVED_MIB),
        ]);
        command.arg("-kernel").arg(image).arg("-initrd").arg(initrd);
        command.args(["-append", &self.arguments.join(" ")]);
        if self.interactive {
            command.args([
                "-chardev",
                "stdio,id=console,mux=on,signal=off",
                "-serial",
                "chardev:console",
            ]);
            command.args(["-mon", "chardev=console"]);
        } else {
            command.args([
                "-chardev",
                "file,id=console,path=/dev/stderr",
                "-serial",
                "chardev:console",
            ]);
            command.args([
                "-chardev",
                "file,id=results,path=/dev/stdout",
                "-device",
                "virtio-serial-pci,max_ports=1",
            ]);
            command.args(["-device", "virtconsole,chardev=results"]);
        }
        for device in &self.devices {
            command.args(["-device", device]);
        }
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That one which counts was tried with KVM had it seem that KVM works here: it was QEMU.
    #[test]
    fn instructions_are_counted_by_qemu() {
        let options = MachineOptions::default();
        let paths = (PathBuf::new(), PathBuf::new());
        let mut machine = Machine::new(Arch::X86_64, Profile::Plain, paths.0, paths.1, &options);
        assert!(machine.may_be_real(Arch::X86_64));
        assert!(!machine.may_be_real(Arch::Arm64));
        machine.count_instructions();
        assert!(!machine.may_be_real(Arch::X86_64));
    }

    #[test]
    fn a_processor_that_nobody_has() {
        let options = MachineOptions {
            emulated: true,
            ..MachineOptions::default()
        };
        let paths = (PathBuf::new(), PathBuf::new());
        let machine = Machine::new(Arch::X86_64, Profile::Plain, paths.0, paths.1, &options);
        assert!(!machine.may_be_real(Arch::X86_64));
    }
}
