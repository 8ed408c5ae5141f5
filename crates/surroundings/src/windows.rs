//! What Windows tells. Most of it has to be asked for, which is cheap.

mod gamepads;
mod network;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::c_void;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{mem, ptr};

use tokio::sync::{Notify, watch};
use windows_sys::Win32::Foundation::{HANDLE, HWND, INVALID_HANDLE_VALUE, LPARAM};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Power::{
    DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS, ES_CONTINUOUS, ES_SYSTEM_REQUIRED, GetSystemPowerStatus,
    HPOWERNOTIFY, PowerRegisterSuspendResumeNotification, PowerUnregisterSuspendResumeNotification,
    SYSTEM_POWER_STATUS, SetThreadExecutionState,
};
use windows_sys::Win32::System::RemoteDesktop::{
    ProcessIdToSessionId, WTS_CURRENT_SESSION, WTS_SESSIONSTATE_LOCK, WTSFreeMemory, WTSINFOEXW,
    WTSQuerySessionInformationW, WTSSessionInfoEx,
};
use windows_sys::Win32::System::SystemInformation::{
    GetTickCount, GlobalMemoryStatusEx, MEMORYSTATUSEX,
};
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW,
};
use windows_sys::Win32::UI::Input::KeyboardAndMouse::{GetLastInputInfo, LASTINPUTINFO};
use windows_sys::Win32::UI::Shell::{
    QUNS_BUSY, QUNS_PRESENTATION_MODE, QUNS_RUNNING_D3D_FULL_SCREEN, SHQueryUserNotificationState,
};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    DEVICE_NOTIFY_CALLBACK, EnumWindows, GetForegroundWindow, GetSystemMetrics,
    GetWindowTextLengthW, GetWindowThreadProcessId, IsWindowVisible, PBT_APMRESUMEAUTOMATIC,
    PBT_APMRESUMESUSPEND, PBT_APMSUSPEND, SM_REMOTESESSION,
};
use windows_sys::core::BOOL;

use self::gamepads::Gamepads;
use crate::board::Board;
use crate::memory_steps::step_of;
use crate::program::{Program, normal};
use crate::running::{Process, programs_of};
use crate::{Input, Power, QUIET_AFTER_MS, RunningProgram, Seen, Session, Wanted};

/// Nothing to say: all is asked of the system.
#[derive(Debug, Clone)]
pub struct Places;

impl Places {
    /// The only ones.
    pub fn of_this_machine() -> Self {
        Self
    }
}

pub(super) fn observe(
    _: Places,
    board: &Board,
    wanted: &watch::Receiver<Wanted>,
    ready_to_sleep: &Arc<Notify>,
) {
    tokio::spawn(follow_person(board.clone()));
    tokio::spawn(follow_network(board.clone()));
    tokio::spawn(follow_machine(board.clone()));
    tokio::spawn(follow_processes(board.clone(), wanted.clone()));
    tokio::spawn(keep_awake(wanted.clone()));
    tokio::spawn(follow_sleep(board.clone(), ready_to_sleep.clone()));
}

/// Those that show a window: what else runs in the person's session is the system's.
pub(super) fn running_programs() -> Option<Vec<RunningProgram>> {
    let own = std::process::id();
    let session = session_of(own);
    let shown = shown_windows();
    let processes: Vec<Process> = processes()
        .into_iter()
        .filter(|entry| session_of(entry.pid) == session)
        .map(|Entry { pid, parent, name }| {
            let path = path_of(pid);
            Process {
                pid,
                parent,
                program: Program::at(path.as_deref().unwrap_or(&name)),
                is_service: false,
                shows_window: shown.contains(&pid),
                uses_gpu: None,
                memory_bytes: None,
            }
        })
        .collect();
    let is_told = processes.iter().any(|process| process.pid == own);
    is_told.then(|| programs_of(&processes, own))
}

/// The processes whose windows stand in the task bar, about.
fn shown_windows() -> HashSet<u32> {
    let mut shown = HashSet::new();
    // SAFETY: what it is given is used during the call alone.
    unsafe { EnumWindows(Some(note_window), (&raw mut shown) as LPARAM) };
    shown
}

