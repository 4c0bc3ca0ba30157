//! There is no permit out of nothing.
use holdfast_slashing_db::SigningPermit;

fn forge() -> SigningPermit {
    Default::default()
}

fn main() {}
