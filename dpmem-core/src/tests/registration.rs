// SPDX-License-Identifier: GPL-2.0

//! What a machine has room for, and where.

use kernel::{
    prelude::*,
    str::CString, //
};

use super::always;
use crate::{
    DeviceMemory,
    NrPages,
    NumaNode,
    PhysRange, //
};

#[kunit_tests(rust_dpmem_registration)]
mod cases {
    use super::*;

    #[test]
    fn no_place_is_not_an_error() -> Result {
        assert!(DeviceMemory::of(Ok(7))?.registered() == Some(&7));
        assert!(DeviceMemory::<()>::of(Err(ERANGE))?.registered().is_none());
        assert!(DeviceMemory::<()>::of(Err(ERANGE))?.into_result() == Err(ERANGE));
        assert!(DeviceMemory::<()>::of(Err(ENOMEM)).err() == Some(ENOMEM));
        Ok(())
    }

    #[test]
    fn a_machine_without_a_place_says_so() -> Result {
        let too_many = NrPages::new(1 << 50);
        let memory = DeviceMemory::of(always(too_many, 0));
        assert!(matches!(memory?, DeviceMemory::Unavailable(ERANGE)));
        Ok(())
    }

    #[test]
    fn a_node_is_one_that_is_there() -> Result {
        assert!(NumaNode::new(0)? != NumaNode::LOCAL);
        assert!(NumaNode::new(u32::MAX).err() == Some(EINVAL));
        assert!(NumaNode::new(kernel::bindings::MAX_NUMNODES).err() == Some(EINVAL));
        Ok(())
    }

    #[test]
    fn addresses_belong_to_one() -> Result {
        let name = || CString::try_from(c"dpmem-kunit");
        // Memory of the machine's, which begins elsewhere on others.
        if cfg!(CONFIG_X86) {
            let ram = PhysRange::new(1 << 20, NrPages::new(1))?;
            assert!(ram.request(name()?).err() == Some(EBUSY));
        }
        // Where these machines have nothing.
        let range = PhysRange::new(60 << 30, NrPages::new(2))?;
        let Ok(region) = range.request(name()?) else {
            return Ok(());
        };
        assert!(PhysRange::of(&region)? == range);
        assert!(range.request(name()?).err() == Some(EBUSY));
        drop(region);
        assert!(range.request(name()?).is_ok());
        Ok(())
    }
}
