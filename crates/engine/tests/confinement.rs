//! What a confined process can and cannot do. Each test runs this program again, as a child that
//! confines itself, tries, and tells.
#![cfg(target_os = "linux")]
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and one that is left out says so"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use infera_engine::confinement::{Bound, Confinement, Needs, describe};
use infera_engine::device;
use infera_engine::gpu::Tuning;
use infera_engine::gpu::selftest::selftest;
use infera_engine::message::DeviceChoice;
use infera_model::quant::TensorType;

/// Where the child finds what it is to try.
const FOLDER: &str = "INFERA_TEST_CONFINED_IN";
const SWITCH: &str = "INFERA_ENGINE_CONFINED";
/// Before what the child tells.
const MARK: &str = "told: ";

/// A folder with what a child may use and what it may not.
struct Stage(tempfile::TempDir);

impl Stage {
    fn new() -> Self {
        let stage = Self(tempfile::tempdir().unwrap());
        for (folder, file) in [("home/.ssh", "id_ed25519"), ("models", "other.gguf")] {
            let folder = stage.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), "secret").unwrap();
        }
        fs::write(stage.path().join("models/own.gguf"), "GGUF").unwrap();
        stage
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What the child tells of each thing that it tried: `ok`, or the kind of error.
    fn child(&self, switch: Option<&str>) -> BTreeMap<String, String> {
        self.run("a_confined_child", switch)
    }

    fn run(&self, name: &str, switch: Option<&str>) -> BTreeMap<String, String> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", name, "--ignored", "--nocapture"])
            .arg("--test-threads=1")
            .env(FOLDER, self.path())
            .env("HOME", self.path().join("home"))
            .env_remove("XDG_CACHE_HOME")
            .env_remove(SWITCH)
            .stdin(Stdio::null());
        if let Some(switch) = switch {
            command.env(SWITCH, switch);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let told: BTreeMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once(MARK)?.1.split_once(" = "))
            .map(|(what, how)| (what.to_owned(), how.to_owned()))
            .collect();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told:?} {error}");
        told
    }
}

fn tell<T>(what: &str, result: io::Result<T>) {
    let how = match result {
        Ok(_) => "ok".to_owned(),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => "denied".to_owned(),
        Err(error) => error.to_string(),
    };
    println!("{MARK}{what} = {how}");
}

/// `ok`, or why the kernel here cannot tell.
fn lacks(told: &BTreeMap<String, String>, bound: &str) -> bool {
    let how = &told[&format!("bound of {bound}")];
    if how == "ok" {
        return false;
    }
    eprintln!("skipped: this kernel does not bound {bound}: {how}");
    true
}

