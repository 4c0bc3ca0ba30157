//! The audit log for people who do not trust its owner, on the real binary: checkpoints as servers sign them, exports
//! of a database in use, a verifier of other hands (`verify.py`) beside ours, checkpoints that are
//! kept elsewhere, and secrets that show nowhere.

mod anchors;
mod commands;
mod secrets;
mod stage;
mod tampering;
