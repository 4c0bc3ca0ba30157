//! The audit log for people who do not trust its owner, on the real binary: checkpoints as servers sign them, exports
//! of a database in use, and a verifier of other hands (`verify.py`) beside ours.

mod commands;
mod stage;
mod tampering;
