//! Signing takes the permit by value.
use holdfast_slashing_db::SigningPermit;

fn sign(permit: SigningPermit) {
    drop(permit);
}

fn twice(permit: SigningPermit) {
    sign(permit);
    sign(permit);
}

fn main() {}
