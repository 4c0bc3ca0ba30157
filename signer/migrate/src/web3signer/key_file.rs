//! Web3Signer's key configuration files: one key per document, and where its secret is.
//!
//! Guarantees: each document is one [`KeySource`] or one [`KeyFileError`]; a bad document costs no other of its file.
//! A raw key is a secret text from the parser on.

use holdfast_secret::SecretText;

use super::secrets::{AwsNames, AzureNames, Flaw, StoredSecret, Texts, aws, azure, hashicorp, plain};
use crate::yaml::{Document, Entry, YamlError, documents};

/// Hexadecimal digits of a secret key.
const RAW_DIGITS: usize = 64;

/// Where the secret of one key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In the key file itself, in clear: 64 hexadecimal digits, without 0x.
    Raw(SecretText),
    /// In a keystore (EIP-2335). Both paths are relative to the directory of the key file.
    Keystore {
        /// The keystore.
        keystore: String,
        /// The file whose first line is its password.
        password: String,
    },
    /// In a secret store.
    Stored {
        /// Which secret of which store.
        secret: Box<StoredSecret>,
        /// A command that fetches it, for an operator.
        command: String,
    },
    /// No validator's key (secp256k1): it belongs to Web3Signer's other half and stays there.
    NotBls,
}

/// Why a document names no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// No type.
    #[error("line {line}: no type; a key file begins with one, such as `type: file-keystore`")]
    NoType {
        /// Where the document begins.
        line: usize,
    },
    /// A type Web3Signer does not have.
    #[error(
        "line {line}: a type that is not known; expected file-raw, file-keystore, hashicorp, aws-secret or azure-secret"
    )]
    UnknownType {
        /// Where it is.
        line: usize,
    },
    /// Something the type needs is missing.
    #[error("line {line}: {name} is missing or no single text; complete the file")]
    Missing {
        /// Where the document begins.
        line: usize,
        /// What is missing.
        name: &'static str,
    },
    /// Something is there and no good.
    #[error("line {line}: {name} is not {what}; correct the file")]
    NotA {
        /// Where the document begins.
        line: usize,
        /// What it is about.
        name: &'static str,
        /// What it should be.
        what: &'static str,
    },
    /// The key in clear is none.
    #[error("line {line}: privateKey is not 64 hexadecimal digits; get another copy of the key (it is not shown)")]
    NotAKey {
        /// Where it is.
        line: usize,
    },
    /// keyType is neither BLS nor SECP256K1.
    #[error("line {line}: keyType is neither BLS nor SECP256K1")]
    KeyType {
        /// Where it is.
        line: usize,
    },
}

/// Reads a key file.
///
/// # Errors
/// [`YamlError`] if the file as a whole is not understood.
pub fn key_file(text: &str) -> Result<Vec<Result<KeySource, KeyFileError>>, YamlError> {
    Ok(documents(text)?.iter().map(|document| Key { document }.source()).collect())
}

struct Key<'a> {
    document: &'a Document,
}

