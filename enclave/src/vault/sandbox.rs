//! What a vault process gives up before it reads its first frame.
//!
//! Guarantees: each step that succeeded is named in [`Protections`], so that the signer can say what is missing;
//! one that did not is said on standard error. Order matters: what other steps need is given up last.
//!
//! The list of system calls was found by running the vault until nothing else was asked for. A call that is not on
//! it ends the process, which the signer sees as a crash.

use std::collections::BTreeMap;
use std::io::Write as _;

use holdfast_vault_proto::Protections;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetStatus,
    Scope,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

type Failure = Box<dyn std::error::Error>;

/// The parent is gone already, so nobody would end this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orphaned;

/// What can be given up before any thread is started: files, the network, privileges, dumps. All threads started
/// later are bound as well.
///
/// # Errors
/// [`Orphaned`] if the parent is not the process with this id.
pub(super) fn before_threads(parent: u32) -> Result<Protections, Orphaned> {
    let mut done = Protections::default();
    done = step(done, Protections::PARENT_DEATH, die_with_parent);
    // Looked at after the signal is set, so that no end of the parent is missed.
    let started_by = getppid().and_then(|pid| u32::try_from(Pid::as_raw_nonzero(pid).get()).ok());
    if started_by != Some(parent) {
        return Err(Orphaned);
    }
    // It ends with the conversation: the signer needs it until every request is answered.
    done = step(done, Protections::default(), || Ok(holdfast_enclave_sys::ignore_stop_signals()?));
    done = step(done, Protections::UNDUMPABLE, || Ok(holdfast_enclave_sys::harden_process()?));
    raise_memlock();
    done = step(done, Protections::SECRET_MEMORY, || Ok(holdfast_enclave_sys::use_secret_memory()?));
    done = step(done, Protections::LOCKED_MEMORY, locked_memory);
    done = step(done, Protections::default(), open_randomness);
    done = step(done, Protections::NO_NEW_PRIVILEGES, || Ok(set_no_new_privs(true)?));
    done = step(done, Protections::default(), drop_capabilities);
    Ok(step(done, Protections::LANDLOCK, no_files_no_network))
}

/// Everything that a vault gives up which listens for signers and starts threads for each. It does not end with one.
pub(super) fn in_service() -> Protections {
    let mut done = Protections::default();
    done = step(done, Protections::UNDUMPABLE, || Ok(holdfast_enclave_sys::harden_process()?));
    raise_memlock();
    done = step(done, Protections::SECRET_MEMORY, || Ok(holdfast_enclave_sys::use_secret_memory()?));
    done = step(done, Protections::LOCKED_MEMORY, locked_memory);
    done = step(done, Protections::default(), open_randomness);
    done = step(done, Protections::NO_NEW_PRIVILEGES, || Ok(set_no_new_privs(true)?));
    done = step(done, Protections::default(), drop_capabilities);
    done = step(done, Protections::LANDLOCK, no_files_no_network);
    step(done, Protections::SECCOMP, || few_system_calls(&FOR_SERVICE))
}

/// A payload of a panic could hold anything; its place says enough. Then nothing runs on in an unknown state.
pub(super) fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        say(&format!("this is a bug at {place}; please report it"));
        std::process::abort();
    }));
}

/// The same for the only program of a machine. It keeps its capabilities, to switch the machine off.
pub(super) fn in_enclave() -> Protections {
    let mut done = Protections::default();
    done = step(done, Protections::UNDUMPABLE, || Ok(holdfast_enclave_sys::harden_process()?));
    raise_memlock();
    done = step(done, Protections::SECRET_MEMORY, || Ok(holdfast_enclave_sys::use_secret_memory()?));
    done = step(done, Protections::LOCKED_MEMORY, locked_memory);
    done = step(done, Protections::default(), open_randomness);
    done = step(done, Protections::NO_NEW_PRIVILEGES, || Ok(set_no_new_privs(true)?));
    step(done, Protections::LANDLOCK, no_files_no_network)
}

/// What is left once all threads run: every system call that signing does not need, for all of them.
pub(super) fn after_threads(done: Protections) -> Protections {
    step(done, Protections::SECCOMP, || few_system_calls(&[]))
}

