//! Signing vectors, negative vectors and captured requests of real clients, through HTTP, on the
//! real binary. What is compared is what a client sees: status, content type, signature; and the
//! signature is checked with plain `blst` over the root the vector (or the client) computed.

mod captured;
mod fixture;
mod own;
mod signing;
