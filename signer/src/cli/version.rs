//! `holdfast version`.

use serde_json::json;

use super::{Exit, Failure, Output};

/// The version, as the signing API states it, too.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints the version and what this build contains.
pub(super) fn run(output: Output) -> Result<Exit, Failure> {
    let features = [
        ("store-sqlite", cfg!(feature = "store-sqlite")),
        ("store-postgres", cfg!(feature = "store-postgres")),
        ("provider-file", cfg!(feature = "provider-file")),
        ("provider-passphrase", cfg!(feature = "provider-passphrase")),
        ("provider-aws-kms", cfg!(feature = "provider-aws-kms")),
        ("provider-vault-transit", cfg!(feature = "provider-vault-transit")),
        ("provider-pkcs11", cfg!(feature = "provider-pkcs11")),
        ("provider-gcp-kms", cfg!(feature = "provider-gcp-kms")),
        ("provider-azure-key-vault", cfg!(feature = "provider-azure-key-vault")),
        ("provider-tpm", cfg!(feature = "provider-tpm")),
        ("provider-shares", cfg!(feature = "provider-shares")),
        ("backend-local", cfg!(feature = "backend-local")),
        ("backend-process", cfg!(feature = "backend-process")),
        ("backend-enclave", cfg!(feature = "backend-enclave")),
        ("anchor-s3", cfg!(feature = "anchor-s3")),
    ];
    let features: Vec<&str> = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    output.result(
        format!("holdfast {VERSION} ({target}; {})", features.join(", ")),
        &json!({ "name": "holdfast", "version": VERSION, "target": target, "features": features }),
    )?;
    Ok(Exit::Done)
}
