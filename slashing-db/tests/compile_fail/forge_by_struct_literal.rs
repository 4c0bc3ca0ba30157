//! A permit cannot be written down: its fields are private.
use holdfast_domain::{MessageKind, PublicKey, SigningRoot};
use holdfast_slashing_db::SigningPermit;

fn forge(key: PublicKey, root: SigningRoot, kind: MessageKind) -> SigningPermit {
    SigningPermit { key, root, kind, statement: todo!(), basis: todo!(), times: todo!() }
}

fn main() {}
