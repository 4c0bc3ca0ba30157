//! `holdfast connect`: what to give a validator client so that it signs here.
//!
//! The flags are those of the clients' own releases; a test pins each of them.

use std::sync::Arc;

use holdfast_domain::PublicKey;
use serde_json::json;

use super::args::{Client, ConnectArgs};
use super::bundle::{self, Bundle};
use super::callers::user_of_url;
use super::{Context, Exit, Failure};
use crate::ask::{Listener, Target};
use crate::clock::SystemClock;
use crate::custody::{self, CustodyError};

/// What to paste, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Snippet {
    /// Flags of the validator client.
    flags: Vec<String>,
    /// A file of the validator client: its name and content.
    file: Option<(&'static str, String)>,
    /// What to know.
    notes: Vec<String>,
}

/// Prints the snippet.
pub(super) async fn run(args: &ConnectArgs, context: &Context) -> Result<Exit, Failure> {
    let url = match &args.url {
        Some(url) => checked_url(url)?,
        None if context.config.http.tls.is_on() => format!("https://{}", context.config.http.listen),
        None => format!("http://{}", context.config.http.listen),
    };
    let (keys, note) = match (public_keys(context).await, args.client) {
        (Ok(keys), _) => {
            let none = "No keys are here yet: `holdfast keys import --from PATH` brings some in.";
            let note = keys.is_empty().then(|| none.to_owned());
            (keys, note)
        }
        // Only Lighthouse has to be told each key; the others ask the signer.
        (Err(failure), Client::Lighthouse) => return Err(failure),
        (
            Err(failure),
            Client::Prysm | Client::Teku | Client::Nimbus | Client::Lodestar | Client::Grandine | Client::Vero,
        ) => (Vec::new(), Some(format!("The keys held here could not be listed: {}", failure.text()))),
    };
    let (url, bundle) = match &args.caller {
        Some(name) => prove(args, name, &url, context)?,
        None => (url, None),
    };
    let mut snippet = snippet(args.client, &url, &keys);
    if args.client == Client::Lodestar && args.caller.is_some() {
        let cannot = "Lodestar asks with Node.js's fetch, which refuses an address with a token in it: let a proxy on its machine add \
                      the token (docs/clients.md). Versions that use cross-fetch take the address as it is.";
        snippet.notes.push(cannot.to_owned());
    }
    if let Some(bundle) = &bundle {
        with_certificate(args.client, &mut snippet, bundle)?;
    }
    snippet.notes.extend(note);
    if let Some(host) = host_not_allowed(&url, &context.config.http.allowed_hosts) {
        snippet
            .notes
            .push(format!("Add {host:?} to http.allowed_hosts, or requests to this address are answered 403."));
    }
    print(args.client, &url, &keys, &snippet, context)?;
    Ok(Exit::Done)
}

/// Gives the client what it can prove its name with: a certificate, or a token in the address.
fn prove(args: &ConnectArgs, name: &str, url: &str, context: &Context) -> Result<(String, Option<Bundle>), Failure> {
    match args.client {
        Client::Lighthouse | Client::Teku => {
            let dir = args.bundle.clone().unwrap_or_else(|| context.config.data_dir().join("clients").join(name));
            Ok((url.to_owned(), Some(bundle::make(name, &dir, context)?)))
        }
        Client::Prysm | Client::Nimbus | Client::Lodestar | Client::Grandine | Client::Vero => {
            if args.bundle.is_some() {
                let problem = "--bundle: this client shows no certificate; its token goes into its address";
                return Err(Failure::message(Exit::Usage, problem));
            }
            let token = bundle::token(name, context)?;
            let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
            Ok((format!("{scheme}://{}:{}@{rest}", user_of_url(name), token.expose()), None))
        }
    }
}

/// Adds the files to what a client is given.
fn with_certificate(client: Client, snippet: &mut Snippet, bundle: &Bundle) -> Result<(), Failure> {
    let absolute = |path: std::path::PathBuf| std::path::absolute(&path).unwrap_or(path).display().to_string();
    let (pkcs12, password_file) = (absolute(bundle.pkcs12()), absolute(bundle.password()));
    if client == Client::Teku {
        snippet.flags.push(format!("--validators-external-signer-keystore={pkcs12}"));
        snippet.flags.push(format!("--validators-external-signer-keystore-password-file={password_file}"));
    } else if let Some((_, content)) = &mut snippet.file {
        // Lighthouse wants the password itself.
        let password = std::fs::read_to_string(bundle.password())
            .map_err(|error| Failure::new(Exit::Usage, anyhow::Error::new(error).context(password_file)))?;
        let lines = format!("  client_identity_path: \"{pkcs12}\"\n  client_identity_password: \"{password}\"\n");
        *content = content.replace("  request_timeout_ms: 12000\n", &format!("  request_timeout_ms: 12000\n{lines}"));
    }
    let dir = bundle.dir.display();
    snippet
        .notes
        .push(format!("Key, certificate and PKCS#12 file of the client are in {dir}: copy them to its machine."));
    snippet.notes.push(
        match client {
            Client::Teku => {
                "If your own authority signed this signer's certificate, add --validators-external-signer-truststore."
            }
            _ => "If your own authority signed this signer's certificate, name its PEM file as root_certificate_path.",
        }
        .to_owned(),
    );
    Ok(())
}

