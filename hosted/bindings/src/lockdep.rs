// SPDX-License-Identifier: GPL-2.0

//! The order of locks: which class is taken while which others are held. When two are taken in both
//! orders, or in a longer circle, two threads may wait for each other some day, whether they did
//! now or not.
//!
//! Real: mutexes, spinlocks, the mmap lock, and what lockdep knows of memory management besides: an
//! allocation that may reclaim memory calls notifiers, and an access to user space takes the mmap
//! lock, each time, and not only when it has to. Not simulated: the locks of folios (lockdep has
//! none of them either), readers, interrupts, work items, annotations.

use std::{
    backtrace::Backtrace,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    host::this_thread,
    machine::{with, Locked},
    report::report,
};

/// What all locks have in common that are made in one place: the address of its `lock_class_key`,
/// or one of these.
pub(crate) type Class = usize;

/// The mmap lock.
pub(crate) const MMAP_LOCK: Class = 1;
/// An allocation may have to reclaim memory first.
pub(crate) const FS_RECLAIM: Class = 2;
/// Notifiers are being called.
pub(crate) const MMU_NOTIFIER: Class = 3;

/// The locks of drm_pagemap, which C makes.
pub(crate) const DRM_PAGEMAP_LOOKUP: Class = 4;
pub(crate) const DRM_PAGEMAP_CACHE: Class = 5;
pub(crate) const DRM_PAGEMAP_SHRINKER: Class = 6;

/// The lock of all misc devices.
pub(crate) const MISC: Class = 7;

/// What is known on a machine.
pub(crate) struct Orders {
    names: BTreeMap<Class, String>,
    /// Which was taken while which other was held, and where that was first so.
    after: BTreeMap<Class, BTreeMap<Class, Backtrace>>,
}

impl Default for Orders {
    fn default() -> Self {
        let names = [
            (MMAP_LOCK, "mmap_lock"),
            (FS_RECLAIM, "fs_reclaim"),
            (MMU_NOTIFIER, "mmu_notifier_invalidate_range_start"),
            (DRM_PAGEMAP_LOOKUP, "cache->lookup_mutex"),
            (DRM_PAGEMAP_CACHE, "cache->lock"),
            (DRM_PAGEMAP_SHRINKER, "shrinker->lock"),
            (MISC, "misc_mtx"),
        ];
        let mut orders = Self {
            names: names.map(|(class, name)| (class, name.to_owned())).into(),
            after: BTreeMap::new(),
        };
        // Whoever reclaims memory takes it away from processes, and their devices.
        orders.add(FS_RECLAIM, MMU_NOTIFIER);
        orders
    }
}

impl Orders {
    fn add(&mut self, first: Class, second: Class) {
        let after = self.after.entry(first).or_default();
        after.entry(second).or_insert_with(Backtrace::force_capture);
    }

    fn name(&self, class: Class) -> &str {
        self.names.get(&class).map_or("a lock", String::as_str)
    }

    /// How `to` was once taken after `from`: all classes in between, and both.
    fn path(&self, from: Class, to: Class) -> Option<Vec<Class>> {
        let mut seen = BTreeSet::from([from]);
        let mut paths = vec![vec![from]];
        while let Some(path) = paths.pop() {
            let last = *path.last()?;
            if last == to {
                return Some(path);
            }
            for next in self.after.get(&last).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(*next) {
                    let mut path = path.clone();
                    path.push(*next);
                    paths.push(path);
                }
            }
        }
        None
    }
}

/// Remembers what the locks of `class` are called.
pub(crate) fn name(class: Class, name: &str) {
    with(|m| {
        m.orders.names.insert(class, name.to_owned());
    });
}

/// What is wrong with taking a lock of `class` now, if anything is.
fn check(m: &mut Locked<'_>, class: Class) -> Option<String> {
    for held in this_thread(|this| this.held.borrow().clone()) {
        let orders = &mut m.orders;
        if held == class {
            let name = orders.name(class);
            return Some(format!("two locks of the class `{name}` are held at once"));
        }
        if orders
            .after
            .get(&held)
            .is_some_and(|after| after.contains_key(&class))
        {
            continue;
        }
        let circle = orders.path(class, held);
        let wrong = circle.map(|circle| {
            let names: Vec<&str> = circle.iter().map(|class| orders.name(*class)).collect();
            let pairs = circle.windows(2).map(|pair| {
                let place = orders
                    .after
                    .get(&pair[0])
                    .and_then(|after| after.get(&pair[1]));
                let place = place.map_or(String::new(), Backtrace::to_string);
                let (first, second) = (orders.name(pair[0]), orders.name(pair[1]));
                format!("\n`{second}` was first taken after `{first}` here:\n{place}")
            });
            format!(
                "the order of locks is inverted: `{}` is taken while `{}` is held, and it was {}{}",
                orders.name(class),
                orders.name(held),
                names.join(" before "),
                pairs.collect::<String>()
            )
        });
        orders.add(held, class);
        if wrong.is_some() {
            return wrong;
        }
    }
    None
}

/// A lock of `class` is about to be taken, which may take a while.
pub(crate) fn acquire(class: Class) {
    if let Some(wrong) = with(|m| check(m, class)) {
        report(wrong);
    }
    acquired(class);
}

/// A lock of `class` was taken without waiting, so that the order does not matter.
pub(crate) fn acquired(class: Class) {
    this_thread(|this| this.held.borrow_mut().push(class));
}

/// A lock of `class` is given up.
pub(crate) fn release(class: Class) {
    this_thread(|this| {
        let mut held = this.held.borrow_mut();
        if let Some(at) = held.iter().rposition(|other| *other == class) {
            held.remove(at);
        }
    });
}

/// A lock of `class` might be taken here.
pub(crate) fn might_acquire(class: Class) {
    acquire(class);
    release(class);
}

/// The thread goes, or its machine does: what it still holds, it holds for ever.
pub(crate) fn end() -> Option<String> {
    let held = this_thread(|this| this.held.take());
    let last = held.last()?;
    Some(with(|m| {
        format!("a thread ends that holds `{}`", m.orders.name(*last))
    }))
}
