//! The constructor is crate-private.
use holdfast_domain::{MessageKind, PublicKey, SigningRoot};
use holdfast_slashing_db::SigningPermit;

fn forge(key: PublicKey, root: SigningRoot, kind: MessageKind) -> SigningPermit {
    SigningPermit::mint(key, root, kind, todo!(), todo!(), todo!(), todo!())
}

fn main() {}
