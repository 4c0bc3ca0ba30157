//! A TPM 2.0 in software (swtpm), with its state in a folder of its own and a Unix socket in place of a device.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const OWNER: u32 = 0x4000_0001;
const LOCKOUT: u32 = 0x4000_000a;

/// A chip that can be switched off and on.
pub struct SwTpm {
    folder: tempfile::TempDir,
    process: Mutex<Option<Child>>,
}

impl SwTpm {
    /// Starts one; panics with what to install if swtpm is missing.
    pub fn start() -> Self {
        let tpm = Self { folder: tempfile::tempdir().expect("a temporary folder"), process: Mutex::new(None) };
        tpm.switch_on();
        tpm
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("tpm")
    }

    /// Starts it with the state it had; registers begin anew, as after a restart of the machine.
    pub fn switch_on(&self) {
        let state = format!("dir={}", self.folder.path().display());
        let server = format!("type=unixio,path={}", self.socket().display());
        let control = format!("type=unixio,path={}", self.folder.path().join("control").display());
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--tpmstate", &state, "--server", &server, "--ctrl", &control])
            .args(["--flags", "not-need-init,startup-clear"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("swtpm starts: install swtpm");
        *self.process.lock().expect("the process") = Some(child);
        let end = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < end, "swtpm did not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it; its state stays.
    pub fn switch_off(&self) {
        if let Some(mut child) = self.process.lock().expect("the process").take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(self.socket());
    }

    /// Stops it without ending it: it no longer answers.
    pub fn hang(&self, hang: bool) {
        let process = self.process.lock().expect("the process");
        let pid = process.as_ref().expect("it runs").id().to_string();
        let signal = if hang { "-STOP" } else { "-CONT" };
        let done = Command::new("kill").args([signal, &pid]).status().expect("kill starts");
        assert!(done.success());
    }

    /// Measures something into a register of the SHA-256 bank (`TPM2_PCR_Extend`).
    pub fn extend(&self, register: u32) {
        let digest = [&1_u32.to_be_bytes()[..], &0x000b_u16.to_be_bytes(), &[0x5a; 32]].concat();
        self.command(0x0182, register, &digest);
    }

    /// Destroys everything that was sealed (`TPM2_Clear`).
    pub fn clear(&self) {
        self.command(0x0126, LOCKOUT, &[]);
    }

    /// Sets the password of the owner hierarchy (`TPM2_HierarchyChangeAuth`).
    pub fn set_owner_password(&self, password: &str) {
        let length = u16::try_from(password.len()).expect("a short password");
        self.command(0x0129, OWNER, &[&length.to_be_bytes()[..], password.as_bytes()].concat());
    }

    /// Handles of objects and sessions that somebody left in the chip (`TPM2_GetCapability`).
    pub fn left_behind(&self) -> u32 {
        [0x8000_0000_u32, 0x0200_0000, 0x0300_0000]
            .into_iter()
            .map(|first| {
                let parameters = [1_u32, first, 64].map(u32::to_be_bytes).concat();
                let answer = self.send(0x8001, &[&0x017a_u32.to_be_bytes()[..], &parameters].concat());
                u32::from_be_bytes(answer[15..19].try_into().expect("a count of handles"))
            })
            .sum()
    }

    /// A command of one handle, whose password is empty.
    fn command(&self, code: u32, handle: u32, parameters: &[u8]) {
        let session = [&9_u32.to_be_bytes()[..], &0x4000_0009_u32.to_be_bytes(), &[0, 0, 0, 0, 0]].concat();
        let body = [&code.to_be_bytes()[..], &handle.to_be_bytes(), &session, parameters].concat();
        let answer = self.send(0x8002, &body);
        assert_eq!(answer[6..10], [0; 4], "TPM command {code:#x}");
    }

    fn send(&self, tag: u16, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len() + 6).expect("a short command");
        let mut stream = UnixStream::connect(self.socket()).expect("swtpm listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
        stream.write_all(&[&tag.to_be_bytes()[..], &size.to_be_bytes(), body].concat()).expect("a command");
        let mut answer = vec![0; 4096];
        let mut length = 0;
        while length < 10 || length < u32::from_be_bytes(answer[2..6].try_into().expect("a size")) as usize {
            let more = stream.read(&mut answer[length..]).expect("an answer");
            assert!(more > 0, "swtpm hung up");
            length += more;
        }
        answer.truncate(length);
        answer
    }
}

impl Drop for SwTpm {
    fn drop(&mut self) {
        self.switch_off();
    }
}
