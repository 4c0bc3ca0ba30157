//! Secret stores from which Web3Signer takes keys: where each is, how to log in, and which secrets are keys.
//!
//! Guarantees: what is there is complete, or refused with its name; credentials are secret texts, and whatever comes into an
//! address has only characters that cannot change where the address points.

use std::time::Duration;

use holdfast_secret::SecretText;

/// Where HashiCorp Vault listens if nothing says otherwise.
const VAULT_PORT: u16 = 8200;
/// How long Web3Signer waits for HashiCorp Vault.
const VAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long Web3Signer waits for Azure Key Vault.
const AZURE_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest that is waited for whatever a file says.
const MAX_TIMEOUT: Duration = Duration::from_mins(10);
/// Where Web3Signer logs in with the account of a pod.
const KUBERNETES_MOUNT: &str = "kubernetes";
/// The member of a secret that Web3Signer takes if none is named.
const VAULT_NAME: &str = "value";

/// A secret that is one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredSecret {
    /// In HashiCorp Vault.
    Hashicorp {
        /// Where.
        store: HashicorpStore,
        /// The path of its HTTP API, with `/v1/` in front.
        path: String,
        /// The member of the secret.
        name: String,
    },
    /// In AWS Secrets Manager.
    Aws {
        /// Where.
        store: AwsStore,
        /// Name or ARN.
        name: String,
    },
    /// In Azure Key Vault.
    Azure {
        /// Where.
        store: AzureStore,
        /// Name.
        name: String,
    },
}

/// A key-value engine of HashiCorp Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashicorpStore {
    /// `http://host:port`, or with https.
    pub address: String,
    /// How to log in.
    pub login: HashicorpLogin,
    /// File of known servers, relative to the directory of the key file; certificates that others vouch for are good
    /// without.
    pub known_servers: Option<String>,
    /// How long one request may take.
    pub timeout: Duration,
}

/// How to log in to HashiCorp Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashicorpLogin {
    /// With a token.
    Token(SecretText),
    /// As the service account of a pod.
    Kubernetes {
        /// The role.
        role: String,
        /// File with the account's token, relative to the directory of the key file; where Kubernetes puts it without.
        token_file: Option<String>,
        /// Where the login is mounted.
        mount: String,
    },
}

/// AWS Secrets Manager of one region and account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsStore {
    /// The region. With the platform's credentials the platform's own region comes first, as in Web3Signer.
    pub region: Option<String>,
    /// Another address than the region's.
    pub endpoint: Option<String>,
    /// Identifier and secret of an access key; without it the platform's own credentials.
    pub access_key: Option<(String, SecretText)>,
}

/// An Azure Key Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureStore {
    /// Its name.
    pub vault: String,
    /// How to log in.
    pub login: AzureLogin,
    /// How long one request may take.
    pub timeout: Duration,
}

/// How to log in to Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureLogin {
    /// As an application.
    ClientSecret {
        /// Its tenant.
        tenant: String,
        /// Its identifier.
        client: String,
        /// Its secret.
        secret: SecretText,
    },
    /// As the identity of the machine, or as this one of several.
    ManagedIdentity(Option<String>),
}

/// Something about a store that is missing or no good. Names are those of the place it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is not there.
    Missing(&'static str),
    /// It is not this.
    NotA(&'static str, &'static str),
}

/// A place that gives one text for a name.
pub(super) trait Texts {
    /// The text of that name, if it is there once and not empty.
    fn text(&self, name: &str) -> Option<&SecretText>;

    /// The text of that name, which must be there.
    fn need(&self, name: &'static str) -> Result<&str, Flaw> {
        self.text(name).map(SecretText::expose).ok_or(Flaw::Missing(name))
    }
}

/// What the settings of a store are called.
pub(super) struct AwsNames {
    pub(super) mode: &'static str,
    pub(super) region: &'static str,
    pub(super) id: &'static str,
    pub(super) secret: &'static str,
    pub(super) endpoint: &'static str,
}

/// Likewise.
pub(super) struct AzureNames {
    pub(super) mode: &'static str,
    pub(super) vault: &'static str,
    pub(super) tenant: &'static str,
    pub(super) client: &'static str,
    pub(super) secret: &'static str,
    pub(super) timeout: &'static str,
}

