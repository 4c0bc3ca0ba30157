//! One permit, one signature.
use holdfast_slashing_db::SigningPermit;

fn twice(permit: &SigningPermit) -> (SigningPermit, SigningPermit) {
    (permit.clone(), SigningPermit::clone(permit))
}

fn main() {}
