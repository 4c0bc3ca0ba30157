//! A virtual machine and its vsock device. Both end with this value, and with this program whatever becomes of it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::image;
use super::place::prepared;
use super::wait_until;

/// A running machine.
pub(crate) struct Machine {
    children: Vec<Child>,
    dir: tempfile::TempDir,
}

/// A command that the kernel kills if this program ends first.
fn bound(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn path(name: &str) -> PathBuf {
    let found =
        ["/usr/bin", "/usr/local/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing: run tests/enclave/prepare vm"))
}

impl Machine {
    /// Debian's kernel under Debian's QEMU: no security module.
    pub(crate) fn stock() -> Self {
        Self::stock_with(image::stock())
    }

    /// The same with this ramdisk.
    pub(crate) fn stock_with(ramdisk: &[u8]) -> Self {
        let mut machine = Self::with_vsock();
        let disk = machine.file("ramdisk");
        std::fs::write(&disk, ramdisk).unwrap();
        let mut qemu = bound(&path("qemu-system-x86_64"));
        qemu.args(["-M", "pc,memory-backend=mem", "-object", "memory-backend-memfd,id=mem,size=192M,share=on"])
            .args(["-m", "192M", "-device", "vhost-user-vsock-pci,chardev=vsock", "-kernel"])
            .arg(prepared("vm/kernel", "vm"))
            .arg("-initrd")
            .arg(disk)
            .args(["-append", "console=ttyS0 quiet panic=-1 reboot=t secretmem.enable=1"]);
        machine.start(qemu);
        machine
    }

    /// An image under QEMU's Nitro machine.
    pub(crate) fn nitro(image: &[u8]) -> Self {
        let mut machine = Self::with_vsock();
        let file = machine.file("image.eif");
        std::fs::write(&file, image).unwrap();
        let mut qemu = bound(&prepared("nitro/qemu-system-x86_64", "nitro"));
        qemu.args(["-M", "nitro-enclave,vsock=vsock,id=test", "-m", "128M", "-L", "/usr/share/qemu", "-kernel"])
            .arg(file);
        machine.start(qemu);
        machine
    }

    fn with_vsock() -> Self {
        let mut machine = Self { children: Vec::new(), dir: tempfile::tempdir().unwrap() };
        let (device, host) = (machine.file("device"), machine.vsock());
        let log = std::fs::File::create(machine.file("vsock.log")).unwrap();
        let child = bound(&prepared("bin/vhost-device-vsock", "vm"))
            .arg("--vm")
            .arg(format!("guest-cid=4,socket={},uds-path={}", device.display(), host.display()))
            .stderr(log)
            .spawn()
            .expect("setpriv is missing: install the package util-linux");
        machine.children.push(child);
        wait_until("the vsock device", || device.exists());
        machine
    }

    fn start(&mut self, mut qemu: Command) {
        let log = std::fs::File::create(self.file("qemu.log")).unwrap();
        qemu.args(["-accel", "tcg", "-cpu", "max", "-smp", "1", "-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-monitor", "none", "-serial"])
            .arg(format!("file:{}", self.file("console.log").display()))
            .arg("-chardev")
            .arg(format!("socket,id=vsock,path={}", self.file("device").display()))
            .stderr(log);
        self.children.push(qemu.spawn().unwrap());
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The socket that stands for the vsock on the host's side.
    pub(crate) fn vsock(&self) -> PathBuf {
        self.file("vsock")
    }

    /// What was said on the console and by the programs around it.
    pub(crate) fn log(&self) -> String {
        ["console.log", "qemu.log", "vsock.log"]
            .map(|name| {
                let bytes = std::fs::read(self.file(name)).unwrap_or_default();
                format!("--- {name}\n{}\n", String::from_utf8_lossy(&bytes))
            })
            .concat()
    }

    /// Waits until the vault says that it listens.
    pub(crate) fn waits_until_it_listens(&mut self) {
        wait_until("a vault that listens", || {
            assert!(self.runs(), "the machine ended");
            std::fs::read(self.file("console.log")).is_ok_and(|log| log.windows(7).any(|word| word == b"listens"))
        });
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.children.iter_mut().all(|child| child.try_wait().unwrap().is_none())
    }

    /// Waits for its end; says whether it switched itself off.
    pub(crate) fn ends(mut self) -> bool {
        let mut status = None;
        wait_until("the end of the machine", || {
            status = self.children[1].try_wait().unwrap();
            status.is_some()
        });
        status.is_some_and(|status| status.success() && status.signal().is_none())
    }
}

/// Power is cut.
impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        for child in &mut self.children {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
