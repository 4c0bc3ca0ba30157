//! The first command of the README, and what it tells the user to paste.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use holdfast_tests::harness::command;

#[test]
fn quickstart_prints_curl_lines_that_do_what_it_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for visit in ["first", "second"] {
        let mut child = command()
            .current_dir(folder.path())
            .args(["quickstart", "--http-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut lines = Vec::new();
        let mut curls = Vec::new();
        let mut current: Option<String> = None;
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let text = line.trim().to_owned();
            lines.push(line);
            let joined = match current.take() {
                Some(open) => format!("{open} {text}"),
                None if text.starts_with("curl ") => text,
                None => continue,
            };
            if let Some(open) = joined.strip_suffix('\\') {
                current = Some(open.trim_end().to_owned());
            } else {
                curls.push(joined);
                if curls.len() == 2 {
                    break;
                }
            }
        }
        assert_eq!(curls.len(), 2, "{visit} visit: {lines:#?}");
        let signed = shell(&curls[0]);
        assert!(signed.contains("0x") && signed.len() > 190, "{visit} visit, {}: {signed}", curls[0]);
        let refused = shell(&curls[1]);
        assert!(refused.contains("412") || refused.contains("reason"), "{visit} visit, {}: {refused}", curls[1]);
        assert!(folder.path().join("holdfast-data/holdfast.db").is_file());
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
            .expect("SIGINT is delivered");
        let status = child.wait().expect("it ends");
        assert!(status.success(), "{visit} visit ended with {status}");
    }
}

fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("a shell");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
