//! Starting with the system, as the person's own entry and nobody else's.

use std::path::Path;

use auto_launch::{AutoLaunch, AutoLaunchBuilder, MacOSLaunchMode, WindowsEnableMode};
use tauri::AppHandle;

use crate::{HIDDEN, surroundings};

/// Makes or removes the entry. One that is wanted is made anew each time: the program may have been
/// moved.
pub(crate) fn set(app: &AppHandle, wanted: bool) -> Result<(), Box<dyn std::error::Error>> {
    let entry = entry(&surroundings::program(app)?)?;
    if wanted {
        entry.enable()?;
    } else if entry.is_enabled()? {
        entry.disable()?;
    }
    Ok(())
}

fn entry(program: &Path) -> auto_launch::Result<AutoLaunch> {
    AutoLaunchBuilder::new()
        .set_app_name("Infera Node")
        .set_app_path(&command(program))
        .set_args(&[HIDDEN])
        .set_macos_launch_mode(MacOSLaunchMode::LaunchAgent)
        // Else it would be every user's where an administrator runs the program.
        .set_windows_enable_mode(WindowsEnableMode::CurrentUser)
        .build()
}

/// Windows and Linux keep a whole command line, macOS a list of words.
fn command(program: &Path) -> String {
    if cfg!(target_os = "macos") {
        program.display().to_string()
    } else {
        format!("\"{}\"", program.display())
    }
}

#[cfg(all(test, not(target_os = "macos")))]
mod tests {
    use super::*;

    #[test]
    fn a_program_in_a_folder_with_a_space_is_started_whole() {
        let folder = Path::new("/home/me/Infera Node/infera-node");
        let entry = entry(folder).unwrap();
        assert_eq!(entry.get_app_name(), "Infera Node");
        assert_eq!(entry.get_app_path(), "\"/home/me/Infera Node/infera-node\"");
        assert_eq!(entry.get_args(), [HIDDEN]);
    }
}