pub(super) fn hashicorp(texts: &impl Texts) -> Result<StoredSecret, Flaw> {
    let host = plain(texts.need("serverHost")?, "serverHost", "-._:[]", "the name or address of a host")?;
    let port = match texts.text("serverPort") {
        Some(text) => text.expose().parse().map_err(|_| Flaw::NotA("serverPort", "a port"))?,
        None => VAULT_PORT,
    };
    let tls = switch(texts, "tlsEnabled")?;
    let text = |name: &str| texts.text(name).map(|text| text.expose().to_owned());
    let login = match texts.text("authMethod").map_or("TOKEN", SecretText::expose) {
        "TOKEN" => HashicorpLogin::Token(texts.text("token").ok_or(Flaw::Missing("token"))?.clone()),
        "KUBERNETES" => {
            let mount = text("kubernetesAuthPath").unwrap_or_else(|| KUBERNETES_MOUNT.to_owned());
            HashicorpLogin::Kubernetes {
                role: texts.need("kubernetesRole")?.to_owned(),
                token_file: text("kubernetesServiceAccountTokenPath"),
                mount: plain(mount.trim_matches('/'), "kubernetesAuthPath", "-._/", "a path")?,
            }
        }
        _ => return Err(Flaw::NotA("authMethod", "TOKEN or KUBERNETES")),
    };
    let path = texts.need("keyPath")?.trim_start_matches('/');
    let path = plain(path, "keyPath", "-._~/%?=&+@:,", "a path such as /v1/secret/data/name")?;
    Ok(StoredSecret::Hashicorp {
        store: HashicorpStore {
            address: format!("{}://{host}:{port}", if tls { "https" } else { "http" }),
            login,
            known_servers: text("tlsKnownServersPath").filter(|_| tls),
            timeout: timeout(texts, "timeout", Duration::from_millis, VAULT_TIMEOUT)?,
        },
        path: format!("/{path}"),
        name: text("keyName").unwrap_or_else(|| VAULT_NAME.to_owned()),
    })
}

pub(super) fn aws(texts: &impl Texts, names: &AwsNames) -> Result<AwsStore, Flaw> {
    let of_platform = match texts.text(names.mode).map_or("SPECIFIED", SecretText::expose) {
        "SPECIFIED" => false,
        "ENVIRONMENT" => true,
        _ => return Err(Flaw::NotA(names.mode, "SPECIFIED or ENVIRONMENT")),
    };
    let region = match texts.text(names.region) {
        Some(text) => Some(plain(text.expose(), names.region, "-", "the name of a region")?),
        None if of_platform => None,
        None => return Err(Flaw::Missing(names.region)),
    };
    let access_key = if of_platform {
        None
    } else {
        let secret = texts.text(names.secret).ok_or(Flaw::Missing(names.secret))?;
        Some((texts.need(names.id)?.to_owned(), secret.clone()))
    };
    let endpoint = texts.text(names.endpoint).map(|text| {
        let text = text.expose();
        let web = text.starts_with("https://") || text.starts_with("http://");
        if web { Ok(text.to_owned()) } else { Err(Flaw::NotA(names.endpoint, "an address with https://")) }
    });
    Ok(AwsStore { region, endpoint: endpoint.transpose()?, access_key })
}

pub(super) fn azure(texts: &impl Texts, names: &AzureNames) -> Result<AzureStore, Flaw> {
    let vault = plain(texts.need(names.vault)?, names.vault, "-", "the name of a vault: letters, digits and dashes")?;
    let login = match texts.text(names.mode).map_or("CLIENT_SECRET", SecretText::expose) {
        "CLIENT_SECRET" => AzureLogin::ClientSecret {
            tenant: plain(texts.need(names.tenant)?, names.tenant, "-.", "the identifier of a tenant")?,
            client: texts.need(names.client)?.to_owned(),
            secret: texts.text(names.secret).ok_or(Flaw::Missing(names.secret))?.clone(),
        },
        "USER_ASSIGNED_MANAGED_IDENTITY" => AzureLogin::ManagedIdentity(Some(plain(
            texts.need(names.client)?,
            names.client,
            "-",
            "the identifier of an identity",
        )?)),
        "SYSTEM_ASSIGNED_MANAGED_IDENTITY" => AzureLogin::ManagedIdentity(None),
        _ => {
            return Err(Flaw::NotA(
                names.mode,
                "CLIENT_SECRET, USER_ASSIGNED_MANAGED_IDENTITY or SYSTEM_ASSIGNED_MANAGED_IDENTITY",
            ));
        }
    };
    Ok(AzureStore { vault, login, timeout: timeout(texts, names.timeout, Duration::from_secs, AZURE_TIMEOUT)? })
}

/// A text that goes into an address.
pub(super) fn plain(text: &str, name: &'static str, more: &str, what: &'static str) -> Result<String, Flaw> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte);
    let climbs = text.split('/').any(|part| part == "." || part == "..");
    if text.is_empty() || climbs || !text.bytes().all(good) {
        return Err(Flaw::NotA(name, what));
    }
    Ok(text.to_owned())
}

fn switch(texts: &impl Texts, name: &'static str) -> Result<bool, Flaw> {
    match texts.text(name).map_or("false", SecretText::expose) {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Flaw::NotA(name, "true or false")),
    }
}

fn timeout(
    texts: &impl Texts,
    name: &'static str,
    unit: fn(u64) -> Duration,
    default: Duration,
) -> Result<Duration, Flaw> {
    let Some(text) = texts.text(name) else { return Ok(default) };
    match text.expose().parse() {
        Ok(number) if number > 0 => Ok(unit(number).min(MAX_TIMEOUT)),
        _ => Err(Flaw::NotA(name, "a number above 0")),
    }
}

