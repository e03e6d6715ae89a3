//! Symbolon's revocation protocol as a checked model.
//!
//! Each [case](Case) is a small world of store nodes, token services and gateways in which everything happens that may
//! happen, in every order: messages are lost, doubled, late and overtaken, nodes die, restart and are isolated, processes
//! restart, clocks differ. The search goes through all of its states and looks whether the [promises](Promise) hold. It
//! is done once more without each [rule](Rule) of the protocol, and must find then what the rule is good for.
//!
//! What a process knows and decides is the program's own code: `symbolon::revocations`. docs/protocol.md is the protocol.

mod case;
mod cases;
mod store;
mod world;

use stateright::{Checker, HasDiscoveries, Model, Property};

pub use case::{Case, Promise, Rule};
pub use cases::{FAULTS, Fault, TABLE, all, named};
pub use world::{Action, World};

/// What the search through one case found.
pub struct Outcome {
    /// Different states.
    pub states: usize,
    /// The longest way to one of them.
    pub depth: usize,
    /// What was broken, each with the shortest way there.
    pub broken: Vec<(Promise, Vec<Action>)>,
}

impl Model for Case {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        World::beginnings(self)
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(self, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(world.next(self, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let property = |promise| {
            let holds: fn(&Self, &World) -> bool = match promise {
                Promise::P1 => |_, world| world.keeps(Promise::P1),
                Promise::P2 => |_, world| world.keeps(Promise::P2),
                Promise::P2Late => |_, world| world.keeps(Promise::P2Late),
                Promise::P3 => |_, world| world.keeps(Promise::P3),
                Promise::L => |_, world| world.keeps(Promise::L),
                Promise::Mended => |_, world| world.keeps(Promise::Mended),
                Promise::Rises => |_, world| world.keeps(Promise::Rises),
                Promise::NotDead => |_, world| world.keeps(Promise::NotDead),
            };
            Property::always(promise.name(), holds)
        };
        self.promises.iter().copied().map(property).collect()
    }
}

/// Searches a case to its end, or until one of `until` is broken.
pub fn search(case: Case, until: &[Promise]) -> Outcome {
    let promises = case.promises.clone();
    let until = until.iter().map(|promise| promise.name()).collect();
    let checker = case
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyOf(until))
        .spawn_bfs()
        .join();
    let ways = checker.discoveries();
    let broken = promises.iter().filter_map(|promise| {
        let way = ways.get(promise.name())?.clone();
        Some((*promise, way.into_actions()))
    });
    Outcome {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        broken: broken.collect(),
    }
}
