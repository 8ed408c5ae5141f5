//! What a process runs, by its executable file and its command line.

use std::borrow::Cow;

use crate::game_library::{game_at, is_of_windows};

/// What the system tells of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Program {
    /// The whole path; none where this user may not know it.
    pub(crate) executable: Option<String>,
    pub(crate) arguments: Vec<String>,
}

impl Program {
    /// By the path alone.
    pub(crate) fn at(executable: &str) -> Self {
        // The kernel says so of a file that an update has replaced.
        let path = executable.strip_suffix(" (deleted)").unwrap_or(executable);
        Self {
            executable: Some(path.to_owned()),
            arguments: Vec::new(),
        }
    }

    /// Whether its executable file only runs another program, which the command line names.
    pub(crate) fn is_wine(&self) -> bool {
        self.executable.as_deref().is_some_and(|path| {
            matches!(
                file_name(path),
                "wine" | "wine64" | "wine-preloader" | "wine64-preloader"
            )
        })
    }

    /// Out of a game library, it has a game's name.
    pub(crate) fn game(&self) -> Option<String> {
        let own = self.executable.as_deref().and_then(game_at);
        own.or_else(|| self.windows_program().and_then(|path| game_at(&path)))
    }

    /// What the owner may call it: in lower case, without `.exe`.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let first = self
            .arguments
            .first()
            .map(|path| Cow::Borrowed(path.as_str()));
        let own = self.executable.as_deref().map(Cow::Borrowed);
        [own, first, self.windows_program()]
            .into_iter()
            .flatten()
            .map(|path| normal(file_name(&path)))
            .filter(|name| !name.is_empty())
    }

    /// The name to show: as in [`Program::names`], in its own case.
    pub(crate) fn name(&self) -> Option<String> {
        let path = self.windows_program();
        let path = path.as_deref().or(self.executable.as_deref())?;
        let name = without_exe(file_name(path));
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// What Wine runs, as the system on which it does would call it.
    fn windows_program(&self) -> Option<Cow<'_, str>> {
        if !self.is_wine() {
            return None;
        }
        let is_program = |argument: &&String| without_exe(argument).len() < argument.len();
        let path = self.arguments.iter().find(is_program)?;
        // Wine's name for the whole of this system.
        let here = path
            .strip_prefix(['Z', 'z'])
            .and_then(|rest| rest.strip_prefix(':'));
        Some(here.map_or(Cow::Borrowed(path), |path| {
            Cow::Owned(path.replace('\\', "/"))
        }))
    }
}

/// A program's name as it is compared.
pub(crate) fn normal(name: &str) -> String {
    without_exe(name.trim()).to_lowercase()
}

fn without_exe(name: &str) -> &str {
    let Some(at) = name.len().checked_sub(4) else {
        return name;
    };
    match (name.get(..at), name.get(at..)) {
        (Some(stem), Some(end)) if end.eq_ignore_ascii_case(".exe") => stem,
        _ => name,
    }
}

fn file_name(path: &str) -> &str {
    let name = if is_of_windows(path) {
        path.rsplit(['\\', '/']).next()
    } else {
        path.rsplit('/').next()
    };
    name.unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(executable: &str, arguments: &[&str]) -> Program {
        Program {
            arguments: arguments.iter().map(ToString::to_string).collect(),
            ..Program::at(executable)
        }
    }

    #[test]
    fn names_of_programs() {
        for (executable, arguments, names, name) in [
            (
                "/usr/bin/Blender",
                &["/usr/bin/blender", "file"][..],
                "blender blender",
                "Blender",
            ),
            ("/opt/obs (deleted)", &[], "obs", "obs"),
            (
                "/usr/bin/wine64-preloader",
                &[r"C:\Program Files\A\Photoshop.EXE", "/x"],
                "wine64-preloader photoshop photoshop",
                "Photoshop",
            ),
            (
                "/usr/bin/wine",
                &["/usr/bin/wine", r"Z:\home\a\b.exe"],
                "wine wine b",
                "b",
            ),
            (
                "/usr/bin/wine",
                &["wine", "./tool.exe"],
                "wine wine tool",
                "tool",
            ),
            ("/usr/bin/wine", &["wine"], "wine wine", "wine"),
            // Another program's argument says nothing of it.
            ("/usr/bin/less", &["less", r"C:\b.exe"], "less less", "less"),
            (r"C:\Tools\Resolve.exe", &[], "resolve", "Resolve"),
        ] {
            let program = program(executable, arguments);
            let all: Vec<String> = program.names().collect();
            assert_eq!(all.join(" "), names, "{executable}");
            assert_eq!(program.name().as_deref(), Some(name), "{executable}");
        }
    }

    #[test]
    fn a_process_whose_file_is_hidden_has_its_command_lines_name() {
        let program = Program {
            executable: None,
            arguments: vec!["/usr/bin/Backup".to_owned()],
        };
        assert_eq!(program.names().collect::<Vec<_>>(), ["backup"]);
        assert_eq!(program.name(), None);
        assert_eq!(program.game(), None);
    }

    #[test]
    fn games_that_wine_runs() {
        const WINE: &str = "/home/a/.steam/steamapps/common/Proton 9.0/files/bin/wine64-preloader";
        for (arguments, game) in [
            (
                &[r"Z:\home\a\.steam\steamapps\common\Hades\Hades.exe", "-x"][..],
                Some("Hades"),
            ),
            (&["wine64", r"C:\GOG Games\Gwent\Gwent.exe"], Some("Gwent")),
            (&[r"C:\windows\system32\services.exe"], None),
            (&[], None),
        ] {
            assert_eq!(program(WINE, arguments).game().as_deref(), game);
        }
        // Steam's own program that waits for the game is not the game.
        let waits = program(
            "/home/a/.steam/reaper",
            &["reaper", "/a/steamapps/common/Hades/Hades.exe"],
        );
        assert_eq!(waits.game(), None);
    }

    #[test]
    fn names_are_compared_without_case_and_ending() {
        for name in ["Blender.exe", "blender", " BLENDER.EXE "] {
            assert_eq!(normal(name), "blender");
        }
        assert_eq!(normal("exe"), "exe");
        assert_eq!(normal("ä.é"), "ä.é");
    }
}
