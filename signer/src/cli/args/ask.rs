//! How commands ask the listeners of a running server.

use std::path::PathBuf;

use clap::Args;

use super::Flags;

/// How a running server is asked.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::struct_field_names, reason = "they name the options, which stand beside others of each command")]
pub(crate) struct AskArgs {
    /// Authorities that vouch for the server's TLS, PEM [default: the very certificate that is configured here]
    #[arg(long, value_name = "FILE", help_heading = "How a server with TLS or callers is asked")]
    pub(crate) ask_ca: Option<PathBuf>,
    /// Name in its certificate, with --ask-ca [default: the first of http.allowed_hosts]
    #[arg(long, value_name = "NAME", help_heading = "How a server with TLS or callers is asked")]
    pub(crate) ask_name: Option<String>,
    /// Client certificate to show where it asks for one, PEM
    #[arg(long, value_name = "FILE", help_heading = "How a server with TLS or callers is asked")]
    pub(crate) ask_certificate: Option<PathBuf>,
    /// Its private key, PEM [default: the file of the certificate]
    #[arg(long, value_name = "FILE", help_heading = "How a server with TLS or callers is asked")]
    pub(crate) ask_key: Option<PathBuf>,
    /// File with the token of a caller: a bearer token, or NAME:TOKEN
    #[arg(long, value_name = "FILE", help_heading = "How a server with TLS or callers is asked")]
    pub(crate) ask_token_file: Option<PathBuf>,
}

impl AskArgs {
    /// Whether any of it was given.
    pub(crate) const fn any(&self) -> bool {
        let Self { ask_ca, ask_name, ask_certificate, ask_key, ask_token_file } = self;
        ask_ca.is_some()
            || ask_name.is_some()
            || ask_certificate.is_some()
            || ask_key.is_some()
            || ask_token_file.is_some()
    }

    pub(super) fn settings(&self, flags: &mut Flags) {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        flags.text("--ask-ca", "ask", "ca", path(&self.ask_ca));
        flags.text("--ask-name", "ask", "name", self.ask_name.as_ref());
        flags.text("--ask-certificate", "ask", "certificate", path(&self.ask_certificate));
        flags.text("--ask-key", "ask", "key", path(&self.ask_key));
        flags.text("--ask-token-file", "ask", "token_file", path(&self.ask_token_file));
    }
}
