// SPDX-License-Identifier: GPL-2.0

//! Taking steps, and saying what is seen.

use crate::{Op, Play, Step, Who};

/// The processes that take steps.
pub trait World {
    /// A process takes step `number`, which is neither `Fork` nor `Exit`. Gives what it says of it.
    fn act(&mut self, number: usize, step: Step) -> String;

    /// What a process sees.
    fn state(&mut self, who: Who) -> String;

    /// There is a child from now on.
    fn fork(&mut self);

    /// And now there is none any more.
    fn exit(&mut self);
}

/// Who is told what is seen; nobody looks if nobody wants to know.
pub type Watch<'a> = Option<&'a mut dyn FnMut(&str)>;

/// Takes the steps of `play`, which is called `name`, and says two or three lines of each: what is
/// done, and what the processes see then.
///
/// # Errors
///
/// The first that is not as the play expects it.
pub fn walk(
    name: &str,
    play: &Play,
    world: &mut impl World,
    mut watch: Watch<'_>,
) -> Result<(), String> {
    let mut child = false;
    let mut trouble = None;
    for (number, line) in play.lines().iter().enumerate() {
        let step = line.step();
        let said = match step.op {
            Op::Fork => {
                world.fork();
                child = true;
                "done".to_owned()
            }
            Op::Exit => {
                world.exit();
                child = false;
                "done".to_owned()
            }
            _ => world.act(number, step),
        };
        let expected = line.check(&said);
        let mut said = format!("{name}.{number} {step}: {said}");
        if let Err(expected) = expected {
            said += &format!(", NOT {expected}");
            trouble.get_or_insert_with(|| said.clone());
        }
        if let Some(say) = &mut watch {
            say(&said);
            say(&format!(
                "{name}.{number} parent: {}",
                world.state(Who::Parent)
            ));
            if child {
                say(&format!(
                    "{name}.{number} child: {}",
                    world.state(Who::Child)
                ));
            }
        } else if trouble.is_some() {
            break;
        }
    }
    if child {
        world.exit();
    }
    trouble.map_or(Ok(()), Err)
}