fn print(client: Client, url: &str, keys: &[PublicKey], snippet: &Snippet, context: &Context) -> Result<(), Failure> {
    let mut text: Vec<String> = snippet.flags.clone();
    if let Some((_, content)) = &snippet.file {
        text.push(content.trim_end().to_owned());
    }
    if let Some((name, _)) = &snippet.file {
        context.output.note(format!("# Put this into {name}:"));
    } else {
        context.output.note(format!("# Start {} with:", client_name(client)));
    }
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let value = json!({
        "client": client_name(client),
        "url": url,
        "flags": snippet.flags,
        "file": snippet.file.as_ref().map(|(name, content)| json!({ "name": name, "content": content })),
        "pubkeys": keys,
        "notes": snippet.notes,
    });
    context.output.result(text.join("\n"), &value)?;
    for note in &snippet.notes {
        context.output.note(format!("# {note}"));
    }
    Ok(())
}

fn client_name(client: Client) -> &'static str {
    match client {
        Client::Lighthouse => "lighthouse",
        Client::Prysm => "prysm",
        Client::Teku => "teku",
        Client::Nimbus => "nimbus",
        Client::Lodestar => "lodestar",
        Client::Grandine => "grandine",
        Client::Vero => "vero",
    }
}

fn snippet(client: Client, url: &str, keys: &[PublicKey]) -> Snippet {
    let list = format!("{url}/api/v1/eth2/publicKeys");
    let keep = "Leave the client's own slashing protection on: it costs nothing and is a second opinion.".to_owned();
    let flags = |flags: &[String]| Snippet { flags: flags.to_vec(), file: None, notes: vec![keep.clone()] };
    match client {
        Client::Lighthouse => lighthouse(url, keys),
        Client::Prysm => flags(&[
            format!("--validators-external-signer-url={url}"),
            format!("--validators-external-signer-public-keys={list}"),
        ]),
        Client::Teku => {
            let mut snippet = flags(&[
                format!("--validators-external-signer-url={url}"),
                format!("--validators-external-signer-public-keys={list}"),
            ]);
            snippet.notes.push("Start Holdfast first: Teku reads the list of keys when it starts.".to_owned());
            snippet
        }
        Client::Nimbus => {
            let mut snippet = flags(&[format!("--web3-signer-url={url}")]);
            snippet.notes.push("Nimbus asks for new keys every hour (--web3signer-update-interval).".to_owned());
            snippet
        }
        Client::Lodestar => {
            let mut snippet = flags(&[format!("--externalSigner.url={url}"), "--externalSigner.fetch".to_owned()]);
            snippet.notes.push("Lodestar adds and removes keys once an epoch, as this signer lists them.".to_owned());
            snippet
        }
        Client::Grandine => {
            flags(&[format!("--web3signer-urls={url}"), "--web3signer-refresh-keys-every-epoch".to_owned()])
        }
        Client::Vero => Snippet {
            flags: vec![format!("--remote-signer-url={url}")],
            file: None,
            notes: vec!["Vero has no slashing protection of its own: it relies on this signer's.".to_owned()],
        },
    }
}

/// Lighthouse has no flag: each key is an entry in its list of validators.
fn lighthouse(url: &str, keys: &[PublicKey]) -> Snippet {
    let mut content = String::from("---\n");
    for key in keys {
        let lines = [
            "- enabled: true".to_owned(),
            format!("  voting_public_key: \"{key}\""),
            "  type: web3signer".to_owned(),
            format!("  url: \"{url}/\""),
            "  request_timeout_ms: 12000".to_owned(),
        ];
        content.push_str(&lines.join("\n"));
        content.push('\n');
    }
    Snippet {
        flags: Vec::new(),
        file: Some(("validator_definitions.yml in Lighthouse's validators directory", content)),
        notes: vec![
            "Remove the entries that hold these keys locally, and their keystores: a key signs in one place only."
                .to_owned(),
            "Start `lighthouse vc` with --init-slashing-protection the first time.".to_owned(),
        ],
    }
}

/// The address without a slash at its end.
fn checked_url(url: &str) -> Result<String, Failure> {
    let known = url.starts_with("http://") || url.starts_with("https://");
    if known && !url.contains(char::is_whitespace) {
        Ok(url.trim_end_matches('/').to_owned())
    } else {
        Err(Failure::message(Exit::Usage, format!("--url: {url:?} is no address; write it like http://127.0.0.1:9000")))
    }
}

