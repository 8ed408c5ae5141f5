//! How much each program computes on each card, from the kernel's account of every open file of its
//! graphics drivers (kernel documentation: DRM client usage stats).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use infera_engine::device::normal_pci_id;

use super::ours::Ours;
use super::sysfs::{self, Display};

/// Follows the accounts from one look to the next.
pub(super) struct DrmClients {
    root: PathBuf,
    ours: Ours,
    /// Each process's accounts, as far as it has been looked at.
    files: BTreeMap<u32, Vec<PathBuf>>,
    looked_at: HashMap<u32, Looked>,
    turn: u64,
    before: Option<Look>,
}

/// What was found of a card since the look before.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shares {
    /// The part of its time in which our processes have it compute, in percent.
    pub(super) ours: Option<f32>,
    /// The same of all others that this user may look at.
    pub(super) others: Option<f32>,
}

/// Looking through a process's open files takes time: so many are, of each look, beside those with
/// accounts. A few hundred have all been within a minute.
const PROCESSES_AT_ONCE: usize = 16;
/// One that has just begun opens its card in a moment: so often it goes before the others.
const SOON_AGAIN: u32 = 8;
/// What computes. Engines that copy or decode leave the rest of a card alone.
const COMPUTING: [&str; 5] = ["gfx", "compute", "render", "rcs", "ccs"];
/// The looks of two clocks are never quite as far apart.
const MOST_SHARE: f64 = 1.25;

/// When a process was looked at last.
#[derive(Debug, Clone, Copy)]
struct Looked {
    turn: u64,
    times: u32,
    /// It is somebody else's, and can be looked at.
    is_other: bool,
}

/// All accounts at one moment.
struct Look {
    at: Instant,
    accounts: HashMap<Client, Account>,
}

/// A driver's number for who opened it, which processes can pass on to each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Client {
    pci_id: String,
    id: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Account {
    is_ours: bool,
    busy: Vec<Busy>,
}

/// How long one engine of the card has computed for a client.
#[derive(Debug, Clone, PartialEq)]
struct Busy {
    engine: String,
    /// Nanoseconds; cycles, where there is something to hold them against.
    time: u64,
    /// The engine's own cycles in all.
    of: Option<u64>,
    /// How many such engines the card has.
    capacity: u64,
}

impl DrmClients {
    /// `root` is `/`, but for tests.
    pub(super) fn new(root: &Path, ours: Ours) -> Self {
        Self {
            root: root.to_owned(),
            ours,
            files: BTreeMap::new(),
            looked_at: HashMap::new(),
            turn: 0,
            before: None,
        }
    }

    /// What each card did since the last look; nothing at the first one.
    pub(super) fn look(&mut self, now: Instant, cards: &[Display]) -> HashMap<String, Shares> {
        let others_are_there = self.look_for_files();
        let look = self.read(now);
        let nothing = Shares {
            ours: Some(0.0),
            others: others_are_there.then_some(0.0),
        };
        let shares = self.before.as_ref().map(|before| {
            let cards = cards.iter().map(|card| card.pci_id.clone());
            let mut found: HashMap<_, _> = cards.map(|card| (card, nothing.clone())).collect();
            add_up(before, &look, &mut found);
            found
        });
        self.before = Some(look);
        shares.unwrap_or_default()
    }

    /// Forgets all: after a while the difference to the last look says nothing.
    pub(super) fn rest(&mut self) {
        self.before = None;
    }

