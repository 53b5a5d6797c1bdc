// SPDX-License-Identifier: GPL-2.0

//! Which pagemaps are kept for later, and which share an owner: what is in `drm_pagemap_util.c`.
//!
//! Real: caches, when a pagemap is idle and when it is in use again, the locks, shrinkers, owners.
//! Memory is short when a test says so: see [`shrink`]. Not simulated: shrinkers of anybody else,
//! signals.

use std::ptr::null_mut;

use ffi::*;

use super::{drm_dev_enter, drm_dev_exit, drm_device, pagemap::*, types::*};
use crate::{
    alloc::{free_object, might_alloc, new_object},
    buddy::{list_add_tail, list_head, INIT_LIST_HEAD},
    device_private::is_owner,
    devices::devm_add_action_or_reset,
    errno::*,
    lockdep::{self, DRM_PAGEMAP_CACHE, DRM_PAGEMAP_LOOKUP, DRM_PAGEMAP_SHRINKER, FS_RECLAIM},
    locks::*,
    machine::{might_sleep, with, Locked},
    process::err_ptr,
    report::{fatal, report},
};

#[repr(C)]
pub struct drm_pagemap_cache {
    lookup_mutex: mutex,
    lock: spinlock_t,
    shrinker: *mut drm_pagemap_shrinker,
    /// Without a reference.
    dpagemap: *mut drm_pagemap,
    /// The pagemap is idle, and the shrinker has it.
    queued: completion,
}

#[repr(C)]
pub struct drm_pagemap_shrinker {
    drm: *mut drm_device,
    lock: spinlock_t,
    dpagemaps: list_head,
    num_dpagemaps: usize,
}

unsafe fn list_empty(head: *mut list_head) -> bool {
    unsafe { (*head).next == head }
}

unsafe fn list_del_init(entry: *mut list_head) {
    unsafe {
        let list_head { next, prev } = *entry;
        (*prev).next = next;
        (*next).prev = prev;
        INIT_LIST_HEAD(entry);
    }
}

/// What a link is in.
unsafe fn pagemap_of(link: *mut list_head) -> *mut drm_pagemap {
    let offset = std::mem::offset_of!(drm_pagemap, shrink_link);
    unsafe { link.byte_sub(offset) }.cast()
}

unsafe fn peer_of(link: *mut list_head) -> *mut drm_pagemap_peer {
    let offset = std::mem::offset_of!(drm_pagemap_peer, link);
    unsafe { link.byte_sub(offset) }.cast()
}

/// Whether the cache is still there.
fn check(m: &mut Locked<'_>, cache: *mut drm_pagemap_cache, what: &str) {
    if !m.drm.caches.contains(&(cache as usize)) {
        fatal(format!("`{what}()` of a cache that is gone"));
    }
}

/// The pagemap of a cache, whose lock is held. One that lost its last reference after the device
/// was unplugged is destroyed, and C looks at it nevertheless.
unsafe fn cached(cache: *mut drm_pagemap_cache) -> *mut drm_pagemap {
    let dpagemap = unsafe { (*cache).dpagemap };
    if dpagemap.is_null() || with(|m| m.drm.lent(dpagemap as usize, 1)).is_some() {
        return dpagemap;
    }
    report("a cache has a pagemap that was destroyed: the last reference went after the device");
    unsafe { (*cache).dpagemap = null_mut() };
    null_mut()
}

/// Takes an idle pagemap from its shrinker, if that has it still.
unsafe fn cancel(dpagemap: *mut drm_pagemap) -> bool {
    unsafe {
        let shrinker = (*(*dpagemap).cache).shrinker;
        spin_lock(&raw mut (*shrinker).lock);
        let idle = !list_empty(&raw mut (*dpagemap).shrink_link);
        if idle {
            list_del_init(&raw mut (*dpagemap).shrink_link);
            (*shrinker).num_dpagemaps -= 1;
        }
        spin_unlock(&raw mut (*shrinker).lock);
        idle
    }
}

unsafe extern "C" fn cache_fini(cache: *mut c_void) {
    let cache = cache.cast::<drm_pagemap_cache>();
    unsafe {
        spin_lock(&raw mut (*cache).lock);
        let dpagemap = cached(cache);
        (*cache).dpagemap = null_mut();
        let idle = !dpagemap.is_null() && cancel(dpagemap);
        spin_unlock(&raw mut (*cache).lock);
        if idle {
            drm_pagemap_destroy(dpagemap, false);
        }
        with(|m| m.drm.caches.remove(&(cache as usize)));
        free_object(cache);
    }
}

