//! Proves: who is let in through which door, by what; and that a refusal names its reason.
use std::net::{IpAddr, Ipv4Addr};

use holdfast_access::Builtin;
use hyper::header::{AUTHORIZATION, HeaderValue};

use super::*;
use crate::clock::SystemClock;
use crate::config::TokenHash;
use crate::tls::{ClientCertificate, Voucher};

fn door(guarded: bool) -> Door {
    Door { name: "http", listener: Principal::builtin(Builtin::Http), guarded }
}

fn peer(proof: Proof) -> Peer {
    Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), proof }
}

fn certificate(name: &str, voucher: Voucher) -> Proof {
    Proof::Certificate(Arc::new(ClientCertificate {
        fingerprint: Fingerprint::of(name.as_bytes()),
        common_name: Some(name.to_owned()),
        names: vec![name.to_owned()],
        voucher,
    }))
}

fn headers(value: Option<&str>) -> HeaderMap {
    value.map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).into_iter().collect()
}

fn callers(dir: &std::path::Path, entries: Vec<CallerEntry>) -> Callers {
    let mut config = Config::default();
    config.data.dir = dir.to_owned();
    config.callers = entries;
    Callers::open(&config, Arc::new(SystemClock)).unwrap()
}

fn vc_1() -> CallerEntry {
    CallerEntry {
        name: "vc-1".to_owned(),
        basic_token_sha256: vec![TokenHash::of(b"token")],
        certificate_subjects: vec!["vc-1".to_owned()],
        unix_uids: vec![4_242],
        ..CallerEntry::default()
    }
}

#[test]
fn without_callers_the_listener_is_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    let callers = callers(dir.path(), Vec::new());
    let ask = |guarded, proof, header| {
        callers.resolve(&door(guarded), &peer(proof), &headers(header)).map(|who| who.to_string())
    };
    assert_eq!(ask(false, Proof::None, None).as_deref(), Ok("http"));
    assert_eq!(ask(false, Proof::None, Some("Basic eA==")).as_deref(), Ok("http"), "as without callers ever since");
    let own = rustix::process::geteuid().as_raw();
    assert_eq!(ask(false, Proof::User(own), None).as_deref(), Ok("http"));
    assert_eq!(ask(false, Proof::User(4_242), None), Err(Denial::UnixUser));
    assert_eq!(ask(true, Proof::None, None), Err(Denial::Missing));
    assert_eq!(ask(true, certificate("monitor", Voucher::Authority), None).as_deref(), Ok("monitor (certificate)"));
}

#[test]
fn with_one_caller_everybody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let callers = callers(dir.path(), vec![vc_1()]);
    let ask = |proof, header| callers.resolve(&door(false), &peer(proof), &headers(header)).map(|who| who.to_string());
    let right = Some("Basic dmMtMTp0b2tlbg==");
    assert_eq!(ask(Proof::None, right).as_deref(), Ok("vc-1 (basic)"));
    assert_eq!(ask(Proof::None, None), Err(Denial::Missing));
    assert_eq!(ask(Proof::None, Some("Basic dmMtMTp0b2tlbgo=")), Err(Denial::Wrong));
    assert_eq!(ask(Proof::None, Some("Bearer token")), Err(Denial::Wrong));
    assert_eq!(ask(Proof::None, Some("Digest token")), Err(Denial::Unreadable));
    assert_eq!(ask(Proof::User(4_242), None).as_deref(), Ok("vc-1 (unix)"));
    assert_eq!(ask(Proof::User(0), None), Err(Denial::UnixUser), "not even root without a name");
    assert_eq!(ask(certificate("vc-1", Voucher::Authority), None).as_deref(), Ok("vc-1 (certificate)"));
    assert_eq!(ask(certificate("vc-1", Voucher::Fingerprint), None), Err(Denial::Certificate));
    assert_eq!(ask(certificate("other", Voucher::Authority), right).as_deref(), Ok("vc-1 (basic)"));
    assert_eq!(ask(certificate("vc-1", Voucher::Authority), Some("Bearer x")), Err(Denial::Wrong));
}

#[test]
fn those_of_the_configuration_are_replaced_beside_the_file_and_a_clash_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let callers = callers(dir.path(), Vec::new());
    CallersFile { callers: vec![vc_1()] }.write(&callers.file).unwrap();
    let named = |name: &str| CallerEntry { name: name.to_owned(), unix_uids: vec![77], ..CallerEntry::default() };
    assert_eq!(callers.check(&[named("vc-2")]).unwrap(), 2);
    assert!(callers.is_empty(), "a check changes nothing");
    assert_eq!(callers.replace(vec![named("vc-2")]).unwrap(), 2);
    let who =
        |uid| callers.resolve(&door(false), &peer(Proof::User(uid)), &HeaderMap::new()).map(|who| who.to_string());
    assert_eq!((who(77).as_deref(), who(4_242).as_deref()), (Ok("vc-2 (unix)"), Ok("vc-1 (unix)")));
    assert!(callers.check(&[named("vc-1")]).is_err() && callers.replace(vec![named("vc-1")]).is_err());
    assert_eq!(who(77).as_deref(), Ok("vc-2 (unix)"));
    assert_eq!(callers.reload().unwrap(), 2, "the file is read beside those of the last good configuration");
    assert_eq!(callers.replace(Vec::new()).unwrap(), 1);
    assert_eq!(who(77), Err(Denial::UnixUser));
}

#[test]
fn the_file_is_read_again_and_a_bad_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let callers = callers(dir.path(), Vec::new());
    let path = callers.file.clone();
    assert!(callers.is_empty());
    CallersFile { callers: vec![vc_1()] }.write(&path).unwrap();
    assert!(callers.has_changed());
    assert_eq!(callers.reload().unwrap(), 1);
    assert!(!callers.has_changed());
    let resolve = || callers.resolve(&door(false), &peer(Proof::None), &HeaderMap::new());
    assert_eq!(resolve(), Err(Denial::Missing));
    let mut broken = vc_1();
    broken.name = "a b".to_owned();
    CallersFile { callers: vec![broken] }.write(&path).unwrap();
    assert!(callers.reload().is_err());
    assert_eq!(resolve(), Err(Denial::Missing), "the door did not open");
    CallersFile::default().write(&path).unwrap();
    assert_eq!(callers.reload().unwrap(), 0);
    assert_eq!(resolve(), Err(Denial::Missing), "nor when the last caller went");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(callers.reload().unwrap(), 0);
    assert_eq!(resolve(), Err(Denial::Missing), "nor when the file went");
}
