// SPDX-License-Identifier: GPL-2.0

//! A structure that threads may share, and that `abi.rs` says they may not.

use kernel::bindings;

const _: fn() = {
    trait Unless<A> {
        fn neither() {}
    }
    struct ItIsSend;
    struct ItIsSync;
    impl<T: ?Sized> Unless<()> for T {}
    impl<T: ?Sized + Send> Unless<ItIsSend> for T {}
    impl<T: ?Sized + Sync> Unless<ItIsSync> for T {}
    <bindings::dma_iova_state as Unless<_>>::neither
};

fn main() {}
