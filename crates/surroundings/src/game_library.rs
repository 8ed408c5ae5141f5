//! Games, by where they lie: in the folders into which the shops' programs put them.

/// Folders of games.
struct Library {
    /// One below the other, in lower case. Each folder in the last is a game.
    folders: &'static [&'static str],
    /// So begin the names, in lower case, of what is no game.
    tools: &'static [&'static str],
}

const LIBRARIES: &[Library] = &[
    Library {
        folders: &["steamapps", "common"],
        // The last is a wallpaper: it runs all day.
        tools: &[
            "steamlinuxruntime",
            "proton",
            "steamworks",
            "wallpaper_engine",
        ],
    },
    Library {
        folders: &["epic games"],
        tools: &["launcher", "epic online services", "directxredist"],
    },
    Library {
        folders: &["gog galaxy", "games"],
        tools: &[],
    },
    Library {
        folders: &["gog games"],
        tools: &[],
    },
    // Prefixes are the Windows folders of all games, with Windows' own programs in them.
    Library {
        folders: &["games", "heroic"],
        tools: &["prefixes"],
    },
    Library {
        folders: &["itch", "apps"],
        tools: &[],
    },
    Library {
        folders: &["xboxgames"],
        tools: &["gamesave"],
    },
];

/// The game that a program belongs to, by the program's whole path in Linux', macOS' or Windows'
/// way of writing it.
pub(crate) fn game_at(path: &str) -> Option<String> {
    let folders: Vec<&str> = if is_of_windows(path) {
        path.split(['\\', '/']).collect()
    } else {
        path.split('/').collect()
    };
    LIBRARIES.iter().find_map(|library| {
        let length = library.folders.len();
        // The game's folder, and something in it.
        let mut places = folders.windows(length + 2);
        let place = places.find(|place| {
            let mut pairs = library.folders.iter().zip(*place);
            pairs.all(|(folder, name)| name.eq_ignore_ascii_case(folder))
        })?;
        let name = place[length];
        let lower = name.to_lowercase();
        let is_tool = library.tools.iter().any(|tool| lower.starts_with(tool));
        (!is_tool && !name.is_empty()).then(|| name.to_owned())
    })
}

/// Whether a path is written in Windows' way.
pub(crate) fn is_of_windows(path: &str) -> bool {
    let bytes = path.as_bytes();
    let has_drive =
        bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.get(1) == Some(&b':');
    has_drive || path.starts_with(r"\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn games_by_their_path() {
        for (path, game) in [
            (
                "/home/a/.local/share/Steam/steamapps/common/Portal 2/portal2_linux",
                Some("Portal 2"),
            ),
            (
                "/mnt/games/SteamLibrary/steamapps/common/Factorio/bin/x64/factorio",
                Some("Factorio"),
            ),
            (
                "/home/a/.steam/SteamApps/common/Half-Life/hl_linux",
                Some("Half-Life"),
            ),
            (
                "/home/a/.steam/steamapps/common/SteamLinuxRuntime_sniper/pressure-vessel/bin/pv",
                None,
            ),
            (
                "/home/a/.steam/steamapps/common/Proton - Experimental/files/bin/wine64",
                None,
            ),
            (
                "/home/a/.steam/steamapps/common/Proton 9.0 (Beta)/files/bin/wineserver",
                None,
            ),
            ("/home/a/.steam/steamapps/common/Steamworks Shared/x", None),
            ("/home/a/.steam/ubuntu12_32/steam", None),
            ("/home/a/.steam/steamapps/common/file", None),
            ("/home/a/.steam/steamapps/common/", None),
            ("/home/a/steamapps/uncommon/Portal 2/portal2", None),
            (
                r"C:\Program Files (x86)\Steam\steamapps\common\Hades\x64\Hades.exe",
                Some("Hades"),
            ),
            (
                r"c:\program files (x86)\steam\STEAMAPPS\Common\Hades\x64\Hades.exe",
                Some("Hades"),
            ),
            (r"D:/Steam/steamapps/common/Hades/Hades.exe", Some("Hades")),
            (
                r"Z:\home\a\.steam\steamapps\common\Hades\Hades.exe",
                Some("Hades"),
            ),
            (
                r"\\?\C:\Steam\steamapps\common\Hades\Hades.exe",
                Some("Hades"),
            ),
            (
                r"C:\Steam\steamapps\common\wallpaper_engine\wallpaper64.exe",
                None,
            ),
            (
                r"C:\Program Files\Epic Games\Fortnite\FortniteGame\Binaries\f.exe",
                Some("Fortnite"),
            ),
            (
                r"C:\Program Files (x86)\Epic Games\Launcher\Portal\EpicGamesLauncher.exe",
                None,
            ),
            (
                r"C:\Program Files (x86)\Epic Games\Epic Online Services\service\Host.exe",
                None,
            ),
            (
                r"C:\Program Files (x86)\GOG Galaxy\Games\The Witcher 3\bin\x64\witcher3.exe",
                Some("The Witcher 3"),
            ),
            (r"C:\Program Files (x86)\GOG Galaxy\GalaxyClient.exe", None),
            (r"C:\GOG Games\Gwent\Gwent.exe", Some("Gwent")),
            (
                "/home/a/GOG Games/Stardew Valley/game/StardewValley",
                Some("Stardew Valley"),
            ),
            ("/home/a/Games/Heroic/Celeste/Celeste", Some("Celeste")),
            (
                "/home/a/Games/Heroic/Prefixes/default/Celeste/drive_c/windows/explorer.exe",
                None,
            ),
            (
                "/home/a/.config/itch/apps/celeste-classic/game",
                Some("celeste-classic"),
            ),
            ("/home/a/.itch/app-26/itch", None),
            (
                r"C:\XboxGames\Forza Horizon 5\Content\ForzaHorizon5.exe",
                Some("Forza Horizon 5"),
            ),
            (
                "/Users/a/Library/Application Support/Steam/steamapps/common/Hades/Hades.app/Contents/MacOS/Hades",
                Some("Hades"),
            ),
            // A backslash is a letter elsewhere.
            (r"/home/a/steamapps\common\Hades\hades", None),
            ("/usr/bin/bash", None),
            ("", None),
        ] {
            assert_eq!(game_at(path).as_deref(), game, "{path}");
        }
    }
}
