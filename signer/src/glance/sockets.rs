//! Where a process listens, told by Linux: its open sockets, looked up among those that listen. Needs no help of the
//! process, and works for a server that was started with other options than the ones at hand.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// State of a listening socket in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// The addresses on which process `pid` listens, by port; `None` if the system does not tell. It tells the process itself
/// and root: a server lets nobody else look into it, not even its own user.
pub(super) fn listening(pid: u32) -> Option<Vec<SocketAddr>> {
    let inodes = sockets(pid)?;
    let mut addresses: Vec<SocketAddr> = ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok())
        .flat_map(|table| in_table(&table, &inodes))
        .collect();
    addresses.sort_by_key(SocketAddr::port);
    Some(addresses)
}

/// Inode numbers of the sockets a process has open, if that may be known.
fn sockets(pid: u32) -> Option<BTreeSet<u64>> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let inodes = files.filter_map(|file| {
        let target = std::fs::read_link(file.ok()?.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    });
    Some(inodes.collect())
}

/// Lines look like `0: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 12345 1 …`.
fn in_table(table: &str, inodes: &BTreeSet<u64>) -> Vec<SocketAddr> {
    let lines = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?.parse().ok()?);
        (*state == LISTENS && inodes.contains(&inode)).then(|| address(local)).flatten()
    });
    lines.collect()
}

/// An address as the table has it: each four bytes in the machine's own order, the port in the network's.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words: Vec<[u8; 4]> = (0..ip.len() / 8)
        .map(|word| {
            let digits = ip.get(word.checked_mul(8)?..word.checked_mul(8)?.checked_add(8)?)?;
            Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
        })
        .collect::<Option<_>>()?;
    let ip: IpAddr = match words.as_slice() {
        [word] => Ipv4Addr::from(*word).into(),
        [_, _, _, _] => Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_of_this_process_are_found() {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let second = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = listening(std::process::id()).unwrap();
        for listener in [first, second] {
            assert!(found.contains(&listener.local_addr().unwrap()), "{found:?}");
        }
    }

    #[test]
    fn a_process_that_cannot_be_seen_is_not_one_that_listens_nowhere() {
        // Above the kernel's highest process id.
        assert_eq!(listening(u32::MAX), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 42 1 0 100 0 0 10 0\n\
             1: 0100007F:2329 0100007F:0001 01 00000000:00000000 00:00000000 00000000     0        0 42 1 0 100 0 0 10 0\n\
             2: 0100007F:2330 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 43 1 0 100 0 0 10 0\n";
        assert_eq!(in_table(table, &BTreeSet::from([42])), ["127.0.0.1:9000".parse().unwrap()]);
        assert_eq!(address("00000000000000000000000001000000:2329"), Some("[::1]:9001".parse().unwrap()));
        assert_eq!(address("0100007F"), None);
        assert_eq!(address("zz:1"), None);
    }
}
