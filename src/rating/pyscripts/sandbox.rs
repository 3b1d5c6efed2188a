//! What a worker may do: compute, read Python's own library, and talk through
//! its two pipes.
//!
//! `ratekitty pyscripts-worker` gives up its rights and becomes CPython:
//!
//! * Landlock (Linux 5.13, network from 6.7): of files it may read and run those
//!   below `/usr`, `/lib`, `/lib64`, `/opt` and the folder of its Python, and the
//!   time zone; nothing is written; no TCP.
//! * seccomp: no sockets of any kind, no processes, no looking into others.
//! * limits: memory, no file may grow, no core dump.
//!
//! What the kernel does not have is told, and the rest holds.

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// The worker's program.
const WORKER: &str = include_str!("worker.py");

/// Folders that may be read.
const READABLE: [&str; 8] = [
    "/usr",
    "/lib",
    "/lib64",
    "/opt",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/null",
    "/dev/urandom",
];

/// Becomes a worker with a Python; returns why, if it cannot. `without` is told
/// what the kernel does not have.
pub fn become_worker(python: &str, memory: u64, without: impl Fn(String)) -> String {
    let path = match find(python) {
        Some(path) => path,
        None => return format!("`{python}` is not in PATH"),
    };
    let limits = [(Resource::As, memory), (Resource::Fsize, 0), (Resource::Core, 0)];
    for (resource, limit) in limits {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        if let Err(error) = setrlimit(resource, limit) {
            return format!("a limit cannot be set: {error}");
        }
    }
    for (what, result) in [("Landlock", restrict_files(&path)), ("seccomp", restrict_calls())] {
        if let Err(problem) = result {
            without(format!("{what}: {problem}"));
        }
    }
    // Isolated, without site packages and compiled files.
    let error =
        Command::new(&path).args(["-I", "-S", "-B", "-c", WORKER]).arg(memory.to_string()).exec();
    format!("{}: {error}", path.display())
}

fn find(python: &str) -> Option<PathBuf> {
    if python.contains('/') {
        return Path::new(python).canonicalize().ok();
    }
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(python));
    places.find(|path| path.is_file())
}

fn restrict_files(python: &Path) -> Result<(), String> {
    let abi = ABI::V5;
    let told = |error: landlock::RulesetError| error.to_string();
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(told)?
        .handle_access(AccessNet::from_all(abi))
        .map_err(told)?
        .create()
        .map_err(told)?;
    // A link, as in a virtual environment, leads to where its library is.
    let real = python.canonicalize().unwrap_or_else(|_| python.to_owned());
    let own = [python, &real].into_iter().filter_map(|path| path.parent()?.parent());
    let own: Vec<PathBuf> =
        own.filter(|path| *path != Path::new("/")).map(Path::to_owned).collect();
    let readable = READABLE.iter().map(PathBuf::from).chain(own);
    for path in readable.filter(|path| path.exists()) {
        let access = match path.is_dir() {
            true => AccessFs::from_read(abi),
            false => AccessFs::ReadFile | AccessFs::Execute,
        };
        let access = match path == Path::new("/dev/null") {
            true => access | AccessFs::WriteFile,
            false => access,
        };
        let file = PathFd::new(&path).map_err(|error| error.to_string())?;
        ruleset = ruleset.add_rule(PathBeneath::new(file, access)).map_err(told)?;
    }
    let status = ruleset.restrict_self().map_err(told)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel has none".to_owned()),
        _ => Ok(()),
    }
}

fn restrict_calls() -> Result<(), String> {
    let told = |error: seccompiler::BackendError| error.to_string();
    let refused = [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_io_uring_setup,
        libc::SYS_keyctl,
        libc::SYS_memfd_create,
        libc::SYS_shmget,
        libc::SYS_msgget,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_vfork,
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        refused.into_iter().map(|call| (call, Vec::new())).collect();
    // Threads are fine, processes are not.
    let thread = u64::try_from(libc::CLONE_THREAD).unwrap_or_default();
    let masked = SeccompCmpOp::MaskedEq(thread);
    let is_process = SeccompCondition::new(0, SeccompCmpArgLen::Qword, masked, 0).map_err(told)?;
    let process = SeccompRule::new(vec![is_process]).map_err(told)?;
    rules.insert(libc::SYS_clone, vec![process]);
    let arch = std::env::consts::ARCH.try_into().map_err(told)?;
    let refuse = |rules, errno| -> Result<(), String> {
        let action = SeccompAction::Errno(u32::try_from(errno).unwrap_or(1));
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch);
        let program: BpfProgram = filter.map_err(told)?.try_into().map_err(told)?;
        seccompiler::apply_filter(&program).map_err(|error| error.to_string())
    };
    refuse(rules, libc::EPERM)?;
    // Its flags are in memory, where a filter does not look; C libraries then
    // take the older call.
    refuse(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)
}