unsafe extern "system" fn note_window(window: HWND, shown: LPARAM) -> BOOL {
    // SAFETY: it is what `shown_windows` gave, which waits for this.
    let shown = unsafe { &mut *(shown as *mut HashSet<u32>) };
    // SAFETY: they take any window, also one that has gone meanwhile.
    unsafe {
        if IsWindowVisible(window) != 0 && GetWindowTextLengthW(window) > 0 {
            let mut pid = 0;
            GetWindowThreadProcessId(window, &raw mut pid);
            shown.insert(pid);
        }
    }
    1
}

async fn follow_person(board: Board) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut gamepads = Gamepads::open();
    let mut gamepads_used_ms = None;
    loop {
        tick.tick().await;
        if gamepads.are_used(Instant::now()) {
            gamepads_used_ms = Some(now_ms());
        }
        let of_gamepads = gamepads_used_ms.map(|used_ms| input_at(used_ms, now_ms()));
        let input = Input::latest(input(), of_gamepads);
        let full_screen = full_screen();
        board.set(|shown| {
            // The time is measured each time: it may differ a little for the same quiet.
            let both_quiet = matches!(
                (shown.input, input),
                (Some(Input::Quiet { since_ms: one }), Some(Input::Quiet { since_ms: other }))
                    if one.abs_diff(other) < 1000
            );
            if !both_quiet {
                shown.input = input;
            }
            shown.full_screen = full_screen;
        });
    }
}

fn input() -> Option<Input> {
    let mut last = LASTINPUTINFO {
        cbSize: size_of::<LASTINPUTINFO>() as u32,
        dwTime: 0,
    };
    // SAFETY: it says how large it is.
    if unsafe { GetLastInputInfo(&raw mut last) } == 0 {
        return None;
    }
    // SAFETY: it always succeeds.
    let quiet_ms = i64::from(unsafe { GetTickCount() }.wrapping_sub(last.dwTime));
    let now_ms = now_ms();
    Some(input_at(now_ms - quiet_ms, now_ms))
}

fn input_at(last_ms: i64, now_ms: i64) -> Input {
    if now_ms - last_ms < QUIET_AFTER_MS {
        Input::Recent
    } else {
        Input::Quiet { since_ms: last_ms }
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    now.as_millis() as i64
}

/// The system's calls end with this task.
async fn follow_network(board: Board) {
    let _following = network::Following::begin(&board);
    std::future::pending::<()>().await;
}

fn full_screen() -> Option<Seen> {
    let mut state = 0;
    // SAFETY: it is written before it is read.
    if unsafe { SHQueryUserNotificationState(&raw mut state) } < 0 {
        return None;
    }
    let full = [
        QUNS_BUSY,
        QUNS_RUNNING_D3D_FULL_SCREEN,
        QUNS_PRESENTATION_MODE,
    ]
    .contains(&state);
    Some(Seen::of(full.then(|| {
        let mut pid = 0;
        // SAFETY: a window that has gone meanwhile has no process.
        unsafe { GetWindowThreadProcessId(GetForegroundWindow(), &raw mut pid) };
        let program = path_of(pid).map(|path| Program::at(&path));
        let name = program.and_then(|program| program.game().or_else(|| program.name()));
        name.unwrap_or_else(|| "?".to_owned())
    })))
}

async fn follow_machine(board: Board) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        let (power, memory, session) = (power(), free_memory(), session());
        board.set(|shown| {
            shown.power = power;
            let before = shown.available_memory_bytes;
            shown.available_memory_bytes = memory.map(|free| step_of(free, before));
            shown.session = Some(session);
        });
    }
}

fn power() -> Option<Power> {
    const ON_BATTERY: u8 = 0;
    let mut status = SYSTEM_POWER_STATUS::default();
    // SAFETY: it is written before it is read.
    if unsafe { GetSystemPowerStatus(&raw mut status) } == 0 {
        return None;
    }
    let percent = status.BatteryLifePercent;
    Some(Power {
        on_battery: status.ACLineStatus == ON_BATTERY,
        // Above it is unknown, or there is none.
        battery_percent: (percent <= 100).then_some(percent),
    })
}

