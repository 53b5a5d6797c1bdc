// SPDX-License-Identifier: GPL-2.0

//! Atomics and barriers. All of it is real; what C orders less strictly than Rust can say is
//! ordered more strictly.

use std::sync::atomic::{
    fence, AtomicI16, AtomicI32, AtomicI64, AtomicI8, AtomicPtr,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use ffi::*;

use crate::{host::point, locks::atomic_t};

#[repr(C)]
#[derive(Clone, Copy, Default, pin_init::Zeroable)]
pub struct atomic64_t {
    pub counter: i64,
}

macro_rules! read_and_set {
    ($ty:ty, $value:ty, $atomic:ty: $read:ident $read_acquire:ident $set:ident $set_release:ident) => {
        pub unsafe extern "C" fn $read(v: *const $ty) -> $value {
            point();
            unsafe { <$atomic>::from_ptr(v.cast_mut().cast()) }.load(Relaxed)
        }

        pub unsafe extern "C" fn $read_acquire(v: *const $ty) -> $value {
            point();
            unsafe { <$atomic>::from_ptr(v.cast_mut().cast()) }.load(Acquire)
        }

        pub unsafe extern "C" fn $set(v: *mut $ty, i: $value) {
            point();
            unsafe { <$atomic>::from_ptr(v.cast()) }.store(i, Relaxed);
        }

        pub unsafe extern "C" fn $set_release(v: *mut $ty, i: $value) {
            point();
            unsafe { <$atomic>::from_ptr(v.cast()) }.store(i, Release);
        }
    };
}

macro_rules! exchange {
    ($ty:ty, $value:ty, $atomic:ty: $($order:ident $failed:ident $xchg:ident $try_cmpxchg:ident)*) => {$(
        pub unsafe extern "C" fn $xchg(v: *mut $ty, new: $value) -> $value {
            point();
            unsafe { <$atomic>::from_ptr(v.cast()) }.swap(new, $order)
        }

        pub unsafe extern "C" fn $try_cmpxchg(v: *mut $ty, old: *mut $value, new: $value) -> bool {
            point();
            let v = unsafe { <$atomic>::from_ptr(v.cast()) };
            match v.compare_exchange(unsafe { *old }, new, $order, $failed) {
                Ok(_) => true,
                Err(now) => {
                    unsafe { *old = now };
                    false
                }
            }
        }
    )*};
}

macro_rules! arithmetic {
    ($ty:ty, $value:ty, $atomic:ty: $add:ident $($order:ident $fetch_add:ident $fetch_sub:ident)*) => {
        pub unsafe extern "C" fn $add(i: $value, v: *mut $ty) {
            point();
            unsafe { <$atomic>::from_ptr(v.cast()) }.fetch_add(i, Relaxed);
        }

        $(
            pub unsafe extern "C" fn $fetch_add(i: $value, v: *mut $ty) -> $value {
                point();
                unsafe { <$atomic>::from_ptr(v.cast()) }.fetch_add(i, $order)
            }

            pub unsafe extern "C" fn $fetch_sub(i: $value, v: *mut $ty) -> $value {
                point();
                unsafe { <$atomic>::from_ptr(v.cast()) }.fetch_sub(i, $order)
            }
        )*
    };
}

macro_rules! barriers {
    ($($name:ident)*) => {$(
        pub unsafe extern "C" fn $name() {
            fence(SeqCst);
        }
    )*};
}

barriers!(mb rmb wmb smp_mb smp_rmb smp_wmb dma_mb dma_rmb dma_wmb);

read_and_set!(i8, i8, AtomicI8: atomic_i8_read atomic_i8_read_acquire atomic_i8_set atomic_i8_set_release);
exchange!(i8, i8, AtomicI8:
    SeqCst SeqCst atomic_i8_xchg atomic_i8_try_cmpxchg
    Acquire Acquire atomic_i8_xchg_acquire atomic_i8_try_cmpxchg_acquire
    Release Relaxed atomic_i8_xchg_release atomic_i8_try_cmpxchg_release
    Relaxed Relaxed atomic_i8_xchg_relaxed atomic_i8_try_cmpxchg_relaxed
);
read_and_set!(i16, i16, AtomicI16: atomic_i16_read atomic_i16_read_acquire atomic_i16_set atomic_i16_set_release);
exchange!(i16, i16, AtomicI16:
    SeqCst SeqCst atomic_i16_xchg atomic_i16_try_cmpxchg
    Acquire Acquire atomic_i16_xchg_acquire atomic_i16_try_cmpxchg_acquire
    Release Relaxed atomic_i16_xchg_release atomic_i16_try_cmpxchg_release
    Relaxed Relaxed atomic_i16_xchg_relaxed atomic_i16_try_cmpxchg_relaxed
);
read_and_set!(atomic_t, c_int, AtomicI32: atomic_read atomic_read_acquire atomic_set atomic_set_release);
exchange!(atomic_t, c_int, AtomicI32:
    SeqCst SeqCst atomic_xchg atomic_try_cmpxchg
    Acquire Acquire atomic_xchg_acquire atomic_try_cmpxchg_acquire
    Release Relaxed atomic_xchg_release atomic_try_cmpxchg_release
    Relaxed Relaxed atomic_xchg_relaxed atomic_try_cmpxchg_relaxed
);
arithmetic!(atomic_t, c_int, AtomicI32: atomic_add
    SeqCst atomic_fetch_add atomic_fetch_sub
    Acquire atomic_fetch_add_acquire atomic_fetch_sub_acquire
    Release atomic_fetch_add_release atomic_fetch_sub_release
    Relaxed atomic_fetch_add_relaxed atomic_fetch_sub_relaxed
);
read_and_set!(atomic64_t, i64, AtomicI64: atomic64_read atomic64_read_acquire atomic64_set atomic64_set_release);
exchange!(atomic64_t, i64, AtomicI64:
    SeqCst SeqCst atomic64_xchg atomic64_try_cmpxchg
    Acquire Acquire atomic64_xchg_acquire atomic64_try_cmpxchg_acquire
    Release Relaxed atomic64_xchg_release atomic64_try_cmpxchg_release
    Relaxed Relaxed atomic64_xchg_relaxed atomic64_try_cmpxchg_relaxed
);
arithmetic!(atomic64_t, i64, AtomicI64: atomic64_add
    SeqCst atomic64_fetch_add atomic64_fetch_sub
    Acquire atomic64_fetch_add_acquire atomic64_fetch_sub_acquire
    Release atomic64_fetch_add_release atomic64_fetch_sub_release
    Relaxed atomic64_fetch_add_relaxed atomic64_fetch_sub_relaxed
);

// Pointers are constant in C's signatures, and mutable in the standard library.

unsafe fn pointer<'a>(ptr: *const *const c_void) -> &'a AtomicPtr<c_void> {
    point();
    unsafe { AtomicPtr::from_ptr(ptr.cast_mut().cast()) }
}

pub unsafe extern "C" fn atomic_ptr_read(ptr: *mut *const c_void) -> *const c_void {
    unsafe { pointer(ptr) }.load(Relaxed)
}

pub unsafe extern "C" fn atomic_ptr_read_acquire(ptr: *mut *const c_void) -> *const c_void {
    unsafe { pointer(ptr) }.load(Acquire)
}

pub unsafe extern "C" fn atomic_ptr_set(ptr: *mut *const c_void, val: *const c_void) {
    unsafe { pointer(ptr) }.store(val.cast_mut(), Relaxed);
}

pub unsafe extern "C" fn atomic_ptr_set_release(ptr: *mut *const c_void, val: *const c_void) {
    unsafe { pointer(ptr) }.store(val.cast_mut(), Release);
}

macro_rules! pointer_exchange {
    ($($order:ident $failed:ident $xchg:ident $try_cmpxchg:ident)*) => {$(
        pub unsafe extern "C" fn $xchg(ptr: *mut *const c_void, new: *const c_void) -> *const c_void {
            unsafe { pointer(ptr) }.swap(new.cast_mut(), $order)
        }

        pub unsafe extern "C" fn $try_cmpxchg(
            ptr: *mut *const c_void,
            old: *mut *const c_void,
            new: *const c_void,
        ) -> bool {
            let expected = unsafe { (*old).cast_mut() };
            match unsafe { pointer(ptr) }.compare_exchange(expected, new.cast_mut(), $order, $failed) {
                Ok(_) => true,
                Err(now) => {
                    unsafe { *old = now };
                    false
                }
            }
        }
    )*};
}

pointer_exchange!(
    SeqCst SeqCst atomic_ptr_xchg atomic_ptr_try_cmpxchg
    Acquire Acquire atomic_ptr_xchg_acquire atomic_ptr_try_cmpxchg_acquire
    Release Relaxed atomic_ptr_xchg_release atomic_ptr_try_cmpxchg_release
    Relaxed Relaxed atomic_ptr_xchg_relaxed atomic_ptr_try_cmpxchg_relaxed
);
