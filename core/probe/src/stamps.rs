//! Which stamps can be.

use core::time::Duration;

use semfio_machine::{Clock, Instant, Now, Stamp};

/// Stamps are whole microseconds: so much later a departure may seem.
const GRAIN: Duration = Duration::from_micros(1);

/// When an answer to what left at `left` arrived: as its stamp says, unless that is before the
/// departure or in the future. Then it is now, by the clock of the process.
pub(crate) fn arrival(now: Now, left: Instant, stamp: Stamp) -> Result<Stamp, Stamp> {
    if stamp.at.saturating_add(GRAIN) >= left && stamp.at <= now.mono {
        Ok(stamp)
    } else {
        Err(Stamp { at: now.mono, clock: Clock::User })
    }
}