fn free_memory() -> Option<u64> {
    let mut status = MEMORYSTATUSEX {
        dwLength: size_of::<MEMORYSTATUSEX>() as u32,
        ..MEMORYSTATUSEX::default()
    };
    // SAFETY: it says how large it is.
    (unsafe { GlobalMemoryStatusEx(&raw mut status) } != 0).then_some(status.ullAvailPhys)
}

fn session() -> Session {
    // SAFETY: it takes any number.
    let is_remote = unsafe { GetSystemMetrics(SM_REMOTESESSION) } != 0;
    if is_locked() {
        Session::Locked
    } else if is_remote {
        Session::Remote
    } else {
        Session::Open
    }
}

fn is_locked() -> bool {
    let (mut buffer, mut length) = (ptr::null_mut(), 0);
    // SAFETY: both are written where it succeeds, and what it gives is freed once. It is as large as
    // it says, and what is read of it is at its first level.
    unsafe {
        let found = WTSQuerySessionInformationW(
            ptr::null_mut(),
            WTS_CURRENT_SESSION,
            WTSSessionInfoEx,
            &raw mut buffer,
            &raw mut length,
        );
        if found == 0 || buffer.is_null() {
            return false;
        }
        let mut is_locked = false;
        if length as usize >= size_of::<WTSINFOEXW>() {
            let information = ptr::read_unaligned(buffer.cast::<WTSINFOEXW>());
            let flags = information.Data.WTSInfoExLevel1.SessionFlags;
            is_locked = information.Level == 1 && flags as u32 == WTS_SESSIONSTATE_LOCK;
        }
        WTSFreeMemory(buffer.cast());
        is_locked
    }
}

async fn follow_processes(board: Board, mut wanted: watch::Receiver<Wanted>) {
    let mut tick = tokio::time::interval(Duration::from_secs(2));
    let mut known: HashMap<(u32, String), Program> = HashMap::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
        let names: HashMap<String, String> = {
            let wanted = wanted.borrow_and_update();
            let names = wanted.programs.iter();
            names.map(|name| (normal(name), name.clone())).collect()
        };
        let mut now = HashMap::new();
        for Entry { pid, name, .. } in processes() {
            let process = (pid, name);
            // Only new ones are asked for their path.
            let program = known.remove(&process).unwrap_or_else(|| {
                let path = path_of(process.0);
                Program::at(path.as_deref().unwrap_or(&process.1))
            });
            now.insert(process, program);
        }
        known = now;
        let games: BTreeSet<String> = known.values().filter_map(Program::game).collect();
        let programs = known.values().flat_map(Program::names);
        let programs = programs.filter_map(|name| names.get(&name).cloned());
        let programs: BTreeSet<String> = programs.collect();
        board.set(|shown| {
            shown.games = Some(Seen::of(games));
            shown.programs = Some(Seen::of(programs));
        });
    }
}

/// A process in the system's table.
struct Entry {
    pid: u32,
    parent: u32,
    /// Its file's, without a folder.
    name: String,
}

fn processes() -> Vec<Entry> {
    let mut all = Vec::new();
    // SAFETY: a snapshot that could be made is closed once, and the entry says how large it is.
    unsafe {
        let snapshot = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
        if snapshot == INVALID_HANDLE_VALUE {
            return all;
        }
        let snapshot = OwnedHandle::from_raw_handle(snapshot);
        let mut entry: PROCESSENTRY32W = mem::zeroed();
        entry.dwSize = size_of::<PROCESSENTRY32W>() as u32;
        let mut more = Process32FirstW(snapshot.as_raw_handle(), &raw mut entry);
        while more != 0 {
            let name = entry.szExeFile;
            let length = name
                .iter()
                .position(|unit| *unit == 0)
                .unwrap_or(name.len());
            let name = String::from_utf16_lossy(&name[..length]);
            all.push(Entry {
                pid: entry.th32ProcessID,
                parent: entry.th32ParentProcessID,
                name,
            });
            more = Process32NextW(snapshot.as_raw_handle(), &raw mut entry);
        }
    }
    all
}

