//! Who asks: from what a connection and a request prove to a name that policy, the journal and logs use.
//!
//! Why it exists: every door (the signing API, the Keymanager API, reload, the admin API) must take callers in the
//! same way. What it guarantees: a [`Principal`] is made in this module only, so a handler that has one has a caller
//! whose name was proved, or that of the listener where nothing is configured.

mod principal;

pub(crate) use principal::Principal;
