//! Databases that lost acknowledged writes, under the real binary: every way to get there freezes
//! blocks and attestations, the fence is the way out, and a killed process never raises a false alarm.
//!
//! On PostgreSQL the same with two instances, where one must notice what only the other one lost.
//!
//! `HOLDFAST_KILL_ROUNDS` makes the last test longer, `HOLDFAST_SEED` replays it.

mod alarms;
mod fleet;
mod kills;
mod shared;
mod stage;