fn path_of(pid: u32) -> Option<String> {
    let mut path = vec![0_u16; 1024];
    let mut length = path.len() as u32;
    // SAFETY: a process that could be opened is closed once, and the path is as long as is said.
    unsafe {
        let process: HANDLE = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid);
        if process.is_null() {
            return None;
        }
        let process = OwnedHandle::from_raw_handle(process);
        let found = QueryFullProcessImageNameW(
            process.as_raw_handle(),
            PROCESS_NAME_WIN32,
            path.as_mut_ptr(),
            &raw mut length,
        );
        if found == 0 {
            return None;
        }
    }
    path.truncate(length as usize);
    Some(String::from_utf16_lossy(&path))
}

fn session_of(pid: u32) -> Option<u32> {
    let mut session = 0;
    // SAFETY: it is written where it succeeds.
    (unsafe { ProcessIdToSessionId(pid, &raw mut session) } != 0).then_some(session)
}

/// Windows keeps awake for a thread: all observers run on one, and it is theirs.
async fn keep_awake(mut wanted: watch::Receiver<Wanted>) {
    let mut is_kept = false;
    loop {
        let keep = wanted.borrow_and_update().keep_awake;
        if keep != is_kept {
            let required = if keep { ES_SYSTEM_REQUIRED } else { 0 };
            // SAFETY: it takes any of its flags.
            unsafe { SetThreadExecutionState(ES_CONTINUOUS | required) };
            is_kept = keep;
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

/// What the system's call about sleep works with.
struct Sleep {
    board: Board,
    is_ready: Mutex<bool>,
    became_ready: Condvar,
}

impl Sleep {
    fn set_ready(&self, ready: bool) {
        *self.is_ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
        self.became_ready.notify_all();
    }
}

/// Ends the system's calls when it is dropped.
struct Registration(HPOWERNOTIFY);

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: it is registered, and this ends it once.
        unsafe { PowerUnregisterSuspendResumeNotification(self.0) };
    }
}

async fn follow_sleep(board: Board, ready_to_sleep: Arc<Notify>) {
    // Never freed: a call may still be under way when the observers end.
    let sleep: &'static Sleep = Box::leak(Box::new(Sleep {
        board: board.clone(),
        is_ready: Mutex::new(false),
        became_ready: Condvar::new(),
    }));
    let registration = {
        let mut called = DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS {
            Callback: Some(on_sleep),
            Context: ptr::from_ref(sleep).cast_mut().cast(),
        };
        let mut handle: *mut c_void = ptr::null_mut();
        // SAFETY: the parameters are read during the call, and what they point to stays.
        let failed = unsafe {
            PowerRegisterSuspendResumeNotification(
                DEVICE_NOTIFY_CALLBACK,
                (&raw mut called).cast(),
                &raw mut handle,
            )
        };
        if failed != 0 {
            tracing::debug!(failed, "the system does not tell when it sleeps");
            return;
        }
        Registration(handle as HPOWERNOTIFY)
    };
    board.set(|shown| shown.going_to_sleep = Some(false));
    loop {
        ready_to_sleep.notified().await;
        sleep.set_ready(true);
        // It lives as long as this task.
        let _ = &registration;
    }
}

/// The system goes to sleep when this returns, or two seconds later.
unsafe extern "system" fn on_sleep(context: *const c_void, what: u32, _: *const c_void) -> u32 {
    const PATIENCE: Duration = Duration::from_millis(1800);
    // SAFETY: it was given at the registration, and is never freed.
    let sleep = unsafe { &*context.cast::<Sleep>() };
    match what {
        PBT_APMSUSPEND => {
            sleep.set_ready(false);
            sleep.board.set(|shown| shown.going_to_sleep = Some(true));
            let ready = sleep
                .is_ready
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let waited = sleep
                .became_ready
                .wait_timeout_while(ready, PATIENCE, |ready| !*ready);
            drop(waited);
        }
        PBT_APMRESUMEAUTOMATIC | PBT_APMRESUMESUSPEND => {
            sleep.board.set(|shown| shown.going_to_sleep = Some(false));
        }
        _ => {}
    }
    0
}
