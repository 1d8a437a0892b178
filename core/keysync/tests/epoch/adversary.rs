//! A hub that drops, doubles, delays, alters, forges and misdirects, and does so with what it has
//! from another room of the same people.

use proptest::prelude::*;
use proptest_state_machine::{StateMachineTest, prop_state_machine};
use rand_core::RngCore as _;
use semfio_keysync::Refusal;
use semfio_machine::{Rng, Seed};

use crate::model::{Op, Plan, Schedule, perform};
use crate::world::{Down, Up, What, World, secs};

#[derive(Debug)]
pub struct Adversary {
    pub quiet: bool,
    dice: Rng,
    /// So many of a thousand frames are tampered with.
    rate: u64,
    /// What it has seen, and what it has from elsewhere.
    seen: Vec<Down>,
    bodies: Vec<Vec<u8>>,
    late: Vec<(usize, Down)>,
}

impl Adversary {
    pub fn new(seed: u64, rate: u64) -> Self {
        Self {
            quiet: false,
            dice: Seed::from_u64(seed).stream(13),
            rate,
            seen: Vec::new(),
            bodies: Vec::new(),
            late: Vec::new(),
        }
    }

    fn below(&mut self, n: usize) -> usize {
        (self.dice.next_u64() % n.max(1) as u64) as usize
    }

    pub fn up(&mut self, _: usize, frame: Up) -> Vec<Up> {
        if let Up::Relay { body, .. } = &frame {
            self.bodies.push(body.clone());
        }
        if self.quiet || self.dice.next_u64() % 1_000 >= self.rate {
            return vec![frame];
        }
        match self.below(3) {
            0 => vec![],
            1 => vec![frame.clone(), frame],
            _ => match frame {
                Up::Sealed(mut token) => {
                    self.flip(&mut token.token);
                    vec![Up::Sealed(token)]
                }
                Up::Relay { to, mut body } => {
                    self.flip(&mut body);
                    vec![Up::Relay { to, body }]
                }
                frame => vec![frame],
            },
        }
    }

    pub fn down(&mut self, who: usize, people: usize, frame: Down) -> Vec<(usize, Down)> {
        self.seen.push(frame.clone());
        if self.quiet || self.dice.next_u64() % 1_000 >= self.rate {
            return vec![(who, frame)];
        }
        let other = self.below(people);
        match self.below(10) {
            0 => vec![],
            1 => vec![(who, frame.clone()), (who, frame)],
            2 => vec![(who, frame.clone()), (other, frame)],
            3 => {
                let at = self.below(self.seen.len());
                vec![(who, self.seen[at].clone()), (who, frame)]
            }
            4 => {
                self.late.push((who, frame));
                if self.late.len() < 4 { vec![] } else { std::mem::take(&mut self.late) }
            }
            5 => {
                // What it said itself, as if somebody else had.
                let at = self.below(self.bodies.len());
                let body = self.bodies.get(at).cloned().unwrap_or_default();
                let from = self.number();
                vec![(who, Down::Relay { from, body }), (who, frame)]
            }
            6 => vec![(who, self.forged()), (who, frame)],
            7 => {
                let at = self.below(self.seen.len());
                let frame = self.seen[at].clone();
                vec![(who, self.altered(frame))]
            }
            _ => vec![(who, self.altered(frame))],
        }
    }

    /// A number somebody has or had.
    fn number(&mut self) -> u64 {
        for _ in 0..20 {
            let at = self.below(self.seen.len());
            match self.seen.get(at) {
                Some(Down::Door { you: number, .. } | Down::Relay { from: number, .. }) => {
                    return *number;
                }
                Some(Down::Entry { what: What::Holder { peer: number }, .. }) => return *number,
                _ => {}
            }
        }
        self.dice.next_u64()
    }

    fn epoch(&mut self, near: u64) -> u64 {
        match self.below(5) {
            0 => near.wrapping_add(1),
            1 => near.wrapping_sub(1),
            2 => u64::MAX,
            3 => self.dice.next_u64(),
            _ => near ^ 1 << self.below(64),
        }
    }

    fn flip(&mut self, octets: &mut Vec<u8>) {
        match self.below(8) {
            0 => octets.truncate(self.below(octets.len())),
            1 => octets.push(b'A'),
            _ => {
                let at = self.below(octets.len());
                if let Some(octet) = octets.get_mut(at) {
                    *octet ^= 1 << self.below(8);
                }
            }
        }
    }

