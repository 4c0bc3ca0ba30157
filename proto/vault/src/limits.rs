//! Every bound of the protocol. Both sides refuse what exceeds one, and end the connection.

/// Longest frame in bytes, without its length field.
pub const MAX_FRAME: usize = 64 * 1024;
/// Most signatures asked for in one frame. An item takes at most about 350 bytes, so a full batch fits.
pub const MAX_ITEMS: usize = 128;
/// Most keys provisioned, forgotten or listed in one frame.
pub const MAX_KEYS: usize = 256;
/// Longest sealed key in bytes; format 1 has 85.
pub const MAX_SEALED: usize = 128;
/// Most rows of a fork schedule after phase0.
pub const MAX_FORKS: usize = 32;
/// Longest name, of a network or a program, in bytes.
pub const MAX_NAME: usize = 128;
/// Longest nonce of an attestation in bytes (the Nitro security module takes no longer ones).
pub const MAX_NONCE: usize = 512;
/// Longest attestation document in bytes; real ones have about 5,000, and the module answers at most 12 KiB.
pub const MAX_DOCUMENT: usize = 12 * 1024;
/// Longest public key of a boot in bytes (the Nitro security module takes no longer ones); RSA-2048 has 294.
pub const MAX_BOOT_KEY: usize = 1_024;
/// Longest encrypted data key in bytes; that of a key service has about 500.
pub const MAX_CMS: usize = 2_048;
/// Longest RSA ciphertext in bytes: that of RSA-4096.
pub const MAX_WRAPPED_KEY: usize = 512;
/// Length of an encrypted private key in bytes: nonce, 32 bytes, tag.
pub const ENCRYPTED_KEY: usize = 12 + 32 + 16;
/// Most keys made in one frame. Deriving one takes a few milliseconds, in which nothing else is answered.
pub const MAX_GENERATED: usize = 32;
/// Length of a seed (BIP-39) in bytes.
pub const SEED: usize = 64;
/// Most witnesses, and most of what is for or from each.
pub const MAX_WITNESSES: usize = 15;
/// Longest message for or from a witness, in bytes.
pub const MAX_WITNESS_MESSAGE: usize = 512;
/// Longest page of a checkpoint, in bytes.
pub const MAX_PAGE: usize = 60 * 1024;
