//! A root that somebody claims never becomes one that is signed.
use holdfast_domain::{ObservedRoot, SigningRoot};

fn from_observed(claim: ObservedRoot) -> SigningRoot {
    SigningRoot::from(claim)
}

fn main() {}
