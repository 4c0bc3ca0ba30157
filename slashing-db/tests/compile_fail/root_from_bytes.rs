//! A signing root is computed, never parsed.
use holdfast_domain::SigningRoot;

fn from_bytes(bytes: [u8; 32]) -> SigningRoot {
    SigningRoot(bytes)
}

fn main() {}
