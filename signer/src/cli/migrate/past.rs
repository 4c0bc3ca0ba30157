//! What keys have signed in the old signer, and where that is read.
//!
//! Guarantees: it is only read; each step reads it anew, because the old signer may have gone on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use holdfast_slashing_db::interchange::Interchange;
use serde_json::Value;

use super::super::interchange::read_file;
use super::super::{Context, Exit, Failure};
use crate::custody::Chain;

/// Where it is read.
pub(super) enum Origin {
    /// Web3Signer's database.
    #[cfg(feature = "store-postgres")]
    Web3Signer(Box<holdfast_slashing_db::PostgresOptions>),
    /// Lighthouse's database.
    #[cfg(feature = "store-sqlite")]
    Lighthouse(PathBuf),
    /// An interchange file (EIP-3076).
    File(PathBuf),
    /// Nowhere: the old signer ran without protection.
    #[cfg_attr(not(feature = "store-postgres"), expect(dead_code, reason = "only Web3Signer runs so"))]
    Nowhere,
}

/// Why it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be shown: an old signer that seems to run is only named.
    Look,
    /// To be taken in: an old signer that seems to run is refused.
    TakeIn,
}

/// What was read.
pub(super) struct Past {
    /// The histories, and which keys are switched off there.
    pub(super) interchange: Interchange,
    /// More about the source, for programs.
    pub(super) source: Option<Value>,
    /// Whether the old signer's own protection keeps it from signing anything new: `None` if it has no such thing.
    pub(super) fenced: Option<bool>,
}

impl Origin {
    /// Reads it.
    ///
    /// # Errors
    /// [`Failure`]; nothing was changed anywhere.
    pub(super) async fn read(
        &self,
        #[cfg_attr(
            not(feature = "store-postgres"),
            expect(unused_variables, reason = "only Web3Signer's is read twice")
        )]
        purpose: Purpose,
        chain: &Chain,
        context: &Context,
    ) -> Result<Past, Failure> {
        let root = chain.genesis_validators_root;
        match self {
            #[cfg(feature = "store-postgres")]
            Self::Web3Signer(options) => {
                use super::super::interchange::web3signer::{Reading, take};
                let reading = Reading {
                    option: "Web3Signer's database",
                    otherwise: "if it is something else that signs nothing, go the way by hand: `holdfast slashing import \
                                --ignore-connections` and `holdfast keys import`",
                    ignore_connections: false,
                    dry_run: purpose == Purpose::Look,
                    partial: false,
                };
                let (taken, high) = take(options, reading, root, context).await?;
                let fenced = high.is_some_and(|high| high.slot.is_some() && high.epoch.is_some());
                Ok(Past { interchange: taken.interchange, source: taken.source, fenced: Some(fenced) })
            }
            #[cfg(feature = "store-sqlite")]
            Self::Lighthouse(path) => {
                let read = holdfast_slashing_db::lighthouse::read(path, root);
                let interchange = read.map_err(|error| Failure::new(Exit::Refused, error))?;
                context.output.note(format!(
                    "Lighthouse's database does not say of which chain it is; it is taken for one of {}.",
                    chain.network.name
                ));
                Ok(Past { interchange, source: None, fenced: None })
            }
            Self::File(path) => {
                let interchange = read_file(path, "--interchange", root)?;
                Ok(Past { interchange, source: None, fenced: None })
            }
            Self::Nowhere => {
                Ok(Past { interchange: Interchange::new(root, BTreeMap::new()), source: None, fenced: None })
            }
        }
    }

    /// Whether anything is known of the past at all.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self, Self::Nowhere)
    }
}
