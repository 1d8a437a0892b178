//! A hub that drops, doubles, delays, alters, forges and misdirects.

use crate::world::{Down, Up};

#[derive(Debug)]
pub struct Adversary {
    pub quiet: bool,
}

impl Adversary {
    pub fn up(&mut self, _: usize, frame: Up) -> Vec<Up> {
        vec![frame]
    }

    pub fn down(&mut self, who: usize, _: usize, frame: Down) -> Vec<(usize, Down)> {
        vec![(who, frame)]
    }
}
