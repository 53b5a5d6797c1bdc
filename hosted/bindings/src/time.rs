// SPDX-License-Identifier: GPL-2.0

//! Time, in jiffies of a millisecond.
//!
//! Real: the host's clock; but the only thread of a machine sleeps in no time. With the feature
//! `shuttle` time passes when somebody looks at a clock or sleeps, and so in the same way each
//! time. Not simulated: timers; and with the feature, that two can sleep at once: one after the
//! other does.

use std::time::Duration;

use ffi::*;

use crate::{
    host::sleep,
    machine::{might_sleep, with},
};

pub type ktime_t = i64;
pub type clockid_t = c_int;

pub const CLOCK_REALTIME: u32 = 0;
pub const CLOCK_MONOTONIC: u32 = 1;
pub const CLOCK_BOOTTIME: u32 = 7;
pub const CLOCK_TAI: u32 = 11;
pub const NSEC_PER_USEC: u32 = 1_000;
pub const NSEC_PER_MSEC: u32 = 1_000_000;
pub const NSEC_PER_SEC: u32 = 1_000_000_000;
pub const MAX_UDELAY_MS: u32 = 5;

/// What has passed besides the time that was slept, in nanoseconds.
#[cfg(not(feature = "shuttle"))]
fn passed() -> i64 {
    use std::{sync::OnceLock, time::Instant};

    static BOOT: OnceLock<Instant> = OnceLock::new();
    let since = BOOT.get_or_init(Instant::now).elapsed();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Nothing, but it takes a while to look.
#[cfg(feature = "shuttle")]
fn passed() -> i64 {
    pass(Duration::from_micros(100));
    0
}

pub unsafe extern "C" fn ktime_get() -> ktime_t {
    passed() + with(|m| m.slept)
}

/// Lets time pass, for all clocks of the machine. Nobody who sleeps wakes up by that.
pub fn pass(duration: Duration) {
    let nanoseconds = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    with(|m| m.slept = m.slept.saturating_add(nanoseconds));
}

/// What a clock of the machine says.
pub fn now() -> Duration {
    Duration::from_nanos(unsafe { ktime_get() }.unsigned_abs())
}

/// What a clock says that counts jiffies.
pub(crate) fn jiffies() -> u64 {
    unsafe { ktime_get() as u64 / u64::from(NSEC_PER_MSEC) }
}

pub unsafe extern "C" fn ktime_to_us(kt: ktime_t) -> i64 {
    kt / 1_000
}

pub unsafe extern "C" fn ktime_to_ms(kt: ktime_t) -> i64 {
    kt / 1_000_000
}

pub unsafe extern "C" fn __msecs_to_jiffies(m: c_uint) -> c_ulong {
    m as c_ulong
}

pub unsafe extern "C" fn fsleep(usecs: c_ulong) {
    might_sleep("fsleep");
    if !with(|m| m.nap(usecs as i64 * 1_000)) {
        wait(Duration::from_micros(usecs as u64));
    }
}

pub unsafe extern "C" fn udelay(usecs: c_ulong) {
    wait(Duration::from_micros(usecs as u64));
}

/// Does nothing for so long. Where the clock is not the host's, it does not see that by itself.
fn wait(duration: Duration) {
    sleep(duration);
    if cfg!(feature = "shuttle") {
        pass(duration);
    }
}

#[repr(C)]
pub struct hrtimer {
    pub node: timerqueue_node,
    _not_send: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct timerqueue_node {
    pub expires: ktime_t,
}

// 7.3 asks bindgen for types of their own, 7.2 does not.
#[cfg(newtype_enums)]
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct hrtimer_restart(pub c_uint);

#[cfg(newtype_enums)]
impl hrtimer_restart {
    pub const HRTIMER_NORESTART: Self = Self(0);
    pub const HRTIMER_RESTART: Self = Self(1);
}

#[cfg(not(newtype_enums))]
pub type hrtimer_restart = c_uint;
#[cfg(not(newtype_enums))]
pub const hrtimer_restart_HRTIMER_NORESTART: hrtimer_restart = 0;
#[cfg(not(newtype_enums))]
pub const hrtimer_restart_HRTIMER_RESTART: hrtimer_restart = 1;

pub type hrtimer_mode = c_uint;
pub const hrtimer_mode_HRTIMER_MODE_ABS: hrtimer_mode = 0;
pub const hrtimer_mode_HRTIMER_MODE_REL: hrtimer_mode = 1;
pub const hrtimer_mode_HRTIMER_MODE_ABS_PINNED: hrtimer_mode = 2;
pub const hrtimer_mode_HRTIMER_MODE_REL_PINNED: hrtimer_mode = 3;
pub const hrtimer_mode_HRTIMER_MODE_ABS_SOFT: hrtimer_mode = 4;
pub const hrtimer_mode_HRTIMER_MODE_REL_SOFT: hrtimer_mode = 5;
pub const hrtimer_mode_HRTIMER_MODE_ABS_PINNED_SOFT: hrtimer_mode = 6;
pub const hrtimer_mode_HRTIMER_MODE_REL_PINNED_SOFT: hrtimer_mode = 7;
pub const hrtimer_mode_HRTIMER_MODE_ABS_HARD: hrtimer_mode = 8;
pub const hrtimer_mode_HRTIMER_MODE_REL_HARD: hrtimer_mode = 9;
pub const hrtimer_mode_HRTIMER_MODE_ABS_PINNED_HARD: hrtimer_mode = 10;
pub const hrtimer_mode_HRTIMER_MODE_REL_PINNED_HARD: hrtimer_mode = 11;

not_simulated! {
    fn ktime_get_real() -> ktime_t;
    fn ktime_get_boottime() -> ktime_t;
    fn ktime_get_clocktai() -> ktime_t;
    fn hrtimer_setup(
        *mut hrtimer,
        Option<unsafe extern "C" fn(*mut hrtimer) -> hrtimer_restart>,
        clockid_t,
        hrtimer_mode,
    );
    fn hrtimer_start_range_ns(*mut hrtimer, ktime_t, u64, hrtimer_mode);
    fn hrtimer_cancel(*mut hrtimer) -> c_int;
    fn hrtimer_forward(*mut hrtimer, ktime_t, ktime_t) -> u64;
}
