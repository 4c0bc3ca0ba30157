//! Databases that lost acknowledged writes, under the real binary: every way to get there freezes
//! blocks and attestations, the fence is the way out, and a killed process never raises a false alarm.
//!
//! `HOLDFAST_KILL_ROUNDS` makes the last test longer, `HOLDFAST_SEED` replays it.

mod alarms;
mod kills;
mod stage;