    /// Finds out which processes have a driver open, some in each turn, new ones first. True if any
    /// of them is somebody else's and can be looked at.
    fn look_for_files(&mut self) -> bool {
        let here: HashSet<u32> = sysfs::entries(&self.root.join("proc"))
            .iter()
            .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
            .collect();
        self.files.retain(|process, _| here.contains(process));
        self.looked_at.retain(|process, _| here.contains(process));
        self.turn += 1;
        let engines = self.ours.engines();
        let mut due: Vec<_> = here.into_iter().collect();
        due.sort_by_key(|process| {
            let looked = self.looked_at.get(process);
            let times = looked.map_or(0, |looked| looked.times.min(SOON_AGAIN));
            let turn = looked.map(|looked| looked.turn);
            (!engines.contains(process), times, turn, *process)
        });
        due.truncate(PROCESSES_AT_ONCE.max(engines.len()));
        for process in due {
            let files = accounts_of(&self.root, process);
            let before = self.looked_at.get(&process);
            let looked = Looked {
                turn: self.turn,
                times: before.map_or(0, |looked| looked.times).saturating_add(1),
                is_other: files.is_some() && !self.ours.has(process),
            };
            self.looked_at.insert(process, looked);
            match files {
                Some(files) if !files.is_empty() => _ = self.files.insert(process, files),
                _ => _ = self.files.remove(&process),
            }
        }
        self.looked_at.values().any(|looked| looked.is_other)
    }

    fn read(&self, at: Instant) -> Look {
        let mut accounts = HashMap::new();
        let (ours, others): (Vec<_>, Vec<_>) = self
            .files
            .iter()
            .partition(|(process, _)| self.ours.has(**process));
        // Ours first: a file that was passed on counts for who works with it.
        for (is_ours, processes) in [(true, ours), (false, others)] {
            for path in processes.into_iter().flat_map(|(_, files)| files) {
                let found = fs::read_to_string(path).ok();
                if let Some((client, busy)) = found.and_then(|text| account_in(&text)) {
                    accounts.entry(client).or_insert(Account { is_ours, busy });
                }
            }
        }
        Look { at, accounts }
    }
}

/// What other programs have a card compute. `total` is all that it does, and `None` where nobody
/// tells.
pub(super) fn others_load(
    total: Option<f32>,
    shares: Option<&Shares>,
    our_engine_runs: bool,
) -> Option<f32> {
    let others = shares.and_then(|shares| shares.others);
    let ours = shares.and_then(|shares| shares.ours);
    if !our_engine_runs || ours == Some(0.0) {
        return total.or(others);
    }
    others.or_else(|| Some((total? - ours?).max(0.0)))
}

/// The accounts among a process's open files; none where they cannot be looked at.
fn accounts_of(root: &Path, process: u32) -> Option<Vec<PathBuf>> {
    let folder = root.join(format!("proc/{process}"));
    let open = fs::read_dir(folder.join("fd")).ok()?;
    let files = open.flatten().filter_map(|file| {
        let target = fs::read_link(file.path()).ok()?;
        target
            .starts_with("/dev/dri")
            .then(|| folder.join("fdinfo").join(file.file_name()))
    });
    Some(files.collect())
}

/// Who has opened a driver, and how long its engines have computed for them.
fn account_in(text: &str) -> Option<(Client, Vec<Busy>)> {
    let fields: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect();
    let value = |wanted: &str| {
        let found = fields.iter().find(|(key, _)| *key == wanted);
        found.map(|(_, value)| *value)
    };
    let number = |text: &str| text.split_whitespace().next()?.parse::<u64>().ok();
    let client = Client {
        pci_id: normal_pci_id(value("drm-pdev")?),
        id: value("drm-client-id")?.to_owned(),
    };
    let busy = COMPUTING.iter().filter_map(|engine| {
        let field = |kind: &str| value(&format!("drm-{kind}-{engine}")).and_then(number);
        let (time, of) = match field("engine") {
            Some(nanoseconds) => (nanoseconds, None),
            None => (field("cycles")?, Some(field("total-cycles")?)),
        };
        Some(Busy {
            engine: (*engine).to_owned(),
            time,
            of,
            capacity: field("engine-capacity").unwrap_or(1).max(1),
        })
    });
    let busy = busy.collect();
    Some((client, busy))
}

