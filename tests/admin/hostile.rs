//! Proves: whoever may not connect gets nothing, and whoever may and means harm costs himself a connection, while blocks
//! are signed.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_tests::harness::Server;
use holdfast_tests::world::{CHAIN, World};
use holdfast_wire::admin::v1::ShowKeyRequest;

use crate::client::Admin;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn sign(server: &Server, world: &World, slot: u64) {
    let before = Instant::now();
    assert_eq!(server.sign(&world.keys[0].public, &CHAIN.block(slot, 1).0).status, 200);
    assert!(before.elapsed() < Duration::from_secs(10), "signing was held up for {:?}", before.elapsed());
}

/// Reads until the other end closes; says how much came.
fn closed(mut stream: UnixStream) -> usize {
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let (mut all, mut buffer) = (0, [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return all,
            Ok(count) => all += count,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }
}

#[test]
fn hostile_peers_cost_themselves_a_connection_and_nobody_a_signature() {
    let world = World::new(1);
    let server = world.server().start();
    server.wait_ready();
    let socket = world.data_dir().join("admin.sock");
    let connect = || UnixStream::connect(&socket).expect("the socket");
    let with = |bytes: &[u8]| {
        let mut stream = connect();
        // A peer that is thrown out may not take all of it.
        let _ = stream.write_all(bytes);
        stream
    };
    // As many connections as there are places, which say nothing, or half a word.
    let silent: Vec<_> = (0..80).map(|number| with(if number % 2 == 0 { b"" } else { b"PRI * H" })).collect();
    sign(&server, &world, 10);
    let frame = |length: u32, kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        [PREFACE, SETTINGS, &bytes].concat()
    };
    let mut hostile = vec![
        b"GET / HTTP/1.1\r\nHost: admin\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        // A frame of 16 MiB, headers that are none, data for a stream that is not open, a push from a client.
        frame(0xff_ff_ff, 0, 0, 1, &[0; 64]),
        frame(20, 1, 4, 1, &[0xff; 20]),
        frame(4, 0, 0, 77, b"data"),
        frame(8, 5, 4, 1, &[0; 8]),
    ];
    // Headers without an end.
    let mut endless = [PREFACE, SETTINGS].concat();
    endless.extend([0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]);
    for _ in 0..2_000 {
        endless.extend([0, 1, 0, 9, 0, 0, 0, 0, 1]);
        endless.extend([0x40; 256]);
    }
    hostile.push(endless);
    for (number, bytes) in hostile.iter().enumerate() {
        let stream = with(bytes);
        sign(&server, &world, 20 + number as u64);
        closed(stream);
    }
    for stream in silent {
        closed(stream);
    }
    // Honest callers are served as before.
    let admin = Admin::connect(&world.data_dir());
    let request = ShowKeyRequest { pubkey: world.keys[0].public.clone() };
    admin.runtime.block_on(admin.keys().show(request)).expect("an honest caller is served");
    sign(&server, &world, 40);
    assert!(server.stop().0.success());
}

#[test]
fn a_message_that_is_too_long_or_none_is_refused() {
    let world = World::new(1);
    let server = world.server().start();
    server.wait_ready();
    let admin = Admin::connect(&world.data_dir());
    let request = ShowKeyRequest { pubkey: "x".repeat(3 * 1024 * 1024) };
    let refused = admin.runtime.block_on(admin.keys().show(request)).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused:?}");
    sign(&server, &world, 5);
    server.stop();
}

#[test]
fn another_user_is_turned_away() {
    let world = World::new(1);
    let server = world.server().start();
    server.wait_ready();
    assert!(rustix::process::geteuid().is_root(), "run this test as root: it connects as another user");
    // The directory and the socket keep others out; this opens both to see that the kernel's word does, too.
    let open = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("chmod");
    };
    let data = world.data_dir();
    for path in [world.path(), &data, &data.join("admin.sock")] {
        open(path);
    }
    let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(30)\ns.connect(sys.argv[1])\n\
                  try:\n    s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n')\n    sys.exit(len(s.recv(1)))\n\
                  except (BrokenPipeError, ConnectionResetError):\n    sys.exit(0)";
    let ask = |uid: u32| {
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(data.join("admin.sock")).uid(uid).current_dir("/");
        command.status().expect("python3 is there (package python3)").code()
    };
    assert_eq!(ask(65_534), Some(0), "another user is told nothing");
    assert_eq!(ask(0), Some(1), "this user is answered");
    assert!(server.log().contains("by another user was refused"), "{}", server.log());
    sign(&server, &world, 5);
    server.stop();
}
