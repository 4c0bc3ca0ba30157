//! The vocabulary of Holdfast, with no I/O, no async, no secrets and no clock of its own.
//!
//! Every other crate speaks in these types. What it guarantees: a [`SigningRoot`] is always
//! *computed* here, from a typed message (or its [`Statement`]), and can be made in no other way; a root that came from
//! outside is an [`ObservedRoot`] and is only ever compared.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod body;
pub mod error;
pub mod fork;
pub mod gloas;
pub mod ids;
pub mod intent;
pub mod merkle;
pub mod message;
pub mod network;
mod rfc3339;
pub mod root;
mod roots;
pub mod statement;
pub mod time;

pub use error::TreeError;
pub use fork::{Domain, DomainType, Fork, ForkInfo, ForkName, ForkVersion, GenesisValidatorsRoot};
pub use ids::{PublicKey, ValidatorIndex};
pub use intent::{IntentError, Restated, SigningIntent};
pub use message::{Message, MessageKind, Slashable, SlashableKind, Subject, Unslashable, UnslashableKind};
pub use network::{Network, NetworkError, Preset};
pub use root::{ObjectRoot, ObservedRoot, SigningRoot};
pub use statement::{Hashed, Stated, Statement};
pub use time::{Clock, Epoch, Slot, SlotClock, UnixMillis};
