use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_INSUFFICIENT_BUFFER, ERROR_SUCCESS, GENERIC_ALL, GENERIC_READ, HANDLE,
    HLOCAL, LocalFree,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT,
};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, GetAce, GetTokenInformation,
    INHERIT_ONLY_ACE, IsWellKnownSid, PROTECTED_DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR,
    PSID, SetFileSecurityW, TOKEN_QUERY, TOKEN_USER, TokenUser, WELL_KNOWN_SID_TYPE,
    WinAnonymousSid, WinAuthenticatedUserSid, WinBuiltinGuestsSid, WinBuiltinUsersSid,
    WinInteractiveSid, WinNetworkSid, WinWorldSid,
};
use windows_sys::Win32::Storage::FileSystem::FILE_READ_DATA;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// An entry of an access list that allows something (`ACCESS_ALLOWED_ACE_TYPE`).
const ALLOWS: u8 = 0;

/// Groups that hold other users than the owner.
const OTHERS: [WELL_KNOWN_SID_TYPE; 7] = [
    WinWorldSid,
    WinAuthenticatedUserSid,
    WinBuiltinUsersSid,
    WinBuiltinGuestsSid,
    WinAnonymousSid,
    WinInteractiveSid,
    WinNetworkSid,
];

pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    tighten(folder)
}

/// Closed before anything is written to it: Windows gives a new file its folder's access list.
pub(super) fn create(file: &Path) -> io::Result<File> {
    let created = OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(file)?;
    tighten(file)?;
    Ok(created)
}

pub(super) fn tighten(path: &Path) -> io::Result<()> {
    let folder = if path.is_dir() { "OICI" } else { "" };
    let user = this_user()?;
    // The user, the system and its administrators; nothing from the folder above.
    let list: String = [user.as_str(), "SY", "BA"]
        .iter()
        .map(|who| format!("(A;{folder};FA;;;{who})"))
        .collect();
    set_access(path, &format!("D:P{list}"))
}

pub(super) fn is_open_to_others(file: &File) -> io::Result<bool> {
    let (mut list, mut descriptor): (*mut ACL, PSECURITY_DESCRIPTOR) =
        (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the file is open; what is asked for goes to variables of its types.
    let fault = unsafe {
        GetSecurityInfo(
            file.as_raw_handle(),
            SE_FILE_OBJECT,
            DACL_SECURITY_INFORMATION,
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut list,
            ptr::null_mut(),
            &raw mut descriptor,
        )
    };
    if fault != ERROR_SUCCESS {
        return Err(io::Error::from_raw_os_error(fault as i32));
    }
    let _descriptor = Local(descriptor);
    if list.is_null() {
        // Without a list everybody may do everything.
        return Ok(true);
    }
    // SAFETY: the list is one that Windows made, and lives as long as its descriptor.
    let entries = unsafe { (*list).AceCount };
    for index in 0..u32::from(entries) {
        let mut entry: *mut c_void = ptr::null_mut();
        // SAFETY: as above; the index is below the count.
        if unsafe { GetAce(list, index, &raw mut entry) } == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: every entry begins with a header.
        let header = unsafe { &*entry.cast::<ACE_HEADER>() };
        if header.AceType != ALLOWS || u32::from(header.AceFlags) & INHERIT_ONLY_ACE != 0 {
            continue;
        }
        // SAFETY: an entry of that type, which ends with whom it is for.
        let (mask, whom) = unsafe {
            let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
            ((*entry).Mask, (&raw mut (*entry).SidStart).cast::<c_void>())
        };
        let reads = mask & (FILE_READ_DATA | GENERIC_READ | GENERIC_ALL) != 0;
        // SAFETY: whom the entry is for is a whole SID.
        let is_for_others = OTHERS
            .iter()
            .any(|kind| unsafe { IsWellKnownSid(whom, *kind) } != 0);
        if reads && is_for_others {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn command_to_tighten(file: &Path) -> String {
    format!(
        "icacls \"{}\" /inheritance:r /grant:r \"%USERNAME%:F\"",
        file.display()
    )
}

/// Gives a path the access list of a security descriptor in Windows' text form.
fn set_access(path: &Path, descriptor: &str) -> io::Result<()> {
    let text: Vec<u16> = descriptor.encode_utf16().chain([0]).collect();
    let mut made: PSECURITY_DESCRIPTOR = ptr::null_mut();
    // SAFETY: the text ends with a zero; no size is asked for.
    let done = unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            SDDL_REVISION_1,
            &raw mut made,
            ptr::null_mut(),
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    let made = Local(made);
    let name = wide(path);
    // The call that takes a whole descriptor: the newer one that takes a list adds the entries of
    // the folder above under Wine, whatever the list says.
    let parts = DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION;
    // SAFETY: the name ends with a zero; the descriptor is the one just made.
    match unsafe { SetFileSecurityW(name.as_ptr(), parts, made.0) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The SID of the user that runs this program, in Windows' text form.
fn this_user() -> io::Result<String> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the process's own token goes to a variable of its type.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let user = user_of(token);
    // SAFETY: the token was opened above, and is used no more.
    unsafe { CloseHandle(token) };
    user
}

fn user_of(token: HANDLE) -> io::Result<String> {
    let mut size = 0;
    // SAFETY: without room the call only says how much it needs.
    unsafe { GetTokenInformation(token, TokenUser, ptr::null_mut(), 0, &raw mut size) };
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(ERROR_INSUFFICIENT_BUFFER as i32) {
        return Err(error);
    }
    // In words of 64 bits, as what is written to it is aligned.
    let mut room = vec![0_u64; (size as usize).div_ceil(8)];
    let room = room.as_mut_ptr().cast::<c_void>();
    // SAFETY: there is as much room as the call said.
    if unsafe { GetTokenInformation(token, TokenUser, room, size, &raw mut size) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has written a `TOKEN_USER`, and its SID behind it.
    let sid: PSID = unsafe { (*room.cast::<TOKEN_USER>()).User.Sid };
    let mut text = ptr::null_mut();
    // SAFETY: the SID is whole.
    if unsafe { ConvertSidToStringSidW(sid, &raw mut text) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let text = Local(text.cast());
    let letters = text.0.cast::<u16>();
    // SAFETY: the text that Windows made ends with a zero.
    let sid = unsafe {
        let length = (0..).take_while(|at| *letters.add(*at) != 0).count();
        std::slice::from_raw_parts(letters, length)
    };
    Ok(String::from_utf16_lossy(sid))
}

/// What Windows allocated for the caller to free.
struct Local(HLOCAL);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: it is what a call that says so has allocated, and is freed once.
        unsafe { LocalFree(self.0) };
    }
}

fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

#[cfg(test)]
pub(super) fn open_to_others(path: &Path) {
    assert!(set_access(path, "D:P(A;;FA;;;WD)").is_ok());
}
