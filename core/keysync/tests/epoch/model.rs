//! K1 to K5, K7, K8, K11 and K12 with an honest hub, over schedules of people who come, go, hang,
//! lose their connection and come back.

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use semfio_keysync::Manner;
use std::time::Duration;

use crate::world::{World, secs};

#[derive(Clone, Debug)]
pub enum Op {
    Arrive {
        right: bool,
    },
    Leave(usize),
    /// The holder leaves.
    Abdicate,
    Lose(usize, u64),
    Say(usize),
    Act(usize),
    Whisper(usize),
    Hang(usize, u64),
    Clog(usize),
    Rename(usize),
    Step(usize, bool),
    Restart,
    Wait(u64),
}

/// At most so many arrive.
const MAX_PEOPLE: usize = 7;

/// What is decided before anybody comes, and how many have come. Who is where and is owed what is
/// the business of [`World`], which time moves too.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// So many of a hundred frames are lost.
    pub loss: u32,
    /// In ms, at most.
    pub delay: u64,
    /// So many of a thousand frames are tampered with.
    pub rate: u64,
    arrived: usize,
}

/// What may happen, in a room with an honest hub or with a hostile one.
pub struct Schedule<const HOSTILE: bool>;

impl<const HOSTILE: bool> ReferenceStateMachine for Schedule<HOSTILE> {
    type State = Plan;
    type Transition = Op;

    fn init_state() -> BoxedStrategy<Plan> {
        let loss = prop_oneof![3 => Just(0_u32), 1 => 1..25_u32];
        let delay = prop_oneof![Just(1_u64), 1..200_u64, 1..1_000_u64];
        let rate = prop_oneof![1..20_u64, 20..150_u64];
        (any::<u64>(), loss, delay, rate)
            .prop_map(|(seed, loss, delay, rate)| match HOSTILE {
                true => Plan { seed, loss: 0, delay, rate, arrived: 0 },
                false => Plan { seed, loss, delay, rate: 0, arrived: 0 },
            })
            .boxed()
    }

    fn transitions(_: &Plan) -> BoxedStrategy<Op> {
        ops().boxed()
    }

    fn preconditions(plan: &Plan, op: &Op) -> bool {
        !matches!(op, Op::Arrive { .. }) || plan.arrived < MAX_PEOPLE
    }

    fn apply(mut plan: Plan, op: &Op) -> Plan {
        plan.arrived += usize::from(matches!(op, Op::Arrive { .. }));
        plan
    }
}

fn ops() -> impl Strategy<Value = Op> {
    let who = 0..8_usize;
    prop_oneof![
        8 => Just(Op::Arrive { right: true }),
        1 => Just(Op::Arrive { right: false }),
        3 => who.clone().prop_map(Op::Leave),
        2 => Just(Op::Abdicate),
        3 => (who.clone(), 0..60_000_u64).prop_map(|(who, time)| Op::Lose(who, time)),
        10 => who.clone().prop_map(Op::Say),
        1 => who.clone().prop_map(Op::Act),
        2 => who.clone().prop_map(Op::Whisper),
        2 => (who.clone(), 0..40_000_u64).prop_map(|(who, time)| Op::Hang(who, time)),
        1 => who.clone().prop_map(Op::Clog),
        1 => who.clone().prop_map(Op::Rename),
        1 => (who, any::<bool>()).prop_map(|(who, ahead)| Op::Step(who, ahead)),
        1 => Just(Op::Restart),
        8 => (0..3_000_u64).prop_map(Op::Wait),
        3 => (0..40_000_u64).prop_map(Op::Wait),
    ]
}

pub fn perform(world: &mut World, op: &Op) {
    let present = world.present();
    let pick = |n: usize| present.get(n % present.len().max(1)).copied();
    match *op {
        Op::Arrive { right } => world.arrive(right),
        Op::Leave(n) => pick(n).into_iter().for_each(|who| world.leave(who)),
        Op::Abdicate => {
            let holder = world.hub.holder;
            let seat = world.hub.seats.iter().find(|seat| seat.0 == holder).map(|seat| seat.1);
            if let Some(who) = seat.filter(|who| world.people[*who].connected) {
                world.leave(who);
            }
        }
        Op::Lose(n, time) => {
            pick(n).into_iter().for_each(|who| world.lose(who, Duration::from_millis(time)));
        }
        Op::Say(n) => pick(n).into_iter().for_each(|who| world.say(who, Manner::Text)),
        Op::Act(n) => pick(n).into_iter().for_each(|who| world.say(who, Manner::Action)),
        Op::Whisper(n) => pick(n).into_iter().for_each(|who| world.say(who, Manner::Private)),
        Op::Hang(n, time) => {
            pick(n).into_iter().for_each(|who| world.hang(who, Duration::from_millis(time)));
        }
        Op::Clog(n) => pick(n).into_iter().for_each(|who| world.clog(who)),
        Op::Rename(n) => pick(n).into_iter().for_each(|who| world.rename(who)),
        Op::Step(n, ahead) => {
            let by = if ahead { 3_600 } else { -3_600 };
            pick(n).into_iter().for_each(|who| world.step_clock(who, by));
        }
        Op::Restart => world.restart(),
        Op::Wait(time) => world.run(Duration::from_millis(time)),
    }
}

struct Honest;

impl StateMachineTest for Honest {
    type SystemUnderTest = World;
    type Reference = Schedule<false>;

    fn init_test(plan: &Plan) -> World {
        let mut world = World::new("Sala", plan.seed, None);
        (world.loss, world.delay, world.lossy) = (plan.loss, plan.delay, plan.loss > 0);
        world
    }

    fn apply(mut world: World, _: &Plan, op: Op) -> World {
        perform(&mut world, &op);
        world
    }

    fn teardown(mut world: World, _: Plan) {
        world.calm();
        world.run(secs(200));
        world.check_rest();
        world.replay();
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None, ..ProptestConfig::with_cases(150)
    })]

    #[test]
    fn all_agree_and_nobody_misses_or_overhears_anything(sequential 1..60 => Honest);
}