fn add_up(before: &Look, now: &Look, cards: &mut HashMap<String, Shares>) {
    let elapsed = now.at.saturating_duration_since(before.at).as_nanos() as f64;
    for (client, account) in &now.accounts {
        let Some(shares) = cards.get_mut(&client.pci_id) else {
            continue;
        };
        let side = if account.is_ours {
            &mut shares.ours
        } else {
            &mut shares.others
        };
        // Who has just opened it has no share yet.
        let Some(earlier) = before.accounts.get(client) else {
            continue;
        };
        let share = share(&earlier.busy, &account.busy, elapsed);
        *side = side.zip(share).map(|(sum, share)| sum + share);
    }
    for shares in cards.values_mut() {
        for side in [&mut shares.ours, &mut shares.others] {
            *side = side.map(|percent| percent.min(100.0));
        }
    }
}

/// None where the driver says what cannot be, or nothing.
fn share(before: &[Busy], now: &[Busy], elapsed: f64) -> Option<f32> {
    let mut sum = 0.0;
    for busy in now {
        let Some(earlier) = before.iter().find(|earlier| earlier.engine == busy.engine) else {
            continue;
        };
        let time = busy.time.checked_sub(earlier.time)? as f64;
        let all = match (earlier.of, busy.of) {
            (Some(before), Some(now)) => now.checked_sub(before)? as f64,
            _ => elapsed,
        };
        let share = if time > 0.0 {
            time / (all * busy.capacity as f64)
        } else {
            0.0
        };
        if !(0.0..=MOST_SHARE).contains(&share) {
            return None;
        }
        sum += share;
    }
    (!now.is_empty()).then_some((sum * 100.0) as f32)
}

