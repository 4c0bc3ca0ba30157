//! Where checkpoints are kept out of the reach of whoever runs the signer: an *anchor*.
//!
//! Why it exists: the end of a journal can be cut off together with the checkpoint that signs it. A copy of the
//! checkpoint somewhere else is what tells. Which place is a matter of who may write there: a file on another disk, a
//! bucket whose objects cannot be deleted for years, a service of somebody else's, a log collector.
//!
//! What it guarantees: [`Anchor::keep`] says that a note is kept only if the other side said so (a syslog collector
//! over TCP can say no more than that it took the bytes); it ends within its time limit; neither addresses with
//! credentials nor tokens are in its errors.
//!
//! It knows notes as texts: nothing of journals, keys or when to keep.

mod file;
mod http;
#[cfg(feature = "s3")]
mod s3;
mod syslog;
mod tls;
mod webhook;

use core::fmt;
use std::path::PathBuf;
use std::time::Duration;

use holdfast_domain::UnixMillis;

pub use file::FileAnchor;
#[cfg(feature = "s3")]
pub use s3::{S3Anchor, S3Options};
pub use syslog::{SyslogAnchor, SyslogOptions};
pub use webhook::{WebhookAnchor, WebhookOptions};

/// Any error.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A checkpoint that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whose journal: 32 hexadecimal digits.
    pub instance: String,
    /// The batch it signs.
    pub batch: u64,
    /// The signed note, with the line break at its end.
    pub text: String,
}

impl Note {
    /// The name of an object for it: sorts as batches do.
    pub fn object(&self) -> String {
        format!("{}/{:020}.note", self.instance, self.batch)
    }
}

/// Why a note is not kept, or cannot be brought back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// A file.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A setting cannot be used.
    #[error("{setting} {problem}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// No answer.
    #[error("it cannot be reached")]
    Unreachable(#[source] Cause),
    /// No answer in time.
    #[error("no answer within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// No credentials.
    #[error("there are no credentials for it")]
    Credentials(#[source] Cause),
    /// The other side refused.
    #[error("it answered {status}{said}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its own words, after a colon and a space; empty if it has none.
        said: String,
    },
    /// Something else is there under this name.
    #[error(
        "another checkpoint of the same batch is there: the journal was rewritten, or two signers have one identity"
    )]
    Different,
    /// The answer is none.
    #[error("its answer is not that of such a service")]
    Protocol,
}

/// A place that keeps notes.
pub struct Anchor {
    kind: Kind,
    limit: Duration,
}

enum Kind {
    File(FileAnchor),
    #[cfg(feature = "s3")]
    S3(Box<S3Anchor>),
    Webhook(Box<WebhookAnchor>),
    Syslog(SyslogAnchor),
}

/// How long keeping may take.
const LIMIT: Duration = Duration::from_secs(15);

impl Anchor {
    /// Keeps a note. To keep one again is no error.
    ///
    /// # Errors
    /// [`AnchorError`]; it may be kept all the same, if the answer was lost.
    pub async fn keep(&self, note: &Note, now: UnixMillis) -> Result<(), AnchorError> {
        let kept = async {
            match &self.kind {
                Kind::File(file) => file.keep(note).await,
                #[cfg(feature = "s3")]
                Kind::S3(bucket) => bucket.keep(note, now).await,
                Kind::Webhook(webhook) => webhook.keep(note).await,
                Kind::Syslog(syslog) => syslog.keep(note, now).await,
            }
        };
        tokio::time::timeout(self.limit, kept).await.unwrap_or(Err(AnchorError::TimedOut(self.limit)))
    }

    /// What kind it is: a label of metrics.
    pub fn kind(&self) -> &'static str {
        match &self.kind {
            Kind::File(_) => "file",
            #[cfg(feature = "s3")]
            Kind::S3(_) => "s3",
            Kind::Webhook(_) => "webhook",
            Kind::Syslog(_) => "syslog",
        }
    }

    /// The same with another time limit.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::File(file) => file.fmt(f),
            #[cfg(feature = "s3")]
            Kind::S3(bucket) => bucket.fmt(f),
            Kind::Webhook(webhook) => webhook.fmt(f),
            Kind::Syslog(syslog) => syslog.fmt(f),
        }
    }
}

macro_rules! kinds {
    ($($(#[$when:meta])? $kind:ident($from:ty): $make:expr);* $(;)?) => {$(
        $(#[$when])?
        impl From<$from> for Anchor {
            fn from(anchor: $from) -> Self {
                Self { kind: Kind::$kind($make(anchor)), limit: LIMIT }
            }
        }
    )*};
}
kinds!(
    File(FileAnchor): core::convert::identity;
    #[cfg(feature = "s3")] S3(S3Anchor): Box::new;
    Webhook(WebhookAnchor): Box::new;
    Syslog(SyslogAnchor): core::convert::identity;
);