impl Key<'_> {
    fn entry(&self, name: &str) -> Option<&Entry> {
        self.document.iter().find(|entry| entry.name == name)
    }

    fn line(&self) -> usize {
        self.document.first().map_or(1, |entry| entry.line)
    }

    /// A text that must be there.
    fn need(&self, name: &'static str) -> Result<&SecretText, KeyFileError> {
        self.text(name).ok_or(KeyFileError::Missing { line: self.line(), name })
    }

    fn source(&self) -> Result<KeySource, KeyFileError> {
        let Some(kind) = self.entry("type") else { return Err(KeyFileError::NoType { line: self.line() }) };
        let name = kind.texts.first().map_or("", SecretText::expose);
        if let Some(entry) = self.entry("keyType") {
            match entry.texts.first().map_or("", SecretText::expose).to_ascii_uppercase().as_str() {
                "BLS" => {}
                "SECP256K1" => return Ok(KeySource::NotBls),
                _ => return Err(KeyFileError::KeyType { line: entry.line }),
            }
        }
        match name {
            "file-raw" => self.raw(),
            "file-keystore" => Ok(KeySource::Keystore {
                keystore: self.need("keystoreFile")?.expose().to_owned(),
                password: self.need("keystorePasswordFile")?.expose().to_owned(),
            }),
            "hashicorp" => self.hashicorp(),
            "aws-secret" => self.aws(),
            "azure-secret" => self.azure(),
            "azure-key" | "aws-kms" => Ok(KeySource::NotBls),
            _ => Err(KeyFileError::UnknownType { line: kind.line }),
        }
    }

    fn raw(&self) -> Result<KeySource, KeyFileError> {
        let text = self.need("privateKey")?;
        let digits = text.expose().strip_prefix("0x").unwrap_or(text.expose());
        let line = self.entry("privateKey").map_or(1, |entry| entry.line);
        if digits.len() != RAW_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(KeyFileError::NotAKey { line });
        }
        Ok(KeySource::Raw(SecretText::new(digits)))
    }

    fn hashicorp(&self) -> Result<KeySource, KeyFileError> {
        let secret = hashicorp(self).map_err(|flaw| self.flawed(flaw))?;
        let mut command = String::new();
        if let StoredSecret::Hashicorp { path, name, .. } = &secret {
            // As the HTTP API has it: /v1/<mount>/data/<path>.
            let path = path.trim_start_matches('/');
            let path = path.strip_prefix("v1/").unwrap_or(path).replacen("/data/", "/", 1);
            command = format!("vault kv get -field={} {}", quoted(name), quoted(&path));
        }
        Ok(KeySource::Stored { secret: Box::new(secret), command })
    }

    fn aws(&self) -> Result<KeySource, KeyFileError> {
        let names = AwsNames {
            mode: "authenticationMode",
            region: "region",
            id: "accessKeyId",
            secret: "secretAccessKey",
            endpoint: "endpointOverride",
        };
        let store = aws(self, &names).map_err(|flaw| self.flawed(flaw))?;
        let (region, name) = (self.need("region")?.expose(), self.need("secretName")?.expose().to_owned());
        let command = format!(
            "aws secretsmanager get-secret-value --region {} --secret-id {} --query SecretString --output text",
            quoted(region),
            quoted(&name)
        );
        Ok(KeySource::Stored { secret: Box::new(StoredSecret::Aws { store, name }), command })
    }

    fn azure(&self) -> Result<KeySource, KeyFileError> {
        let names = AzureNames {
            mode: "authenticationMode",
            vault: "vaultName",
            tenant: "tenantId",
            client: "clientId",
            secret: "clientSecret",
            timeout: "timeout",
        };
        let store = azure(self, &names).map_err(|flaw| self.flawed(flaw))?;
        let name = plain(self.need("secretName")?.expose(), "secretName", "-", "the name of a secret");
        let name = name.map_err(|flaw| self.flawed(flaw))?;
        let command = format!(
            "az keyvault secret show --vault-name {} --name {} --query value --output tsv",
            quoted(&store.vault),
            quoted(&name)
        );
        Ok(KeySource::Stored { secret: Box::new(StoredSecret::Azure { store, name }), command })
    }

    fn flawed(&self, flaw: Flaw) -> KeyFileError {
        let line = self.line();
        match flaw {
            Flaw::Missing(name) => KeyFileError::Missing { line, name },
            Flaw::NotA(name, what) => KeyFileError::NotA { line, name, what },
        }
    }
}