pub unsafe extern "C" fn drm_pagemap_cache_create_devm(
    shrinker: *mut drm_pagemap_shrinker,
) -> *mut drm_pagemap_cache {
    let cache = new_object(drm_pagemap_cache {
        lookup_mutex: mutex::of_class(DRM_PAGEMAP_LOOKUP),
        lock: spinlock::of_class(DRM_PAGEMAP_CACHE),
        shrinker,
        dpagemap: null_mut(),
        queued: pin_init::zeroed(),
    });
    if cache.is_null() {
        return err_ptr(ENOMEM);
    }
    with(|m| m.drm.caches.insert(cache as usize));
    let dev = unsafe { (*(*shrinker).drm).dev };
    match unsafe { devm_add_action_or_reset(dev, Some(cache_fini), cache.cast()) } {
        0 => cache,
        err => err_ptr(err.unsigned_abs()),
    }
}

pub unsafe extern "C" fn drm_pagemap_cache_lock_lookup(cache: *mut drm_pagemap_cache) -> c_int {
    with(|m| check(m, cache, "drm_pagemap_cache_lock_lookup"));
    unsafe { mutex_lock_interruptible(&raw mut (*cache).lookup_mutex) }
}

pub unsafe extern "C" fn drm_pagemap_cache_unlock_lookup(cache: *mut drm_pagemap_cache) {
    with(|m| check(m, cache, "drm_pagemap_cache_unlock_lookup"));
    unsafe { mutex_unlock(&raw mut (*cache).lookup_mutex) };
}

pub unsafe extern "C" fn drm_pagemap_get_from_cache(
    cache: *mut drm_pagemap_cache,
) -> *mut drm_pagemap {
    with(|m| check(m, cache, "drm_pagemap_get_from_cache"));
    unsafe {
        mutex_assert_is_held(&raw mut (*cache).lookup_mutex);
        loop {
            spin_lock(&raw mut (*cache).lock);
            let dpagemap = cached(cache);
            if dpagemap.is_null() || !drm_pagemap_get_unless_zero(dpagemap).is_null() {
                spin_unlock(&raw mut (*cache).lock);
                return dpagemap;
            }
            // It has no references, but the shrinker may not have it yet.
            if !try_wait_for_completion(&raw mut (*cache).queued) {
                spin_unlock(&raw mut (*cache).lock);
                match wait_for_completion_interruptible(&raw mut (*cache).queued) {
                    0 => continue,
                    err => return err_ptr(err.unsigned_abs()),
                }
            }
            let ours = cancel(dpagemap);
            (*cache).dpagemap = null_mut();
            spin_unlock(&raw mut (*cache).lock);
            if !ours {
                // Or it has it no longer.
                return null_mut();
            }
            match drm_pagemap_reinit(dpagemap) {
                0 => drm_pagemap_cache_set_pagemap(cache, dpagemap),
                err => {
                    drm_pagemap_destroy(dpagemap, false);
                    return err_ptr(err.unsigned_abs());
                }
            }
            return dpagemap;
        }
    }
}

pub unsafe extern "C" fn drm_pagemap_cache_set_pagemap(
    cache: *mut drm_pagemap_cache,
    dpagemap: *mut drm_pagemap,
) {
    with(|m| check(m, cache, "drm_pagemap_cache_set_pagemap"));
    unsafe {
        mutex_assert_is_held(&raw mut (*cache).lookup_mutex);
        spin_lock(&raw mut (*cache).lock);
        (*dpagemap).cache = cache;
        let before = std::mem::replace(&mut (*cache).dpagemap, dpagemap);
        reinit_completion(&raw mut (*cache).queued);
        spin_unlock(&raw mut (*cache).lock);
        if !before.is_null() {
            report("a pagemap is put into a cache that has one");
        }
    }
}

pub unsafe extern "C" fn drm_pagemap_get_from_cache_if_active(
    cache: *mut drm_pagemap_cache,
) -> *mut drm_pagemap {
    with(|m| check(m, cache, "drm_pagemap_get_from_cache_if_active"));
    unsafe {
        spin_lock(&raw mut (*cache).lock);
        let dpagemap = drm_pagemap_get_unless_zero(cached(cache));
        spin_unlock(&raw mut (*cache).lock);
        dpagemap
    }
}

