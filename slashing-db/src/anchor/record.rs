//! What an anchor says, as text: a checksum line and a line of JSON, so that a torn write is noticed and an
//! operator can read it.

use holdfast_domain::root::parse_hex;
use holdfast_domain::{GenesisValidatorsRoot, UnixMillis};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::landmarks::{Landmarks, Peer};
use super::{DatabaseIdentity, RollbackKind, Suspicion};
use crate::journal::{Hash, Head, InstanceId};

/// First field of every record. A change of meaning needs another word.
const FORMAT: &str = "holdfast-anchor/1";

/// The content of an anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Counts writes; of two places in the file the higher one is valid.
    pub(super) generation: u64,
    pub(super) instance: InstanceId,
    pub(super) root: GenesisValidatorsRoot,
    pub(super) database: DatabaseIdentity,
    pub(super) head: Head,
    /// The earliest moment at which all that was signed can have been; the beginning of time where an older version wrote this.
    pub(super) reached: UnixMillis,
    /// Of a shared database.
    pub(super) landmarks: Option<Landmarks>,
    pub(super) suspicion: Option<Suspicion>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: String,
    generation: u64,
    instance: String,
    genesis_validators_root: String,
    database: String,
    batch: u64,
    hash: String,
    #[serde(default)]
    reached_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<WrittenLandmarks>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspicion: Option<WrittenSuspicion>,
}

#[derive(Serialize, Deserialize)]
struct WrittenLandmarks {
    timeline: String,
    synchronous: bool,
    wal: u64,
    others: Vec<(String, u64, String)>,
}

#[derive(Serialize, Deserialize)]
struct WrittenSuspicion {
    kind: String,
    since_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<(u64, String)>,
    found: (u64, String),
}

fn checksum(line: &[u8]) -> Hash {
    Hash(Sha256::digest(line).into())
}

fn head(seq: u64, hash: &str) -> Option<Head> {
    Some(Head { seq, hash: Hash(parse_hex(hash)?) })
}

fn write_landmarks(landmarks: &Landmarks) -> WrittenLandmarks {
    let others = landmarks.peers.iter().take(Landmarks::MAX_PEERS);
    WrittenLandmarks {
        timeline: landmarks.timeline.clone(),
        synchronous: landmarks.synchronous,
        wal: landmarks.wal,
        others: others.map(|peer| (peer.instance.to_string(), peer.head.seq, peer.head.hash.to_string())).collect(),
    }
}

fn read_landmarks(written: WrittenLandmarks) -> Option<Landmarks> {
    let peer = |(instance, seq, hash): &(String, u64, String)| {
        Some(Peer { instance: InstanceId(parse_hex(instance)?), head: head(*seq, hash)? })
    };
    Some(Landmarks {
        timeline: written.timeline,
        synchronous: written.synchronous,
        wal: written.wal,
        peers: written.others.iter().map(peer).collect::<Option<_>>()?,
    })
}

impl Record {
    /// Two lines.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let written = Written {
            format: FORMAT.to_owned(),
            generation: self.generation,
            instance: self.instance.to_string(),
            genesis_validators_root: self.root.to_string(),
            database: self.database.as_str().to_owned(),
            batch: self.head.seq,
            hash: self.head.hash.to_string(),
            reached_ms: self.reached.0,
            server: self.landmarks.as_ref().map(write_landmarks),
            suspicion: self.suspicion.map(|suspicion| WrittenSuspicion {
                kind: suspicion.kind.as_str().to_owned(),
                since_ms: suspicion.since.0,
                expected: suspicion.expected.map(|head| (head.seq, head.hash.to_string())),
                found: (suspicion.found.seq, suspicion.found.hash.to_string()),
            }),
        };
        let line = serde_json::to_vec(&written)?;
        let mut out = checksum(&line).to_string().into_bytes();
        out.push(b'\n');
        out.extend_from_slice(&line);
        out.push(b'\n');
        Ok(out)
    }

    /// Reads two lines; `None` if they are not a whole record of this version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let (sum, line) = (lines.next()?, lines.next()?);
        if checksum(line).to_string().as_bytes() != sum {
            return None;
        }
        let written: Written = serde_json::from_slice(line).ok()?;
        if written.format != FORMAT {
            return None;
        }
        let landmarks = match written.server {
            None => None,
            Some(server) => Some(read_landmarks(server)?),
        };
        let suspicion = match written.suspicion {
            None => None,
            Some(suspicion) => Some(Suspicion {
                kind: RollbackKind::ALL.into_iter().find(|kind| kind.as_str() == suspicion.kind)?,
                since: UnixMillis(suspicion.since_ms),
                expected: match suspicion.expected {
                    None => None,
                    Some((seq, hash)) => Some(head(seq, &hash)?),
                },
                found: head(suspicion.found.0, &suspicion.found.1)?,
            }),
        };
        Some(Self {
            generation: written.generation,
            instance: InstanceId(parse_hex(&written.instance)?),
            root: GenesisValidatorsRoot(parse_hex(&written.genesis_validators_root)?),
            database: DatabaseIdentity::new(written.database),
            head: head(written.batch, &written.hash)?,
            reached: UnixMillis(written.reached_ms),
            landmarks,
            suspicion,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_record_is_read_back_and_fits_its_place() {
        let head = |seq| Head { seq, hash: Hash([0xff; 32]) };
        let peer = |number| Peer { instance: InstanceId([number; 16]), head: head(u64::MAX) };
        let suspicion = |kind| Suspicion {
            kind,
            since: UnixMillis(u64::MAX),
            expected: Some(head(u64::MAX)),
            found: head(u64::MAX),
        };
        for kind in RollbackKind::ALL {
            let record = Record {
                generation: u64::MAX,
                instance: InstanceId([0xff; 16]),
                root: GenesisValidatorsRoot([0xff; 32]),
                database: DatabaseIdentity::new("x".repeat(1_000)),
                head: head(u64::MAX),
                reached: UnixMillis(u64::MAX),
                landmarks: Some(Landmarks {
                    timeline: "FFFFFFFF".to_owned(),
                    synchronous: true,
                    wal: u64::MAX,
                    peers: (0u8..).take(Landmarks::MAX_PEERS).map(peer).collect(),
                }),
                suspicion: Some(suspicion(kind)),
            };
            let bytes = record.encode().unwrap();
            assert!(bytes.len() <= super::super::file::PLACE, "{} bytes", bytes.len());
            assert_eq!(Record::decode(&bytes), Some(record));
        }
    }
}
