//! Gamepads, by `XInput`: Windows does not count them as input.

use std::mem;
use std::ptr;
use std::time::{Duration, Instant};

use windows_sys::Win32::System::LibraryLoader::{
    GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW,
};
use windows_sys::Win32::UI::Input::XboxController::{XINPUT_GAMEPAD, XINPUT_STATE};
use windows_sys::core::{s, w};

/// As `XInputGetState` is declared.
type GetState = unsafe extern "system" fn(u32, *mut XINPUT_STATE) -> u32;

const PLACES: usize = 4;
/// To look at a place without a gamepad takes long.
const LOOK_FOR_NEW_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Gamepads {
    /// None on a system without games.
    get_state: Option<GetState>,
    /// As each was when it last counted; none without a gamepad.
    before: [Option<XINPUT_GAMEPAD>; PLACES],
    looked_for_new: Option<Instant>,
}

impl Gamepads {
    pub(super) fn open() -> Self {
        Self {
            get_state: get_state(),
            before: [None; PLACES],
            looked_for_new: None,
        }
    }

    /// Whether somebody has used one since the last look.
    pub(super) fn are_used(&mut self, now: Instant) -> bool {
        let Some(get_state) = self.get_state else {
            return false;
        };
        let waited = |last: Instant| now.duration_since(last) >= LOOK_FOR_NEW_EVERY;
        let looks_for_new = self.looked_for_new.is_none_or(waited);
        if looks_for_new {
            self.looked_for_new = Some(now);
        }
        let mut are_used = false;
        for (place, before) in self.before.iter_mut().enumerate() {
            if before.is_none() && !looks_for_new {
                continue;
            }
            let mut state = XINPUT_STATE::default();
            // SAFETY: it is written where it succeeds.
            if unsafe { get_state(place as u32, &raw mut state) } != 0 {
                *before = None;
                continue;
            }
            let is_used = before.is_some_and(|before| is_used(&before, &state.Gamepad));
            if is_used || before.is_none() {
                *before = Some(state.Gamepad);
            }
            are_used |= is_used;
        }
        are_used
    }
}

/// Only a person moves far: sticks tremble.
fn is_used(before: &XINPUT_GAMEPAD, now: &XINPUT_GAMEPAD) -> bool {
    /// Of 32,767.
    const STICK: u16 = 4096;
    /// Of 255.
    const TRIGGER: u8 = 32;
    let sticks = [
        (before.sThumbLX, now.sThumbLX),
        (before.sThumbLY, now.sThumbLY),
        (before.sThumbRX, now.sThumbRX),
        (before.sThumbRY, now.sThumbRY),
    ];
    let triggers = [
        (before.bLeftTrigger, now.bLeftTrigger),
        (before.bRightTrigger, now.bRightTrigger),
    ];
    before.wButtons != now.wButtons
        || sticks
            .iter()
            .any(|(one, other)| one.abs_diff(*other) > STICK)
        || triggers
            .iter()
            .any(|(one, other)| one.abs_diff(*other) > TRIGGER)
}

/// Loaded by hand: a server without a desktop may lack it, where this program is to start too.
fn get_state() -> Option<GetState> {
    // SAFETY: it is the system's own library, which is never unloaded, and the function is of the
    // declared type.
    unsafe {
        let library = LoadLibraryExW(
            w!("xinput1_4.dll"),
            ptr::null_mut(),
            LOAD_LIBRARY_SEARCH_SYSTEM32,
        );
        if library.is_null() {
            return None;
        }
        let function = GetProcAddress(library, s!("XInputGetState"))?;
        Some(mem::transmute::<
            unsafe extern "system" fn() -> isize,
            GetState,
        >(function))
    }
}
