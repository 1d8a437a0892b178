//! Checks of the contract's laws, for any machine.