// Windows has no colons in file names, and other links.
#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;
    use crate::engine_link::EngineProcesses;

    const AMD: &str = "pos:\t0\nflags:\t02100002\nmnt_id:\t26\nino:\t1091\ndrm-driver:\tamdgpu\n\
        drm-client-id:\t17\ndrm-pdev:\t0000:03:00.0\npasid:\t32771\ndrm-memory-vram:\t512344 KiB\n\
        drm-memory-gtt:\t20484 KiB\ndrm-engine-gfx:\t5000000000 ns\ndrm-engine-dec:\t9 ns\n\
        drm-engine-compute:\t1000000000 ns\n";
    const I915: &str = "drm-driver:\ti915\ndrm-client-id:\t7\ndrm-pdev:\t0000:00:02.0\n\
        drm-total-system0:\t12 MiB\ndrm-engine-render:\t9288864723 ns\ndrm-engine-copy:\t2035071108 ns\n\
        drm-engine-video:\t0 ns\ndrm-engine-capacity-video:\t2\n";
    const XE: &str = "drm-driver:\txe\ndrm-client-id:\t91\ndrm-pdev:\t0000:0a:00.0\n\
        drm-resident-vram0:\t1192 KiB\ndrm-cycles-rcs:\t28257900\ndrm-total-cycles-rcs:\t7655183225\n\
        drm-cycles-bcs:\t5\ndrm-total-cycles-bcs:\t7655183225\ndrm-cycles-ccs:\t400\n\
        drm-total-cycles-ccs:\t800\ndrm-engine-capacity-ccs:\t4\n";

    fn busy(engine: &str, time: u64, of: Option<u64>, capacity: u64) -> Busy {
        Busy {
            engine: engine.to_owned(),
            time,
            of,
            capacity,
        }
    }

    #[test]
    fn accounts_of_three_drivers() {
        let cases = [
            (
                AMD,
                "0000:03:00.0",
                "17",
                vec![
                    busy("gfx", 5_000_000_000, None, 1),
                    busy("compute", 1_000_000_000, None, 1),
                ],
            ),
            (
                I915,
                "0000:00:02.0",
                "7",
                vec![busy("render", 9_288_864_723, None, 1)],
            ),
            (
                XE,
                "0000:0a:00.0",
                "91",
                vec![
                    busy("rcs", 28_257_900, Some(7_655_183_225), 1),
                    busy("ccs", 400, Some(800), 4),
                ],
            ),
        ];
        for (text, pci_id, id, expected) in cases {
            let client = Client {
                pci_id: pci_id.to_owned(),
                id: id.to_owned(),
            };
            assert_eq!(account_in(text), Some((client, expected)), "{text}");
        }
        // NVIDIA's files and those that are no driver's.
        for text in ["", "pos:\t0\n", "drm-driver:\tnvidia-drm\n", "drm-pdev:\tx"] {
            assert_eq!(account_in(text), None, "{text}");
        }
        // An old kernel that counts nothing.
        let old = account_in("drm-pdev:\t0000:03:00.0\ndrm-client-id:\t1\n").unwrap();
        assert_eq!(old.1, []);
    }

    #[test]
    fn shares_as_a_table() {
        let second = 1e9;
        let one = |time| vec![busy("gfx", time, None, 1)];
        let cases = [
            ("half", one(0), one(500_000_000), Some(50.0)),
            ("nothing", one(7), one(7), Some(0.0)),
            ("counted back", one(7), one(6), None),
            ("more than there was", one(0), one(3_000_000_000), None),
            ("nothing is counted", vec![], vec![], None),
            (
                "two engines",
                vec![busy("gfx", 0, None, 1), busy("compute", 0, None, 1)],
                vec![
                    busy("gfx", 250_000_000, None, 1),
                    busy("compute", 500_000_000, None, 2),
                ],
                Some(50.0),
            ),
            (
                "cycles",
                vec![busy("rcs", 100, Some(1000), 1)],
                vec![busy("rcs", 400, Some(2000), 1)],
                Some(30.0),
            ),
            (
                "cycles of an engine that stood still",
                vec![busy("rcs", 100, Some(1000), 1)],
                vec![busy("rcs", 100, Some(1000), 1)],
                Some(0.0),
            ),
        ];
        for (what, before, now, expected) in cases {
            assert_eq!(share(&before, &now, second), expected, "{what}");
        }
    }

    fn card() -> [Display; 1] {
        [Display {
            pci_id: "0000:03:00.0".to_owned(),
            vendor: sysfs::AMD,
            folder: PathBuf::new(),
        }]
    }

    struct Tree {
        root: tempfile::TempDir,
    }

    impl Tree {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            Self { root }
        }

        /// A process that has the first card open, and has computed so long.
        fn process(&self, process: u32, parent: u32, client: u32, milliseconds: u64) {
            let folder = self.root.path().join(format!("proc/{process}"));
            fs::create_dir_all(folder.join("fdinfo")).unwrap();
            fs::create_dir_all(folder.join("fd")).unwrap();
            fs::write(folder.join("stat"), format!("{process} (x) S {parent} 0")).unwrap();
            let _ = symlink("/dev/dri/renderD128", folder.join("fd/5"));
            let _ = symlink("/dev/null", folder.join("fd/6"));
            fs::write(folder.join("fdinfo/6"), "pos:\t0\n").unwrap();
            let nanoseconds = milliseconds * 1_000_000;
            let text = format!(
                "drm-driver:\tamdgpu\ndrm-client-id:\t{client}\ndrm-pdev:\t0000:03:00.0\n\
                 drm-engine-gfx:\t{nanoseconds} ns\n"
            );
            fs::write(folder.join("fdinfo/5"), text).unwrap();
        }

        fn clients(&self, engines: &EngineProcesses) -> DrmClients {
            let ours = Ours::new(self.root.path(), engines.clone(), 10);
            DrmClients::new(self.root.path(), ours)
        }
    }

    #[test]
    fn our_share_is_told_from_that_of_others() {
        let (tree, engines) = (Tree::new(), EngineProcesses::default());
        let _running = engines.add(70);
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut clients = tree.clients(&engines);
        tree.process(70, 10, 1, 0);
        tree.process(80, 1, 2, 0);
        // Drawn for the window of this program.
        tree.process(71, 10, 3, 0);
        assert_eq!(
            clients.look(at(0), &card()),
            HashMap::new(),
            "nothing to compare"
        );
        tree.process(70, 10, 1, 1_200);
        tree.process(80, 1, 2, 500);
        tree.process(71, 10, 3, 200);
        let shares = clients.look(at(2), &card());
        assert_eq!(
            shares["0000:03:00.0"],
            Shares {
                ours: Some(70.0),
                others: Some(25.0)
            }
        );
        // A file that ours was passed on is ours, in whichever process.
        tree.process(81, 1, 1, 1_200);
        tree.process(70, 10, 1, 2_200);
        tree.process(81, 1, 1, 2_200);
        let shares = clients.look(at(4), &card());
        assert_eq!(shares["0000:03:00.0"].ours, Some(50.0));
        assert_eq!(shares["0000:03:00.0"].others, Some(0.0));
        // One that ends, and one that begins.
        fs::remove_dir_all(tree.root.path().join("proc/80")).unwrap();
        tree.process(82, 1, 9, 60_000);
        let shares = clients.look(at(6), &card());
        assert_eq!(shares["0000:03:00.0"].others, Some(0.0));
        tree.process(82, 1, 9, 61_000);
        let shares = clients.look(at(8), &card());
        assert_eq!(shares["0000:03:00.0"].others, Some(50.0));
        clients.rest();
        assert_eq!(clients.look(at(100), &card()), HashMap::new());
    }

    #[test]
    fn a_card_that_nobody_has_open_does_nothing() {
        let (tree, engines) = (Tree::new(), EngineProcesses::default());
        let mut clients = tree.clients(&engines);
        let begun = Instant::now();
        let later = begun + Duration::from_secs(2);
        assert_eq!(clients.look(begun, &card()), HashMap::new());
        let alone = clients.look(later, &card());
        let nobody = Shares {
            ours: Some(0.0),
            others: None,
        };
        assert_eq!(alone["0000:03:00.0"], nobody, "others may be hidden");
    }

    #[test]
    fn all_processes_are_looked_at_in_turn_and_engines_always() {
        let (tree, engines) = (Tree::new(), EngineProcesses::default());
        let _running = engines.add(70_000);
        tree.process(70_000, 10, 1, 0);
        let all = 2 * PROCESSES_AT_ONCE as u32;
        for process in 100..100 + all {
            tree.process(process, 1, process, 0);
        }
        let mut clients = tree.clients(&engines);
        let now = Instant::now();
        clients.look(now, &card());
        assert!(clients.files.contains_key(&70_000));
        assert_eq!(clients.files.len(), PROCESSES_AT_ONCE);
        for _ in 0..2 {
            clients.look(now, &card());
        }
        assert_eq!(clients.files.len(), all as usize + 1);
        // One that has just begun goes before those that were there.
        for _ in 0..2 * SOON_AGAIN {
            clients.look(now, &card());
        }
        tree.process(50, 1, 50, 0);
        for _ in 0..2 {
            clients.look(now, &card());
            assert_eq!(clients.looked_at[&50].turn, clients.turn);
        }
    }

    #[test]
    fn what_others_do_follows_from_what_is_known() {
        let shares = |ours, others| Some(Shares { ours, others });
        let cases = [
            (
                "no engine: all is theirs",
                Some(40.0),
                None,
                false,
                Some(40.0),
            ),
            (
                "nobody tells the whole",
                None,
                shares(None, Some(7.0)),
                false,
                Some(7.0),
            ),
            ("nothing is known", None, None, true, None),
            ("ours is not known", Some(90.0), None, true, None),
            (
                "theirs is known",
                Some(90.0),
                shares(Some(60.0), Some(20.0)),
                true,
                Some(20.0),
            ),
            (
                "the rest of the whole",
                Some(90.0),
                shares(Some(60.0), None),
                true,
                Some(30.0),
            ),
            (
                "ours rests: all is theirs",
                Some(40.0),
                shares(Some(0.0), Some(7.0)),
                true,
                Some(40.0),
            ),
            (
                "not less than nothing",
                Some(50.0),
                shares(Some(60.0), None),
                true,
                Some(0.0),
            ),
        ];
        for (what, total, shares, runs, expected) in cases {
            assert_eq!(
                others_load(total, shares.as_ref(), runs),
                expected,
                "{what}"
            );
        }
    }
}
