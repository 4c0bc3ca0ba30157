//! One boot of an enclave: its key, its security module, its clock and its chain, as the vault sees them.
//!
//! Guarantees: the private key never leaves this value and ends with the machine; a failure to decrypt says nothing of
//! its cause.

use std::sync::Arc;

use holdfast_domain::Network;
use holdfast_enclave::vault::enclave::Enclave;
use holdfast_nitro::cms::RecipientKey;
use holdfast_vault_proto::Failure;
use zeroize::Zeroizing;

use crate::clock::EnclaveClock;
use crate::machine::say;
use crate::module::Module;

/// What this boot has.
pub(crate) struct Boot {
    key: RecipientKey,
    module: Option<Arc<Module>>,
    clock: Arc<EnclaveClock>,
    chain: Option<Network>,
}

impl Boot {
    pub(crate) const fn new(
        key: RecipientKey,
        module: Option<Arc<Module>>,
        clock: Arc<EnclaveClock>,
        chain: Option<Network>,
    ) -> Self {
        Self { key, module, clock, chain }
    }
}

impl Enclave for Boot {
    fn boot_key(&self) -> &[u8] {
        self.key.public_key_der()
    }

    fn attest(&self, nonce: &[u8], user_data: &[u8]) -> Result<Vec<u8>, Failure> {
        let module = self.module.as_ref().ok_or(Failure::NoSecurityModule)?;
        module.attest(nonce, user_data, self.boot_key()).map_err(|error| {
            say(&format!("no attestation: {error}"));
            Failure::NoSecurityModule
        })
    }

    fn open(&self, cms: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.key.open(cms).map_err(|_| Failure::NotForThisBoot)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.key.unwrap(wrapped).map_err(|_| Failure::NotForThisBoot)
    }

    fn chain(&self) -> Option<&Network> {
        self.chain.as_ref()
    }

    fn set_clock(&self) -> Result<(), Failure> {
        self.clock.set().map_err(|error| {
            say(&format!("the time is not to be had: {error}"));
            Failure::NoSecurityModule
        })
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: what a key service encrypts to the boot key opens with it and with no other, and what does not open
    //! looks the same whatever it is.

    use holdfast_nitro::cms::seal::{Form, seal};

    use super::*;

    fn boot() -> Boot {
        let clock = EnclaveClock::start(None).unwrap();
        Boot::new(RecipientKey::generate().unwrap(), None, clock, None)
    }

    #[test]
    fn an_envelope_opens_in_the_boot_it_is_for() {
        let [one, two] = [boot(), boot()];
        let envelope = seal(one.boot_key(), &[7; 32], Form::Primitive).unwrap();
        assert_eq!(*one.open(&envelope).unwrap(), [7; 32]);
        assert_eq!(two.open(&envelope), Err(Failure::NotForThisBoot));
        assert_eq!(one.open(b"anything"), Err(Failure::NotForThisBoot));
        assert_eq!(one.unwrap(&envelope), Err(Failure::NotForThisBoot));
        assert_eq!(one.attest(b"nonce", b""), Err(Failure::NoSecurityModule));
    }
}
