//! An execution client of a test's own: it says that it is in sync, and who answered.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

/// An execution client in sync on chain 1 that answers everything else with its name. It runs until the test ends.
pub fn start(name: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            // A connection that ends is no concern of the others.
            std::thread::spawn(move || answer(stream, name));
        }
    });
    format!("http://{address}")
}

/// Answers the requests of one connection until it ends.
fn answer(mut stream: TcpStream, name: &str) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        if body.len() < length? {
            continue;
        }
        bytes.clear();
        let one = |call: &Value| {
            let result = match call["method"].as_str().unwrap() {
                "eth_chainId" => json!("0x1"),
                "eth_syncing" => json!(false),
                "eth_blockNumber" => json!("0x64"),
                "net_peerCount" => json!("0x19"),
                _ => json!(name),
            };
            json!({ "jsonrpc": "2.0", "id": call["id"], "result": result })
        };
        let reply = match serde_json::from_str(body).unwrap() {
            Value::Array(calls) => Value::Array(calls.iter().map(one).collect()),
            call => one(&call),
        }
        .to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", reply.len());
        stream.write_all((head + &reply).as_bytes()).ok()?;
    }
}