/// The host of `url` if requests to it would be refused.
fn host_not_allowed(url: &str, allowed: &[String]) -> Option<String> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let end_of_v6 = authority.find(']').map(|end| end.saturating_add(1));
    let host = match end_of_v6 {
        Some(end) => authority.get(..end).unwrap_or(authority),
        None => authority.split(':').next().unwrap_or(authority),
    };
    let known = allowed.iter().any(|name| {
        let plain = |text: &str| text.trim_matches(['[', ']']).to_ascii_lowercase();
        name == "*" || name.eq_ignore_ascii_case("all") || plain(name) == plain(host)
    });
    (!known).then(|| host.to_owned())
}

/// The keys that sign here: from the database, or from the server that has it open.
async fn public_keys(context: &Context) -> Result<Vec<PublicKey>, Failure> {
    custody::within_reach(&context.config)?;
    if context.config.database()?.file().is_some_and(|path| !path.exists()) {
        return Ok(Vec::new());
    }
    let custody = match custody::open_sealed(&context.config, Arc::new(SystemClock)).await {
        Ok(custody) => custody,
        Err(CustodyError::InUse { .. }) => {
            let listen = context.config.http.listen;
            let target = Target::of(Listener::Http, listen, &context.config);
            let target = target.map_err(|error| Failure::new(error.exit(), error))?;
            return keys_of_server(&target).await.map_err(|error| {
                let hint = format!(
                    "the database is in use, but the server's keys cannot be had at {listen}; give the address it listens \
                     on (http.listen, HOLDFAST_HTTP_LISTEN)"
                );
                Failure::new(Exit::Unreachable, error.context(hint))
            });
        }
        Err(error) => return Err(error.into()),
    };
    let mut enabled: Vec<PublicKey> = custody
        .guard
        .active_keys()
        .await
        .map_err(CustodyError::from)?
        .iter()
        .filter(|key| key.enabled())
        .map(|key| *key.registration.key())
        .collect();
    custody.guard.shutdown().await;
    enabled.sort_unstable();
    Ok(enabled)
}

/// Asks the running server.
async fn keys_of_server(target: &Target) -> anyhow::Result<Vec<PublicKey>> {
    let list: Vec<String> = serde_json::from_str(&target.fetch("/api/v1/eth2/publicKeys").await?)?;
    Ok(list.iter().map(|key| key.parse()).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const URL: &str = "http://127.0.0.1:9000";

    fn key() -> PublicKey {
        PublicKey::from_bytes([0xab; 48])
    }

    #[test]
    fn each_client_has_its_own_flags() {
        let all = "http://127.0.0.1:9000/api/v1/eth2/publicKeys";
        let external = |name: &str, value: &str| format!("--validators-external-signer-{name}={value}");
        let expected: [(Client, Vec<String>); 6] = [
            (Client::Prysm, vec![external("url", URL), external("public-keys", all)]),
            (Client::Teku, vec![external("url", URL), external("public-keys", all)]),
            (Client::Nimbus, vec![format!("--web3-signer-url={URL}")]),
            (Client::Lodestar, vec![format!("--externalSigner.url={URL}"), "--externalSigner.fetch".to_owned()]),
            (
                Client::Grandine,
                vec![format!("--web3signer-urls={URL}"), "--web3signer-refresh-keys-every-epoch".to_owned()],
            ),
            (Client::Vero, vec![format!("--remote-signer-url={URL}")]),
        ];
        for (client, flags) in expected {
            assert_eq!(snippet(client, URL, &[key()]).flags, flags);
        }
        assert_eq!(Client::value_variants().len(), 7);
    }

    #[test]
    fn lighthouse_gets_one_entry_per_key() {
        let (_, content) = snippet(Client::Lighthouse, URL, &[key(), key()]).file.unwrap();
        assert_eq!(content.matches("type: web3signer").count(), 2);
        assert_eq!(content.matches(&format!("voting_public_key: \"{}\"", key())).count(), 2);
        assert!(content.contains("  url: \"http://127.0.0.1:9000/\"\n"), "{content}");
    }

    #[test]
    fn hosts_that_would_be_refused_are_named() {
        let allowed = ["localhost".to_owned(), "[::1]".to_owned()];
        assert_eq!(host_not_allowed("http://Localhost:9000", &allowed), None);
        assert_eq!(host_not_allowed("http://[::1]:9000/", &allowed), None);
        assert_eq!(host_not_allowed("http://signer:9000/x", &allowed), Some("signer".to_owned()));
        assert_eq!(host_not_allowed("http://signer", &["*".to_owned()]), None);
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(checked_url("http://a:1/").unwrap(), "http://a:1");
        assert_eq!(checked_url("a:1").unwrap_err().exit(), Exit::Usage);
    }

    #[tokio::test]
    async fn a_running_server_is_asked() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).await.unwrap();
            assert!(request[..count].starts_with(b"GET /api/v1/eth2/publicKeys "));
            let answer = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n[\"{}\"]", key());
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let target = Target::plain(address);
        let (keys, ()) = tokio::join!(keys_of_server(&target), serve);
        assert_eq!(keys.unwrap(), [key()]);
    }
}