#[test]
#[ignore = "the other tests start it"]
fn a_confined_child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let tunings = folder.join("data/tunings");
    let own = folder.join("models/own.gguf");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let bus = folder.join("bus");
    let _bus = UnixListener::bind(&bus).unwrap();
    let confinement = Confinement::enter(&Needs {
        model: Some(own.clone()),
        tunings: Some(tunings.clone()),
    });
    for Bound { of, fault } in &confinement.bounds {
        let how = fault.as_deref().unwrap_or("ok");
        println!("{MARK}bound of {of} = {how}");
    }
    println!("{MARK}bounds = {}", describe(&confinement.bounds));

    // What it needs.
    tell("read the model", fs::read(&own));
    tell("write a tuning", fs::write(tunings.join("a.json"), "{}"));
    tell(
        "rename a tuning",
        fs::rename(tunings.join("a.json"), tunings.join("b.json")),
    );
    let shaders = folder.join("home/.cache/mesa_shader_cache/ab");
    tell("make a folder for shaders", fs::create_dir(&shaders));
    tell("write a shader", fs::write(shaders.join("cd"), "x"));
    tell("read a library's folder", fs::read_dir("/usr/lib"));
    tell("read its own maps", fs::read("/proc/self/maps"));
    tell("read the memory's size", fs::read("/proc/meminfo"));
    tell("read random bytes", File::open("/dev/urandom"));
    tell(
        "write to nothing",
        File::options().write(true).open("/dev/null"),
    );
    let thread = std::thread::Builder::new().spawn(|| 7);
    tell(
        "start a thread",
        thread.map(|thread| thread.join().unwrap()),
    );
    confinement.begin_act();

    // What it does not.
    tell("read a key", fs::read(folder.join("home/.ssh/id_ed25519")));
    tell("list a home", fs::read_dir(folder.join("home")));
    tell(
        "read another model",
        fs::read(folder.join("models/other.gguf")),
    );
    tell("write the model", fs::write(&own, "x"));
    tell("read accounts", fs::read("/etc/shadow"));
    tell(
        "write elsewhere",
        fs::write(folder.join("models/new.gguf"), "x"),
    );
    let parent = format!("/proc/{}/environ", std::os::unix::process::parent_id());
    tell("read its parent's environment", fs::read(parent));
    tell("connect", TcpStream::connect(address));
    tell("listen", TcpListener::bind("127.0.0.1:0"));
    tell("send a datagram", UdpSocket::bind("127.0.0.1:0"));
    tell("speak to the session bus", UnixStream::connect(&bus));
    tell("run a program", Command::new("/bin/true").status());
    let parent = std::os::unix::process::parent_id() as i32;
    let none = 0_u64;
    let called = |what: &str, result: i64| {
        let denied = io::Error::last_os_error();
        tell(what, if result < 0 { Err(denied) } else { Ok(()) });
    };
    // SAFETY: these calls take numbers, a text, or pointers that are null.
    unsafe {
        called("signal its parent", libc::kill(parent, 0).into());
        let child = libc::syscall(
            libc::SYS_clone,
            libc::SIGCHLD as u64,
            none,
            none,
            none,
            none,
        );
        if child == 0 {
            // This is the fork that must not be: it ends without a word.
            libc::_exit(0);
        }
        called("fork", child);
        called(
            "trace its parent",
            libc::ptrace(libc::PTRACE_SEIZE, parent, none, none),
        );
        called(
            "take a keyring",
            libc::syscall(libc::SYS_keyctl, none, -3_i64, none),
        );
        called(
            "make a ring",
            libc::syscall(libc::SYS_io_uring_setup, 1_u64, none),
        );
        called(
            "load a program into the kernel",
            libc::syscall(libc::SYS_bpf, none, none, none),
        );
        called(
            "leave its namespace",
            libc::unshare(libc::CLONE_NEWUSER).into(),
        );
        called(
            "type into a terminal",
            libc::ioctl(0, libc::TIOCSTI, c"x".as_ptr()).into(),
        );
        let mut limit = std::mem::zeroed();
        called(
            "limit its parent",
            libc::prlimit(
                parent,
                libc::RLIMIT_NOFILE,
                std::ptr::null(),
                &raw mut limit,
            )
            .into(),
        );
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines() {
        if let Some((what @ ("NoNewPrivs" | "Seccomp"), how)) = line.split_once(':') {
            println!("{MARK}{what} = {}", how.trim());
        }
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    for line in limits.lines() {
        for what in ["Max core file size", "Max data size", "Max cpu time"] {
            if let Some(rest) = line.strip_prefix(what) {
                let how = rest.split_whitespace().next().unwrap();
                println!("{MARK}{what} = {how}");
            }
        }
    }
}

#[test]
fn a_confined_process_reads_and_writes_what_it_needs_and_nothing_else() {
    let told = Stage::new().child(None);
    for what in [
        "read the model",
        "write a tuning",
        "rename a tuning",
        "make a folder for shaders",
        "write a shader",
        "read a library's folder",
        "read its own maps",
        "read the memory's size",
        "read random bytes",
        "write to nothing",
        "start a thread",
    ] {
        assert_eq!(told[what], "ok", "{what}");
    }
    if lacks(&told, "files") {
        return;
    }
    for what in [
        "read a key",
        "list a home",
        "read another model",
        "write the model",
        "read accounts",
        "write elsewhere",
        "read its parent's environment",
    ] {
        assert_eq!(told[what], "denied", "{what}");
    }
}

#[test]
fn a_confined_process_reaches_neither_the_network_nor_other_programs() {
    let told = Stage::new().child(None);
    if lacks(&told, "network") {
        return;
    }
    for what in [
        "connect",
        "listen",
        "send a datagram",
        "speak to the session bus",
        "run a program",
        "signal its parent",
        "fork",
        "trace its parent",
        "take a keyring",
        "make a ring",
        "load a program into the kernel",
        "leave its namespace",
        "type into a terminal",
        "limit its parent",
    ] {
        assert_eq!(told[what], "denied", "{what}");
    }
    assert_eq!((&told["NoNewPrivs"][..], &told["Seccomp"][..]), ("1", "2"));
}

#[test]
fn a_confined_process_has_limits_of_memory_and_processor_time() {
    let told = Stage::new().child(None);
    assert_eq!(told["Max core file size"], "0");
    let number = |what: &str| told[what].parse::<u64>().unwrap();
    let ram = infera_engine::memory_budget::ram_bytes().unwrap();
    assert!(number("Max data size") <= ram.max(2 << 30));
    assert!((3600..3600 * 1024).contains(&number("Max cpu time")));
}

#[test]
#[ignore = "the other tests start it"]
fn a_confined_selftest() {
    if std::env::var_os(FOLDER).is_none() {
        return;
    }
    let confinement = Confinement::enter(&Needs::default());
    println!("{MARK}bounds = {}", describe(&confinement.bounds));
    let opened = match device::open(&DeviceChoice::Named("llvmpipe".to_owned())) {
        Ok(opened) => opened,
        Err(failure) => {
            println!("{MARK}device = {failure}");
            return;
        }
    };
    let mut tuning = Tuning::software();
    // The widest columns take long to compile.
    tuning.shapes.truncate(2);
    let device = opened.gpu.unwrap();
    let checks = selftest(&device, &tuning, &[TensorType::Q4K], &mut |_| {});
    let failed = checks.iter().filter(|check| !check.pass).count();
    println!("{MARK}checks = {}", checks.len());
    println!("{MARK}failed checks = {failed}");
}

/// The driver finds its libraries, compiles and computes.
#[test]
fn a_confined_process_computes_what_it_should_on_software_vulkan() {
    let told = Stage::new().run("a_confined_selftest", None);
    if let Some(failure) = told.get("device") {
        eprintln!("skipped: {failure}");
        return;
    }
    assert!(told["checks"].parse::<u32>().unwrap() > 5);
    assert_eq!(told["failed checks"], "0");
}

#[test]
fn the_switch_leaves_all_out_and_says_so() {
    let told = Stage::new().child(Some("0"));
    assert_eq!(told["bounds"], "nothing");
    for what in ["read a key", "connect", "run a program"] {
        assert_eq!(told[what], "ok", "{what}");
    }
}
