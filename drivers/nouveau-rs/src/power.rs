// SPDX-License-Identifier: GPL-2.0

//! Whether the card has its power, and who uses it.

use kernel::{
    new_condvar,
    new_mutex,
    prelude::*,
    sync::{
        CondVar,
        Mutex, //
    }, //
};

#[derive(Default)]
struct State {
    asleep: bool,
    /// How many [`Awake`] there are.
    users: usize,
}

/// Keeps the card from falling asleep while somebody uses it, and from being used while it is.
#[pin_data]
pub(crate) struct Power {
    #[pin]
    state: Mutex<State>,
    #[pin]
    unused: CondVar,
}

impl Power {
    /// A card that is awake.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(State::default(), "nouveau_dmem::Power"),
            unused <- new_condvar!("nouveau_dmem::Power::unused"),
        })
    }

    /// Keeps the card awake until what is returned is dropped; `None` if it is asleep. May sleep,
    /// but not for long.
    pub(crate) fn awake(&self) -> Option<Awake<'_>> {
        let mut state = self.state.lock();
        if state.asleep {
            return None;
        }
        state.users = state.users.checked_add(1)?;
        Some(Awake(self))
    }

    /// Lets nobody use the card any more, and waits for those who do. May sleep.
    pub(crate) fn sleep(&self) {
        let mut state = self.state.lock();
        state.asleep = true;
        while state.users > 0 {
            self.unused.wait(&mut state);
        }
    }

    /// The card may be used again. May sleep, but not for long.
    pub(crate) fn wake(&self) {
        self.state.lock().asleep = false;
    }
}

/// The card is awake for as long as this lives.
pub(crate) struct Awake<'a>(&'a Power);

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.users = state.users.saturating_sub(1);
        if state.users == 0 {
            self.0.unused.notify_all();
        }
    }
}
