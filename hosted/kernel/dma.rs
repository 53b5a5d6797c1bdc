// SPDX-License-Identifier: GPL-2.0

//! DMA, as far as `uaccess` mentions it. There is no device here that could do it, and so no value of this type.

use crate::ptr::KnownSize;
use core::{
    convert::Infallible,
    marker::PhantomData, //
};

/// Memory that a device can reach.
pub struct Coherent<T: KnownSize + ?Sized>(Infallible, PhantomData<T>);

impl<T: KnownSize + ?Sized> Coherent<T> {
    /// How many bytes there are.
    pub fn size(&self) -> usize {
        match self.0 {}
    }

    /// Where they are.
    pub fn as_ptr(&self) -> *const T {
        match self.0 {}
    }
}