impl Texts for Key<'_> {
    fn text(&self, name: &str) -> Option<&SecretText> {
        match self.entry(name).map(|entry| entry.texts.as_slice()) {
            Some([text]) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte);
    if !text.is_empty() && !text.starts_with('-') && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Result<KeySource, KeyFileError> {
        let mut keys = key_file(text).unwrap();
        assert_eq!(keys.len(), 1, "{text}");
        keys.remove(0)
    }

    fn command(text: &str) -> String {
        match one(text).unwrap() {
            KeySource::Stored { command, .. } => command,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_of_several_keys_and_one_that_is_bad() {
        let raw = "12".repeat(32);
        let keys = key_file(&format!(
            "type: file-raw\nkeyType: BLS\nprivateKey: 0x{raw}\n---\ntype: file-keystore\nkeystoreFile: a b.json\n---\n\
             type: \"file-keystore\"\nkeystoreFile: a b.json\nkeystorePasswordFile: 'p.txt'\n---\ntype: file-raw\n\
             keyType: SECP256K1\nprivateKey: {raw}\n---\ntype: aws-kms\n"
        ))
        .unwrap();
        assert_eq!(keys[0], Ok(KeySource::Raw(SecretText::new(raw))));
        assert_eq!(keys[1], Err(KeyFileError::Missing { line: 5, name: "keystorePasswordFile" }));
        let named = KeySource::Keystore { keystore: "a b.json".to_owned(), password: "p.txt".to_owned() };
        assert_eq!(keys[2], Ok(named));
        assert_eq!(keys[3..], [Ok(KeySource::NotBls), Ok(KeySource::NotBls)]);
    }

    #[test]
    fn services_are_named_with_the_command_that_fetches() {
        assert_eq!(
            command(
                "type: hashicorp\nserverHost: v\nkeyPath: /v1/secret/data/validators/7\nkeyName: value\ntoken: s.abc\n"
            ),
            "vault kv get -field=value secret/validators/7"
        );
        assert_eq!(
            command("type: aws-secret\nregion: eu-1\nsecretName: a'b; rm\naccessKeyId: A\nsecretAccessKey: hunter2\n"),
            "aws secretsmanager get-secret-value --region eu-1 --secret-id 'a'\\''b; rm' --query SecretString --output text"
        );
        assert_eq!(
            command(
                "type: azure-secret\nvaultName: v\nsecretName: -x\ntenantId: t\nclientId: c\nclientSecret: hunter2\n"
            ),
            "az keyvault secret show --vault-name v --name '-x' --query value --output tsv"
        );
    }

    #[test]
    fn what_is_no_key_says_so_and_shows_none() {
        let bare = one("type: aws-secret\nregion: eu-1\nsecretName: a\n");
        assert_eq!(bare, Err(KeyFileError::Missing { line: 1, name: "secretAccessKey" }));
        let odd = one("type: azure-secret\nvaultName: v/x\nsecretName: a\nclientSecret: hunter2\n").unwrap_err();
        assert!(matches!(odd, KeyFileError::NotA { name: "vaultName", .. }) && !odd.to_string().contains("v/x"));
        assert_eq!(one("x: 1\n"), Err(KeyFileError::NoType { line: 1 }));
        assert_eq!(one("type: yubihsm2\n"), Err(KeyFileError::UnknownType { line: 1 }));
        assert_eq!(one("type: file-raw\nkeyType: ED\n"), Err(KeyFileError::KeyType { line: 2 }));
        for bad in ["1234", &"zz".repeat(32), &"12".repeat(33), &format!("0x0x{}", "12".repeat(31))] {
            let error = one(&format!("type: file-raw\nprivateKey: \"{bad}\"\n")).unwrap_err();
            assert_eq!(error, KeyFileError::NotAKey { line: 2 });
            assert!(!error.to_string().contains(bad));
        }
        let raw = "ab".repeat(32);
        assert!(!format!("{:?}", one(&format!("type: file-raw\nprivateKey: {raw}\n"))).contains(&raw));
    }

    proptest! {
        #[test]
        fn every_key_in_clear_is_read(digits in "[0-9a-fA-F]{64}", prefix in any::<bool>()) {
            let text = format!("type: file-raw\nprivateKey: '{}{digits}'\n", if prefix { "0x" } else { "" });
            prop_assert_eq!(one(&text), Ok(KeySource::Raw(SecretText::new(digits))));
        }

        #[test]
        fn what_is_quoted_ends_where_it_should(text in "[ -~]{0,30}") {
            // Outside quotes nothing but plain characters and escaped quotes may be left.
            let outside: String = quoted(&text).replace("'\\''", "").split('\'').step_by(2).collect();
            prop_assert!(outside.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte)));
        }
    }
}
