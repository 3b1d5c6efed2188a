//! What a worker may do: compute, read Python's own library, have children that
//! run scripts, and talk through its two pipes.
//!
//! `ratekitty pyscripts-worker` gives up its rights and becomes CPython:
//!
//! * Landlock (Linux 5.13, network from 6.7, signals from 6.12): of files it may
//!   read and run those below `/usr`, `/lib`, `/lib64`, `/opt` and the folder of
//!   its Python, and the time zone; nothing is written; no TCP; no signals to
//!   others.
//! * seccomp, on x86-64, ARM64 and RISC-V 64: no sockets of any kind, no signals
//!   but the worker's to its children, no looking into other processes and no
//!   change of how they run, no change of what files are called and who may what
//!   with them. A child, before it runs a script, also gives up to start
//!   programs and processes and to send signals at all.
//! * limits: memory, no file may grow, no core dump.
//!
//! What the kernel does not have is told, and the rest holds.

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit, setsid};
#[cfg(target_arch = "x86_64")]
use seccompiler::sock_filter;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use crate::decimal::MAX_DIGITS;

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
    // What a terminal sends to the processor, such as Ctrl-C, is not for workers.
    // One that leads a group already has nothing to leave.
    let _ = setsid();
    if let Err(problem) = restrict_files(&path) {
        without(format!("Landlock: {problem}"));
    }
    let children = restrict_calls().unwrap_or_else(|problem| {
        without(format!("seccomp: {problem}"));
        String::new()
    });
    // Isolated, without site packages and compiled files.
    let error = Command::new(&path)
        .args(["-I", "-S", "-B", "-c", WORKER])
        .args([memory.to_string(), MAX_DIGITS.to_string(), children])
        .exec();
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
        .scope(Scope::from_all(ABI::V6))
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

/// Calls that reach other processes, refused to worker and children.
const OTHERS: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    PROCESS_MRELEASE,
    libc::SYS_kcmp,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_flock,
    libc::SYS_memfd_create,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// Calls that change names, rights, owners, times and other marks of files, and
/// what is mounted; refused to worker and children. Landlock does not look at
/// most of them.
const FILES: &[i64] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    FILE_SETATTR,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_renameat,
    #[cfg(target_arch = "aarch64")]
    RENAMEAT_ARM64,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_fsmount,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
];

/// Calls that change the machine, for a processor that runs as root; refused to
/// worker and children.
const MACHINE: &[i64] = &[
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
];

/// What the worker needs to have children, and a child does not.
const CHILDREN: &[i64] = &[
    libc::SYS_kill,
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
];

// Newer than the names of some C libraries; the same numbers everywhere.
const PROCESS_MRELEASE: i64 = 448;
const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const FILE_SETATTR: i64 = 469;

/// Which not every C library names there.
#[cfg(target_arch = "aarch64")]
const RENAMEAT_ARM64: i64 = 38;

/// Who gets the signals of a file, and which, beside `F_SETOWN`.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn always(calls: &[&[i64]]) -> Rules {
    calls.iter().copied().flatten().map(|call| (*call, Vec::new())).collect()
}

/// A rule about one argument, an `int`.
fn argument(at: u8, is: SeccompCmpOp, value: i32) -> Result<SeccompRule, BackendError> {
    let value = value.unsigned_abs().into();
    SeccompRule::new(vec![SeccompCondition::new(at, SeccompCmpArgLen::Dword, is, value)?])
}

fn program(rules: Rules, errno: i32) -> Result<BpfProgram, BackendError> {
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
}

/// What worker and children may not call.
fn of_worker() -> Result<BpfProgram, BackendError> {
    let mut rules = always(&[OTHERS, FILES, MACHINE]);
    // Its own limits may be asked for, and lowered.
    rules.insert(libc::SYS_prlimit64, vec![argument(0, SeccompCmpOp::Ne, 0)?]);
    let owners = [libc::F_SETOWN, F_SETSIG, F_SETOWN_EX];
    let owners = owners.map(|command| argument(1, SeccompCmpOp::Eq, command));
    rules.insert(libc::SYS_fcntl, owners.into_iter().collect::<Result<_, _>>()?);
    program(rules, libc::EPERM)
}

/// What children may not call besides.
fn of_children() -> Result<BpfProgram, BackendError> {
    let mut rules = always(&[CHILDREN]);
    // Threads are fine, processes are not.
    let is_thread = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD.unsigned_abs().into());
    rules.insert(libc::SYS_clone, vec![argument(0, is_thread, 0)?]);
    // They end with the worker.
    let death = argument(0, SeccompCmpOp::Eq, libc::PR_SET_PDEATHSIG)?;
    rules.insert(libc::SYS_prctl, vec![death]);
    program(rules, libc::EPERM)
}

/// Refuses the calls of x32 programs, which are the same under other numbers.
#[cfg(target_arch = "x86_64")]
fn of_x32() -> BpfProgram {
    const FIRST: u32 = 0x4000_0000;
    const LOAD: u16 = 0x20;
    const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let step = |code, jf, k| sock_filter { code, jt: 0, jf, k };
    vec![
        // The number of the call is the first that there is to load.
        step(LOAD, 0, 0),
        step(JUMP_IF_GREATER_OR_EQUAL, 1, FIRST),
        step(RETURN, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
        step(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Refuses calls from here on, and gives the filter that children set, as the
/// kernel reads it, in base64.
fn restrict_calls() -> Result<String, String> {
    let told = |error: BackendError| error.to_string();
    let children = of_children().map_err(told)?;
    let programs = [
        of_worker().map_err(told)?,
        // Its flags are in memory, where a filter does not look; C libraries
        // then take the older call.
        program(always(&[&[libc::SYS_clone3]]), libc::ENOSYS).map_err(told)?,
        #[cfg(target_arch = "x86_64")]
        of_x32(),
    ];
    for program in &programs {
        seccompiler::apply_filter(program).map_err(|error| error.to_string())?;
    }
    let mut bytes: Vec<u8> = Vec::with_capacity(8 * children.len());
    for step in children {
        bytes.extend(step.code.to_ne_bytes());
        bytes.extend([step.jt, step.jf]);
        bytes.extend(step.k.to_ne_bytes());
    }
    Ok(STANDARD.encode(bytes))
}