#[cfg(test)]
mod tests {
    //! Proves: defaults are Web3Signer's, what it would refuse is refused, and nothing leads an address elsewhere.
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    struct Map(BTreeMap<&'static str, SecretText>);

    impl Texts for Map {
        fn text(&self, name: &str) -> Option<&SecretText> {
            self.0.get(name)
        }
    }

    fn map(pairs: &[(&'static str, &str)]) -> Map {
        Map(pairs.iter().map(|(name, text)| (*name, SecretText::new(*text))).collect())
    }

    const VAULT: [(&str, &str); 3] = [("serverHost", "v"), ("keyPath", "/v1/secret/data/k"), ("token", "s.abc")];

    #[test]
    fn a_vault_with_and_without_its_defaults() {
        let StoredSecret::Hashicorp { store, path, name } = hashicorp(&map(&VAULT)).unwrap() else { panic!("a vault") };
        assert_eq!(
            (store.address.as_str(), path.as_str(), name.as_str()),
            ("http://v:8200", "/v1/secret/data/k", "value")
        );
        assert_eq!((store.timeout, store.known_servers), (VAULT_TIMEOUT, None));
        let more = [
            ("serverPort", "8201"),
            ("tlsEnabled", "true"),
            ("tlsKnownServersPath", "known"),
            ("timeout", "1500"),
            ("keyName", "key"),
            ("authMethod", "KUBERNETES"),
            ("kubernetesRole", "signer"),
            ("kubernetesAuthPath", "/k8s/"),
        ];
        let all = hashicorp(&map(&[&VAULT[..2], &more].concat())).unwrap();
        let StoredSecret::Hashicorp { store, name, .. } = all else { panic!("a vault") };
        assert_eq!((store.address.as_str(), name.as_str()), ("https://v:8201", "key"));
        assert_eq!((store.timeout.as_millis(), store.known_servers.as_deref()), (1500, Some("known")));
        let login = HashicorpLogin::Kubernetes { role: "signer".into(), token_file: None, mount: "k8s".into() };
        assert_eq!(store.login, login);
    }

    #[test]
    fn what_is_missing_or_no_good_is_named() {
        let vault = |more: &[(&'static str, &str)]| hashicorp(&map(&[&VAULT, more].concat())).unwrap_err();
        assert_eq!(hashicorp(&map(&VAULT[..2])), Err(Flaw::Missing("token")));
        for (name, text) in [
            ("serverHost", "v/x"),
            ("serverHost", "u@v"),
            ("serverPort", "99999"),
            ("tlsEnabled", "maybe"),
            ("authMethod", "APPROLE"),
            ("keyPath", "/v1/../sys/raw"),
            ("keyPath", "/v1/a b"),
            ("timeout", "0"),
        ] {
            assert!(matches!(vault(&[(name, text)]), Flaw::NotA(named, _) if named == name), "{name} {text}");
        }
        let names = AwsNames { mode: "m", region: "r", id: "i", secret: "s", endpoint: "e" };
        let all = [("r", "eu-west-1"), ("i", "AKIA"), ("s", "x")];
        assert!(aws(&map(&all), &names).unwrap().access_key.is_some());
        for (without, name) in [(0, "r"), (1, "i"), (2, "s")] {
            let mut some = all.to_vec();
            some.remove(without);
            assert_eq!(aws(&map(&some), &names), Err(Flaw::Missing(name)));
        }
        let platform = aws(&map(&[("m", "ENVIRONMENT")]), &names).unwrap();
        assert_eq!((platform.region, platform.access_key), (None, None));
        assert!(matches!(aws(&map(&[&all[..], &[("e", "ftp://x")]].concat()), &names), Err(Flaw::NotA("e", _))));
        let names = AzureNames { mode: "m", vault: "v", tenant: "t", client: "c", secret: "s", timeout: "o" };
        assert_eq!(azure(&map(&[("v", "x"), ("t", "x"), ("c", "x")]), &names), Err(Flaw::Missing("s")));
        let user = map(&[("v", "x"), ("m", "USER_ASSIGNED_MANAGED_IDENTITY"), ("c", "id")]);
        assert_eq!(azure(&user, &names).unwrap().login, AzureLogin::ManagedIdentity(Some("id".to_owned())));
        let system = azure(&map(&[("v", "x"), ("m", "SYSTEM_ASSIGNED_MANAGED_IDENTITY"), ("o", "7")]), &names).unwrap();
        assert_eq!((system.login, system.timeout), (AzureLogin::ManagedIdentity(None), Duration::from_secs(7)));
        assert!(matches!(azure(&map(&[("v", "x.evil.example/")]), &names), Err(Flaw::NotA("v", _))));
    }

    proptest! {
        #[test]
        fn no_host_or_path_leads_elsewhere(host in "[ -~]{1,20}", path in "[ -~]{1,20}") {
            let texts = map(&[("serverHost", host.as_str()), ("keyPath", path.as_str()), ("token", "x")]);
            if let Ok(StoredSecret::Hashicorp { store, path, .. }) = hashicorp(&texts) {
                prop_assert_eq!(store.address, format!("http://{host}:8200"));
                prop_assert!(!host.contains(['/', '@', '?', '#', '\\']) && path.starts_with('/'));
                prop_assert!(!path.contains('#') && !path.split('/').any(|part| part == ".."));
            }
        }
    }
}