/// Whoever gives a reference up may come to take the lock of the shrinker.
pub(super) unsafe fn might_lock(dpagemap: *mut drm_pagemap) {
    let mut idx = 0;
    if unsafe { drm_dev_enter((*dpagemap).drm, &raw mut idx) } {
        if !unsafe { (*dpagemap).cache }.is_null() {
            lockdep::might_acquire(DRM_PAGEMAP_SHRINKER);
        }
        unsafe { drm_dev_exit(idx) };
    }
}

/// Nobody has a reference to `dpagemap`: it is kept for later, or goes.
pub(super) unsafe fn idle(dpagemap: *mut drm_pagemap) {
    let mut idx = 0;
    unsafe {
        // When the device goes, so do shrinkers and caches.
        if drm_dev_enter((*dpagemap).drm, &raw mut idx) {
            let cache = (*dpagemap).cache;
            if !cache.is_null() {
                with(|m| check(m, cache, "drm_pagemap_put"));
                let shrinker = (*cache).shrinker;
                spin_lock(&raw mut (*shrinker).lock);
                let link = &raw mut (*dpagemap).shrink_link;
                list_add_tail(link, &raw mut (*shrinker).dpagemaps);
                (*shrinker).num_dpagemaps += 1;
                spin_unlock(&raw mut (*shrinker).lock);
                complete_all(&raw mut (*cache).queued);
                drm_dev_exit(idx);
                return;
            }
            drm_dev_exit(idx);
        }
        drm_pagemap_destroy(dpagemap, true);
    }
}

/// Destroys up to `nr` idle pagemaps of `shrinker`, but one at least if there is one.
unsafe fn scan(shrinker: *mut drm_pagemap_shrinker, nr: usize) -> usize {
    let mut freed = 0;
    unsafe {
        spin_lock(&raw mut (*shrinker).lock);
        while !list_empty(&raw mut (*shrinker).dpagemaps) {
            let dpagemap = pagemap_of((*shrinker).dpagemaps.next);
            (*shrinker).num_dpagemaps -= 1;
            list_del_init(&raw mut (*dpagemap).shrink_link);
            spin_unlock(&raw mut (*shrinker).lock);
            let cache = (*dpagemap).cache;
            spin_lock(&raw mut (*cache).lock);
            (*cache).dpagemap = null_mut();
            spin_unlock(&raw mut (*cache).lock);
            drm_pagemap_destroy(dpagemap, true);
            freed += 1;
            spin_lock(&raw mut (*shrinker).lock);
            if freed >= nr {
                break;
            }
        }
        spin_unlock(&raw mut (*shrinker).lock);
    }
    freed
}

/// Memory is short: each shrinker destroys up to `nr` idle pagemaps. Gives how many that were.
pub fn shrink(nr: usize) -> usize {
    might_sleep("shrink_slab");
    lockdep::acquire(FS_RECLAIM);
    let mut freed = 0;
    for shrinker in with(|m| m.drm.shrinkers.clone()) {
        // It stays while it is at work.
        let there = with(|m| {
            let there = m.drm.shrinkers.contains(&shrinker);
            m.drm.shrinking.extend(there.then_some(shrinker));
            there
        });
        if !there {
            continue;
        }
        let object = std::ptr::with_exposed_provenance_mut(shrinker);
        freed += unsafe { scan(object, nr) };
        with(|m| {
            let at = m.drm.shrinking.iter().position(|one| *one == shrinker);
            at.map(|at| m.drm.shrinking.swap_remove(at));
            m.changed();
        });
    }
    lockdep::release(FS_RECLAIM);
    freed
}

unsafe extern "C" fn shrinker_fini(shrinker: *mut c_void) {
    might_sleep("shrinker_free");
    let shrinker = shrinker.cast::<drm_pagemap_shrinker>();
    if unsafe { (*shrinker).num_dpagemaps } != 0 {
        report("a shrinker goes that has idle pagemaps");
    }
    with(|m| {
        let key = shrinker as usize;
        m.drm.shrinkers.retain(|other| *other != key);
        while m.drm.shrinking.contains(&key) {
            m.wait("a shrinker that is at work");
        }
    });
    unsafe { free_object(shrinker) };
}

