//! Ending the program: asked once while there is work to lose, and over within five seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use infera_node::app::api::AppState;
use infera_protocol::node_api::WorkKind;
use tauri::{AppHandle, Manager};

use crate::Shell;
use crate::dialogs;
use crate::words::{Dialog, Language};

/// The node hands back its jobs within this; else the balancer notices by itself.
const TIME_LIMIT: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(crate) struct Quitting {
    /// The question is on the screen.
    asking: AtomicBool,
    /// The node has ended, or is ending.
    begun: AtomicBool,
}

/// What quitting now would cost; none if it costs nothing.
pub(crate) fn question(state: &AppState) -> Option<Dialog> {
    let work = || state.node.iter().flat_map(|node| &node.work);
    let jobs = work().filter(|work| work.kind == WorkKind::Job).count();
    let audits = work().count() - jobs;
    let language = Language::of(state);
    let mut costs = Vec::new();
    match (jobs, language) {
        (0, _) => {}
        (1, Language::English) => costs.push(
            "1 job would be handed back, and another node goes on with it. You are paid in \
             blocks of 32 tokens: the tokens of its last, open block earn nothing."
                .to_owned(),
        ),
        (jobs, Language::English) => costs.push(format!(
            "{jobs} jobs would be handed back, and other nodes go on with them. You are paid in \
             blocks of 32 tokens: the tokens of each job's last, open block earn nothing."
        )),
        (1, Language::German) => costs.push(
            "1 Auftrag würde zurückgegeben, ein anderer Knoten führt ihn fort. Bezahlt wird in \
             Blöcken von 32 Tokens: Die Tokens im letzten, offenen Block bringen nichts ein."
                .to_owned(),
        ),
        (jobs, Language::German) => costs.push(format!(
            "{jobs} Aufträge würden zurückgegeben, andere Knoten führen sie fort. Bezahlt wird in \
             Blöcken von 32 Tokens: Die Tokens im jeweils letzten, offenen Block bringen nichts \
             ein."
        )),
    }
    match (audits, language) {
        (0, _) => {}
        (1, Language::English) => costs.push(
            "1 check of another node's answer would be given up and earns nothing.".to_owned(),
        ),
        (audits, Language::English) => costs.push(format!(
            "{audits} checks of other nodes' answers would be given up and earn nothing."
        )),
        (1, Language::German) => costs.push(
            "1 Prüfung einer fremden Antwort würde abgebrochen und bringt nichts ein.".to_owned(),
        ),
        (audits, Language::German) => costs.push(format!(
            "{audits} Prüfungen fremder Antworten würden abgebrochen und bringen nichts ein."
        )),
    }
    (!costs.is_empty()).then(|| Dialog {
        title: language.pick("Quit Infera Node?", "Infera Node beenden?"),
        text: costs.join("\n\n"),
        yes: language.pick("Quit", "Beenden"),
        no: Some(language.pick("Keep running", "Weiterlaufen lassen")),
    })
}

/// The person wants to quit.
pub(crate) fn request(app: &AppHandle) {
    let shell = app.state::<Shell>();
    let Some(dialog) = question(&shell.backend.states().borrow()) else {
        return leave(app);
    };
    if shell.quitting.asking.swap(true, Ordering::Relaxed) {
        return;
    }
    let answered = app.clone();
    dialogs::show(app, dialog, move |yes| {
        answered
            .state::<Shell>()
            .quitting
            .asking
            .store(false, Ordering::Relaxed);
        if yes {
            leave(&answered);
        }
    });
}

/// Ends the program without a question. What is in progress is handed back.
pub(crate) fn leave(app: &AppHandle) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        end_parts(&app).await;
        app.exit(0);
    });
}

/// However the program ends, its window and the node end first.
pub(crate) fn last_chance(app: &AppHandle) {
    tauri::async_runtime::block_on(end_parts(app));
}

/// The window and the node.
pub(crate) async fn end_parts(app: &AppHandle) {
    // A program that could not start has neither.
    let Some(shell) = app.try_state::<Shell>() else {
        return;
    };
    if shell.quitting.begun.swap(true, Ordering::Relaxed) {
        return;
    }
    let end_node = async {
        let end = shell.backend.shut_down();
        if tokio::time::timeout(TIME_LIMIT, end).await.is_err() {
            tracing::warn!("the node did not end in time; its jobs' leases will run out");
        }
    };
    tokio::join!(shell.window.end(), end_node);
}

#[cfg(test)]
mod tests {
    use infera_node::state::Summary;

    use super::*;
    use crate::fixtures;

    fn asked(jobs: u32, audits: u32) -> Option<String> {
        question(&fixtures::working(jobs, audits)).map(|dialog| dialog.text)
    }

    #[test]
    fn idle_programs_just_end() {
        assert_eq!(question(&fixtures::state(Summary::WaitingForJobs)), None);
        let mut without_node = fixtures::working(1, 0);
        without_node.node = None;
        assert_eq!(question(&without_node), None);
    }

    #[test]
    fn the_cost_is_told() {
        let one = asked(1, 0).unwrap();
        assert!(one.starts_with("1 job would be handed back"), "{one}");
        let both = asked(2, 1).unwrap();
        assert!(both.starts_with("2 jobs"), "{both}");
        assert!(both.contains("\n\n1 check of another"), "{both}");
        let checks = asked(0, 3).unwrap();
        assert!(checks.starts_with("3 checks"), "{checks}");
    }

    #[test]
    fn in_german() {
        let mut state = fixtures::working(1, 0);
        state.settings.language = Some("de".to_owned());
        let dialog = question(&state).unwrap();
        assert_eq!(dialog.title, "Infera Node beenden?");
        assert!(dialog.text.starts_with("1 Auftrag"), "{}", dialog.text);
    }
}
