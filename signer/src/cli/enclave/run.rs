//! `holdfast enclave run`: starts an image, with what the instance has for it, or under QEMU for testing.
//!
//! Guarantees: what is missing is named before anything starts; programs that were started here end with this one.
//! Starting an enclave needs no trust in this command: what runs is shown by an attestation document only.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use holdfast_enclave::durable::create_private_dir;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::super::args::RunArgs;
use super::super::{Exit, Failure, Output};
use super::{parse, read};

/// The device of the Nitro hypervisor on a parent instance.
const DEVICE: &str = "/dev/nitro_enclaves";
/// How often programs are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long the vsock device may take to make its socket.
const DEVICE_START: Duration = Duration::from_secs(10);

/// A program that ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Result<Self, Failure> {
        let program = PathBuf::from(command.get_program());
        command.stdin(Stdio::null()).spawn().map(Self).map_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("there is no program {}: install it, or give its path", program.display())
                }
                _ => format!("cannot start {}: {error}", program.display()),
            };
            Failure::message(Exit::Unreachable, what)
        })
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.0.try_wait().map_err(|error| Failure::new(Exit::Unreachable, error))
    }
}

pub(super) async fn run(args: &RunArgs, output: Output) -> Result<Exit, Failure> {
    // A damaged image would fail where nobody says why.
    let image = parse(&args.eif, &read(&args.eif, "--eif")?)?;
    output.note(format!("Starting {} (PCR0 {}).", args.eif.display(), image.measurements().pcr0));
    match &args.qemu {
        Some(qemu) => under_qemu(qemu, args, output).await,
        None => on_instance(args).await,
    }
}

async fn on_instance(args: &RunArgs) -> Result<Exit, Failure> {
    let device = std::fs::metadata(DEVICE).is_ok_and(|metadata| metadata.file_type().is_char_device());
    if !device {
        return Err(Failure::message(
            Exit::Unreachable,
            format!(
                "there is no {DEVICE}: this is no EC2 instance with enclaves enabled (EnclaveOptions.Enabled), or its driver is not loaded. For testing elsewhere: --qemu FILE"
            ),
        ));
    }
    let mut command = Command::new("nitro-cli");
    command.arg("run-enclave").arg("--eif-path").arg(&args.eif);
    for (option, value) in
        [("--cpu-count", args.cpus.get()), ("--memory", args.memory.get()), ("--enclave-cid", args.cid)]
    {
        command.arg(option).arg(value.to_string());
    }
    // It says by itself what is wrong, and ends once the enclave runs.
    let mut started = Running::start(&mut command).map_err(|failure| {
        Failure::message(
            Exit::Unreachable,
            format!("{}; it comes with the package aws-nitro-enclaves-cli", failure.text()),
        )
    })?;
    finish(&mut started, "nitro-cli").await
}

async fn under_qemu(qemu: &Path, args: &RunArgs, output: Output) -> Result<Exit, Failure> {
    let beside = args.eif.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let sockets = args.sockets.as_deref().unwrap_or(beside);
    if args.sockets.is_some() {
        create_private_dir(sockets).map_err(|error| Failure::new(Exit::Usage, error))?;
    }
    let (device_socket, vsock) = (sockets.join("vhost.sock"), sockets.join("vault.vsock"));
    for stale in [&device_socket, &vsock] {
        match std::fs::remove_file(stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::message(Exit::Usage, format!("cannot replace {}: {error}", stale.display())));
            }
            _ => {}
        }
    }
    let device_text = device_socket.display();
    let mut device = Running::start(Command::new(&args.vsock_device).arg("--vm").arg(format!(
        "guest-cid={},socket={device_text},uds-path={}",
        args.cid,
        vsock.display()
    )))?;
    let made = async {
        while !device_socket.exists() {
            if let Some(status) = device.ended()? {
                return Err(Failure::message(
                    Exit::Unreachable,
                    format!("{} ended at once ({status}); its message is above", args.vsock_device.display()),
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    tokio::time::timeout(DEVICE_START, made).await.map_err(|_| {
        Failure::message(Exit::Unreachable, format!("{} made no socket", args.vsock_device.display()))
    })??;
    let mut command = Command::new(qemu);
    command.arg("-M").arg("nitro-enclave,vsock=c,id=holdfast").args(["-accel", "tcg", "-cpu", "max"]);
    command.arg("-kernel").arg(&args.eif).args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"]);
    command.arg("-m").arg(format!("{}M", args.memory)).arg("-smp").arg(args.cpus.to_string());
    command.arg("-chardev").arg(format!("socket,id=c,path={device_text}"));
    // The console is talk, not a result.
    command.stdout(io::stderr());
    if let Some(firmware) = &args.firmware {
        command.arg("-L").arg(firmware);
    }
    let mut machine = Running::start(&mut command)?;
    output.result(
        format!("Under QEMU, whose attestation documents are not signed. The vault's socket: {}", vsock.display()),
        &json!({ "status": "started", "emulated": true, "socket": vsock.display().to_string() }),
    )?;
    finish(&mut machine, "QEMU").await
}

/// Waits for the end of a program, or for the wish to end.
async fn finish(program: &mut Running, name: &str) -> Result<Exit, Failure> {
    let unusable =
        |error| Failure::new(Exit::Unreachable, anyhow::Error::new(error).context("cannot wait for signals"));
    let mut interrupted = signal(SignalKind::interrupt()).map_err(unusable)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(unusable)?;
    let ended = async {
        loop {
            if let Some(status) = program.ended()? {
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let status: Result<ExitStatus, Failure> = tokio::select! {
        status = ended => status,
        _ = interrupted.recv() => return Ok(Exit::Done),
        _ = terminated.recv() => return Ok(Exit::Done),
    };
    let status = status?;
    if status.success() {
        Ok(Exit::Done)
    } else {
        Err(Failure::message(Exit::Unreachable, format!("{name} ended with {status}; its message is above")))
    }
}