pub unsafe extern "C" fn drm_pagemap_shrinker_create_devm(
    drm: *mut drm_device,
) -> *mut drm_pagemap_shrinker {
    let lock = spinlock::of_class(DRM_PAGEMAP_SHRINKER);
    let shrinker = new_object(drm_pagemap_shrinker {
        drm,
        lock,
        dpagemaps: pin_init::zeroed(),
        num_dpagemaps: 0,
    });
    if shrinker.is_null() {
        return err_ptr(ENOMEM);
    }
    unsafe { INIT_LIST_HEAD(&raw mut (*shrinker).dpagemaps) };
    if with(|m| m.fails("shrinker_alloc")) {
        unsafe { free_object(shrinker) };
        return err_ptr(ENOMEM);
    }
    with(|m| m.drm.shrinkers.push(shrinker.expose_provenance()));
    let dev = unsafe { (*drm).dev };
    match unsafe { devm_add_action_or_reset(dev, Some(shrinker_fini), shrinker.cast()) } {
        0 => shrinker,
        err => err_ptr(err.unsigned_abs()),
    }
}

/// What `DRM_PAGEMAP_OWNER_LIST_DEFINE()` makes: a list without peers.
pub fn owner_list() -> Box<drm_pagemap_owner_list> {
    let mut list: Box<drm_pagemap_owner_list> = Box::new(pin_init::zeroed());
    // What is not initialised at run time is a class by itself.
    list.lock = mutex::of_class(&raw const *list as usize);
    unsafe { INIT_LIST_HEAD(&raw mut list.peers) };
    list
}

pub unsafe extern "C" fn drm_pagemap_acquire_owner(
    peer: *mut drm_pagemap_peer,
    owner_list: *mut drm_pagemap_owner_list,
    has_interconnect: Option<
        unsafe extern "C" fn(*mut drm_pagemap_peer, *mut drm_pagemap_peer) -> bool,
    >,
) -> c_int {
    let Some(has_interconnect) = has_interconnect else {
        fatal("`drm_pagemap_acquire_owner()` without a function that knows the interconnects");
    };
    unsafe {
        mutex_lock(&raw mut (*owner_list).lock);
        // It may, whether it does or not.
        might_alloc("drm_pagemap_acquire_owner");
        let peers = &raw mut (*owner_list).peers;
        // The peers of an owner follow each other. The first owner will do all of whose peers can
        // be reached.
        let mut owner = null_mut();
        let mut all = false;
        let mut at = (*peers).next;
        while at != peers {
            let other = peer_of(at);
            if (*other).owner != owner {
                if all {
                    break;
                }
                owner = (*other).owner;
                all = true;
            }
            all = all && has_interconnect(peer, other);
            at = (*at).next;
        }
        if all {
            kref_get(&raw mut (*owner).kref);
        } else {
            at = peers;
            let kref = kref::default();
            owner = new_object(drm_pagemap_owner { kref });
            if owner.is_null() {
                mutex_unlock(&raw mut (*owner_list).lock);
                return -(ENOMEM as c_int);
            }
            kref_init(&raw mut (*owner).kref);
        }
        list_add_tail(&raw mut (*peer).link, at);
        (*peer).owner = owner;
        (*peer).list = owner_list;
        with(|m| m.drm.lend(peer, "a peer that has an owner"));
        mutex_unlock(&raw mut (*owner_list).lock);
    }
    0
}

pub unsafe extern "C" fn drm_pagemap_release_owner(peer: *mut drm_pagemap_peer) {
    unsafe {
        let owner_list = (*peer).list;
        if owner_list.is_null() {
            return;
        }
        mutex_lock(&raw mut (*owner_list).lock);
        let owner = std::mem::replace(&mut (*peer).owner, null_mut());
        if owner.is_null() {
            report("an owner is released twice");
        } else {
            list_del_init(&raw mut (*peer).link);
            if kref_put(&raw mut (*owner).kref) {
                if with(|m| is_owner(m, owner.cast())) {
                    report("an owner goes of whom there is memory");
                }
                free_object(owner);
            }
        }
        with(|m| m.drm.give_back(peer));
        mutex_unlock(&raw mut (*owner_list).lock);
    }
}