fn step(done: Protections, protection: Protections, take: impl FnOnce() -> Result<(), Failure>) -> Protections {
    match take() {
        Ok(()) => done.with(protection),
        Err(error) => {
            let what = protection.words().next().unwrap_or("all of it");
            say(&format!("the vault goes on without {what}: {}", chain(error.as_ref())));
            done
        }
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A line on standard error, which is all that a vault says to anybody but the signer.
pub(super) fn say(line: &str) {
    // Nobody to tell if the stream is closed.
    let _ = writeln!(std::io::stderr(), "holdfast vault: {line}");
}

fn die_with_parent() -> Result<(), Failure> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Secret and locked memory count against this limit.
fn raise_memlock() {
    let limit = getrlimit(Resource::Memlock);
    if let Err(error) = setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, ..limit }) {
        say(&format!("the limit of locked memory stays as it is: {error}"));
    }
}

fn locked_memory() -> Result<(), Failure> {
    match holdfast_enclave_sys::lock_status() {
        holdfast_enclave_sys::LockStatus::Locked => Ok(()),
        status @ holdfast_enclave_sys::LockStatus::Unlocked { .. } => Err(status.to_string().into()),
    }
}

/// A program that is linked statically reads randomness from a file, which is opened once: before files are given up.
fn open_randomness() -> Result<(), Failure> {
    Ok(getrandom::fill(&mut [0])?)
}

/// A process of root gives up what makes root special.
fn drop_capabilities() -> Result<(), Failure> {
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// Landlock: nothing may be opened, bound or connected to any more.
fn no_files_no_network() -> Result<(), Failure> {
    let abi = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        RulesetStatus::PartiallyEnforced => Err("this kernel has only a part of Landlock; use Linux 6.12".into()),
        RulesetStatus::NotEnforced => Err("this kernel has no Landlock, or it is switched off".into()),
    }
}

/// System calls that are allowed with any arguments.
const ALLOWED: [i64; 31] = [
    // The conversation, and lines on standard error.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_close,
    // Memory for frames, and for secrets.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_memfd_secret,
    libc::SYS_ftruncate,
    // Threads that wait for each other, end, or panic.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    // The time, and randomness for hash tables.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_rseq,
];

/// What a vault needs besides that takes signers one after another: connections, and threads for each.
const FOR_SERVICE: [i64; 7] = [
    libc::SYS_accept4,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_clone3,
    libc::SYS_clone,
    libc::SYS_set_robust_list,
    libc::SYS_sched_getaffinity,
];

/// Allowed to ask whether a descriptor is open, which debug builds do before they close one.
const ABOUT_DESCRIPTORS: i64 = libc::SYS_fcntl;

/// Allowed as long as nothing becomes executable.
const NEVER_EXECUTABLE: [i64; 2] = [libc::SYS_mmap, libc::SYS_mprotect];

/// Allowed to look at its own limits, which the reason for memory that cannot be locked names.
const ABOUT_LIMITS: i64 = libc::SYS_prlimit64;

fn few_system_calls(more: &[i64]) -> Result<(), Failure> {
    let allowed = ALLOWED.iter().chain(more);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = allowed.map(|call| (*call, Vec::new())).collect();
    let executable = u64::try_from(libc::PROT_EXEC)?;
    for call in NEVER_EXECUTABLE {
        let plain = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(executable), 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![plain])?]);
    }
    let asks = u64::try_from(libc::F_GETFD)?;
    let asking = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, asks)?;
    let mut about_descriptors = vec![SeccompRule::new(vec![asking])?];
    if !more.is_empty() {
        // A connection is read and written; a thread has a name.
        for (call, place, value) in
            [(ABOUT_DESCRIPTORS, 1, libc::F_DUPFD_CLOEXEC), (libc::SYS_prctl, 0, libc::PR_SET_NAME)]
        {
            let only = SeccompCondition::new(place, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::try_from(value)?)?;
            let rule = SeccompRule::new(vec![only])?;
            if call == ABOUT_DESCRIPTORS {
                about_descriptors.push(rule);
            } else {
                rules.insert(call, vec![rule]);
            }
        }
    }
    rules.insert(ABOUT_DESCRIPTORS, about_descriptors);
    let own = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 0)?;
    let only_looks = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    rules.insert(ABOUT_LIMITS, vec![SeccompRule::new(vec![own, only_looks])?]);
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(apply_filter_all_threads(&program)?)
}
