//! From the configuration to nodes that can be connected to: names checked, secrets read from their files.

use std::path::Path;
use std::sync::Arc;

use holdfast_beacon::execution::{ExecutionNodeConfig, WebSocketUrl};
use holdfast_beacon::{
    Auth, Policy, PriorityTier, Resolve, Role, Roles, TlsOptions, Upstream, UpstreamConfig, UpstreamConfigError,
    UpstreamName, UpstreamUrl, Weight,
};
use holdfast_secret::SecretText;

use crate::config::{Balance, Config, RoleName, UpstreamEntry};

/// Why a node of the configuration cannot be used. Names it without its credentials.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// Its address, name or a header is unusable.
    #[error("node {node}")]
    Unusable {
        /// Its name, or its address without credentials.
        node: String,
        /// Why.
        #[source]
        source: UpstreamConfigError,
    },
    /// A file of it cannot be read.
    #[error("node {node}: cannot read {}", path.display())]
    File {
        /// Its name, or its address without credentials.
        node: String,
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address of its WebSocket API is unusable.
    #[error("node {node}: websocket_url")]
    WebSocket {
        /// Its name, or its address without credentials.
        node: String,
        /// Why.
        #[source]
        source: holdfast_beacon::execution::BadWebSocketUrl,
    },
    /// A name with several addresses, in the execution pool.
    #[error("node {node}: each_address is for consensus clients; list the execution clients one by one")]
    EachAddress {
        /// Its name, or its address without credentials.
        node: String,
    },
}

/// A consensus client.
///
/// # Errors
/// [`NodeError`], which names the node and what to mend.
pub(crate) fn consensus(entry: &UpstreamEntry) -> Result<UpstreamConfig, NodeError> {
    let node = || entry.name.clone().unwrap_or_else(|| entry.url.to_string());
    let unusable = |source| NodeError::Unusable { node: node(), source };
    let url: UpstreamUrl = entry.url.expose().parse().map_err(unusable)?;
    let name = entry.name.clone().unwrap_or_else(|| url.host_and_port());
    let mut config = UpstreamConfig::new(UpstreamName::new(name).map_err(unusable)?, url);
    config.weight = Weight(entry.weight);
    config.tier = PriorityTier(entry.tier);
    if let Some(roles) = &entry.roles {
        config.roles = roles.iter().copied().map(role).collect::<Roles>();
    }
    config.headers.clone_from(&entry.headers);
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| NodeError::File { node: node(), path: path.to_owned(), source })
    };
    if let (Some(user), Some(path)) = (&entry.username, &entry.password_file) {
        config.auth = Some(Auth::Basic { user: user.clone(), password: secret(&read(path)?) });
    }
    if let Some(path) = &entry.token_file {
        config.auth = Some(Auth::Bearer(secret(&read(path)?)));
    }
    if let Some(path) = &entry.ca_file {
        config.tls = TlsOptions { own_ca_pem: read(path)?, ..TlsOptions::default() };
    }
    if entry.each_address {
        config.resolve = Resolve::EachAddress;
    }
    Ok(config)
}

/// An execution client.
///
/// # Errors
/// [`NodeError`], which names the node and what to mend.
pub(crate) fn execution(entry: &UpstreamEntry) -> Result<ExecutionNodeConfig, NodeError> {
    let upstream = consensus(entry)?;
    let node = upstream.name.as_str().to_owned();
    if entry.each_address {
        return Err(NodeError::EachAddress { node });
    }
    let websocket: Option<WebSocketUrl> = match &entry.websocket_url {
        Some(url) => Some(url.expose().parse().map_err(|source| NodeError::WebSocket { node, source })?),
        None => None,
    };
    Ok(ExecutionNodeConfig { upstream, websocket })
}

/// The middleware of a distributed validator, if there is one.
///
/// # Errors
/// [`NodeError`] if its address cannot be used.
pub(crate) fn middleware(config: &Config) -> Result<Option<Arc<Upstream>>, NodeError> {
    let Some(url) = &config.switcher.middleware else { return Ok(None) };
    let entry = UpstreamEntry::at(url.clone());
    let unusable = |source| NodeError::Unusable { node: url.to_string(), source };
    Upstream::standalone(consensus(&entry)?).map(Some).map_err(unusable)
}

/// The policy a word of the configuration stands for.
pub(crate) const fn policy(balance: Balance) -> Policy {
    match balance {
        Balance::BestFirst => Policy::BestFirst,
        Balance::RoundRobin => Policy::RoundRobin,
        Balance::Weighted => Policy::Weighted,
        Balance::Dynamic => Policy::Dynamic,
    }
}

/// The role a word of the configuration stands for.
pub(crate) const fn role(name: RoleName) -> Role {
    match name {
        RoleName::Attestation => Role::Attestation,
        RoleName::Proposal => Role::Proposal,
        RoleName::Sync => Role::Sync,
        RoleName::Submit => Role::Submit,
        RoleName::Builder => Role::Builder,
    }
}

/// The secret in a file. Bytes that are no text make a header that cannot be sent, which is an error of its own later.
fn secret(bytes: &[u8]) -> SecretText {
    SecretText::of_file(String::from_utf8_lossy(bytes).into_owned())
}

/// A file's text without one trailing line break.
pub(crate) fn without_line_break(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    //! Proves: every setting of a node arrives, and errors name the node but not its password.
    use std::io::Write as _;

    use super::*;
    use crate::config::SwitcherConfig;

    fn entry(text: &str) -> UpstreamEntry {
        toml::from_str::<SwitcherConfig>(&format!("[[upstream]]\n{text}")).unwrap().upstream.remove(0)
    }

    #[test]
    fn every_setting_arrives() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"hunter2\n").unwrap();
        let path = file.path().display();
        let config = consensus(&entry(&format!(
            "url = \"http://node:5052/base\"\nname = \"a\"\nweight = 3\ntier = 2\nroles = [\"submit\", \"builder\"]\n\
             headers = {{ x-a = \"b\" }}\neach_address = true\nusername = \"u\"\npassword_file = \"{path}\"\n"
        )))
        .unwrap();
        assert_eq!((config.name.as_str(), config.weight.0.get(), config.tier.0), ("a", 3, 2));
        assert!(config.roles.contains(Role::Builder) && !config.roles.contains(Role::Proposal));
        assert_eq!((config.headers.len(), config.resolve), (1, Resolve::EachAddress));
        assert!(matches!(&config.auth, Some(Auth::Basic { user, .. }) if user == "u"));
        let config = consensus(&entry("url = \"http://node:5052\"")).unwrap();
        assert_eq!(config.name.as_str(), "node:5052");
    }

    #[test]
    fn errors_name_the_node_and_hide_its_password() {
        for (text, word) in [
            ("url = \"http://u:hunter2@node:5052/?a=1\"", "node:5052"),
            ("url = \"http://u:hunter2@node:5052\"\nname = \"no good\"", "no good"),
            ("url = \"http://u:hunter2@node:5052\"\ntoken_file = \"/nonexistent\"", "/nonexistent"),
        ] {
            let error = crate::outcome::chain(&consensus(&entry(text)).unwrap_err());
            assert!(error.contains(word) && !error.contains("hunter2"), "{error}");
        }
        let error = execution(&entry("url = \"http://node:1\"\neach_address = true")).unwrap_err();
        assert!(crate::outcome::chain(&error).contains("one by one"), "{error}");
        let error = execution(&entry("url = \"http://node:1\"\nwebsocket_url = \"node\"")).unwrap_err();
        assert!(crate::outcome::chain(&error).contains("ws://"), "{error}");
    }
}
