//! The seccomp filter: system calls that no forward pass needs, and that reach the network, other
//! programs or the kernel's depths.
//!
//! It lists what is forbidden, not what is allowed: which calls a GPU's driver makes, nobody has
//! written down. A forbidden call fails with "not permitted" and ends nothing, because drivers try
//! things and go on without them.

use std::io;

use libc::{c_long, sock_filter};

/// Forbidden whatever their arguments.
const FORBIDDEN: &[c_long] = &[
    // The network, and sockets of other programs, the session bus among them.
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // A ring takes calls that no filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    // Namespaces and what is mounted.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Keys of the session.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Where the kernel's faults are found.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    // For administrators.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const OF_THE_PROCESSOR: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_THE_PROCESSOR: &[c_long] = &[];

/// `AUDIT_ARCH_*` of the kernel's `audit.h`; none where the calls' numbers are not known here.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else if cfg!(target_arch = "riscv64") {
    Some(0xC000_00F3)
} else {
    None
};

/// Where things are in the kernel's `seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
/// The low half of an argument, on a little-endian processor.
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const LACK: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// On x86-64 the same calls have numbers from here on a second time.
const SECOND_NUMBERS: u32 = 0x4000_0000;

/// For this process and all of its threads, for good. Needs that no new privileges can be had.
pub(super) fn install() -> io::Result<()> {
    let architecture =
        ARCHITECTURE.ok_or_else(|| io::Error::other("not known for this processor"))?;
    let mut instructions = program(architecture, std::process::id());
    let program = libc::sock_fprog {
        len: instructions.len() as u16,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: the program and its instructions are there while the call reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    match result {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        thread => Err(io::Error::other(format!(
            "the thread {thread} has another filter"
        ))),
    }
}

fn program(architecture: u32, own: u32) -> Vec<sock_filter> {
    let mut program = Program::default();
    program.load(ARCHITECTURE_AT);
    // Calls of another architecture have other numbers.
    program.unless_equal(architecture, REFUSE);
    program.load(NUMBER);
    if cfg!(target_arch = "x86_64") {
        program.if_at_least(SECOND_NUMBERS, REFUSE);
    }
    for call in FORBIDDEN.iter().chain(OF_THE_PROCESSOR) {
        program.if_equal(*call as u32, REFUSE);
    }
    // Its flags are in memory, where no filter sees them. The C library then uses `clone`.
    program.if_equal(libc::SYS_clone3 as u32, LACK);
    // Threads, not processes.
    program.of_call(libc::SYS_clone, 0, |program| {
        program.unless_bits(libc::CLONE_THREAD as u32, REFUSE);
    });
    // Signals, and limits, for itself only.
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        program.of_call(call, 0, |program| program.unless_equal(own, REFUSE));
    }
    program.of_call(libc::SYS_prlimit64, 0, |program| {
        program.if_equal(0, ALLOW);
        program.unless_equal(own, REFUSE);
    });
    // Key strokes for the shell behind the terminal that the log goes to.
    program.of_call(libc::SYS_ioctl, 1, |program| {
        program.if_equal(libc::TIOCSTI as u32, REFUSE);
        program.if_equal(libc::TIOCLINUX as u32, REFUSE);
    });
    program.end(ALLOW);
    program.0
}

/// In the language of the kernel's packet filters: one accumulator, jumps forward only.
#[derive(Default)]
struct Program(Vec<sock_filter>);

impl Program {
    fn push(&mut self, code: u32, jumps: (u8, u8), k: u32) {
        self.0.push(sock_filter {
            code: code as u16,
            jt: jumps.0,
            jf: jumps.1,
            k,
        });
    }

    fn load(&mut self, at: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (0, 0), at);
    }

    fn end(&mut self, result: u32) {
        self.push(libc::BPF_RET | libc::BPF_K, (0, 0), result);
    }

    fn if_equal(&mut self, value: u32, result: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (0, 1), value);
        self.end(result);
    }

    fn unless_equal(&mut self, value: u32, result: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (1, 0), value);
        self.end(result);
    }

    fn if_at_least(&mut self, value: u32, result: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, (0, 1), value);
        self.end(result);
    }

    fn unless_bits(&mut self, bits: u32, result: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, (1, 0), bits);
        self.end(result);
    }

    /// Rules about one argument of one call, which is allowed where none of them ends it.
    fn of_call(&mut self, call: c_long, index: u32, rules: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        inner.load(argument(index));
        rules(&mut inner);
        inner.end(ALLOW);
        let behind = inner.0.len() as u8;
        let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        self.push(code, (0, behind), call as u32);
        self.0.append(&mut inner.0);
    }
}