    fn forged(&mut self) -> Down {
        let mut check = [0; 16];
        self.dice.fill_bytes(&mut check);
        let (one, other) = (self.number(), self.number());
        match self.below(9) {
            0 => Down::Door { you: one, holder: other },
            1 => Down::Door { you: one, holder: one },
            2 => Down::Knock { peer: one, nick: "p0".into() },
            3 => Down::Gone { peer: one },
            4 => Down::Refused(Refusal::from_number(self.below(6) as u8)),
            5 => {
                let what = What::Holder { peer: one };
                Down::Entry { seq: self.below(60) as u64, what }
            }
            6 => {
                let what = What::Part { parts: 0 };
                Down::Entry { seq: self.below(60) as u64, what }
            }
            7 => {
                let epoch = self.epoch(3);
                let what = What::Epoch { epoch, fresh: self.below(2) == 0, check };
                Down::Entry { seq: self.below(60) as u64, what }
            }
            _ => {
                let mut body = vec![self.below(8) as u8; self.below(120)];
                self.dice.fill_bytes(body.get_mut(1..).unwrap_or_default());
                Down::Relay { from: one, body }
            }
        }
    }

    fn altered(&mut self, frame: Down) -> Down {
        match frame {
            Down::Door { you, .. } => Down::Door { you, holder: self.number() },
            Down::Knock { nick, .. } => Down::Knock { peer: self.number(), nick },
            Down::Relay { from, mut body } => match self.below(4) {
                0 => Down::Relay { from: self.number(), body },
                _ => {
                    self.flip(&mut body);
                    Down::Relay { from, body }
                }
            },
            Down::Gone { .. } => Down::Gone { peer: self.number() },
            Down::Refused(_) => Down::Refused(Refusal::Other),
            Down::Entry { seq, what } => {
                let what = match what {
                    What::Epoch { epoch, fresh, mut check } => match self.below(3) {
                        0 => What::Epoch { epoch: self.epoch(epoch), fresh, check },
                        1 => What::Epoch { epoch, fresh: !fresh, check },
                        _ => {
                            check[self.below(16)] ^= 1 << self.below(8);
                            What::Epoch { epoch, fresh, check }
                        }
                    },
                    What::Sealed(mut token) => {
                        match self.below(6) {
                            0 => token.sender = self.number(),
                            1 => token.epoch = self.epoch(token.epoch),
                            2 => token.counter = self.epoch(token.counter),
                            3 => token.to = "p1".into(),
                            4 => {
                                // Torn, or two glued together.
                                let again = token.token.clone();
                                token.token.extend_from_slice(&again);
                            }
                            _ => self.flip(&mut token.token),
                        }
                        What::Sealed(token)
                    }
                    What::Holder { .. } => What::Holder { peer: self.number() },
                    what => what,
                };
                let seq = if self.below(4) == 0 { self.epoch(seq) } else { seq };
                Down::Entry { seq, what }
            }
        }
    }
}

/// The same people with the same randomness in two rooms: every number and every key that is drawn is
/// the same in both, and only the room's name differs. What is seen in the other is used in this.
struct Tampered {
    world: World,
    other: World,
}

impl StateMachineTest for Tampered {
    type SystemUnderTest = Self;
    type Reference = Schedule<true>;

    fn init_test(plan: &Plan) -> Self {
        let mut other = World::new("Outra", plan.seed, None);
        (other.delay, other.kept) = (plan.delay, Some(Vec::new()));
        let adversary = Adversary::new(plan.seed, plan.rate);
        let mut world = World::new("Sala", plan.seed, Some(adversary));
        world.delay = plan.delay;
        Self { world, other }
    }

    fn apply(mut both: Self, _: &Plan, op: Op) -> Self {
        perform(&mut both.other, &op);
        let foreign = both.other.kept.as_mut().map(std::mem::take);
        if let Some(adversary) = &mut both.world.adversary {
            adversary.seen.extend(foreign.into_iter().flatten());
        }
        perform(&mut both.world, &op);
        both
    }

    fn teardown(mut both: Self, _: Plan) {
        both.world.calm();
        both.world.run(secs(100));
        both.world.replay();
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None, ..ProptestConfig::with_cases(200)
    })]

    #[test]
    fn nothing_is_forged_repeated_or_overheard(sequential 1..60 => Tampered);
}
