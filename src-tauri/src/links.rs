//! Invitations that are opened outside the window: a click on `infera://join?…` in a browser or a
//! mail. The system starts the program with the link, or tells the one that runs.

use infera_node::app::api::ByAddress;
use infera_protocol::invitation::SCHEME;
use tauri::{AppHandle, Manager};

use crate::{Shell, window};

/// The link among a program's arguments.
pub(crate) fn among(arguments: &[String]) -> Option<&str> {
    let is_link = |argument: &&String| {
        argument
            .get(..SCHEME.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(SCHEME))
    };
    arguments.iter().find(is_link).map(String::as_str)
}

/// Shows the person what a link leads to. Nothing is joined before they say so.
pub(crate) fn open(app: &AppHandle, link: &str) {
    let Some(shell) = app.try_state::<Shell>() else {
        return;
    };
    let (backend, address) = (shell.backend.clone(), link.to_owned());
    tauri::async_runtime::spawn(async move {
        let request = serde_json::json!(ByAddress { address });
        if let Err(error) = backend.call("offer_invitation", request).await {
            tracing::error!(%error, "a link that was opened is not shown");
        }
    });
    window::open(app);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_found_among_the_arguments_of_a_program() {
        let found = |arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            among(&arguments).map(str::to_owned)
        };
        let link = "infera://join?to=a&token=b";
        assert_eq!(found(&["infera-node", "--", link]).as_deref(), Some(link));
        let shouted = "INFERA://join?to=a&token=b";
        assert_eq!(found(&["infera-node", shouted]).as_deref(), Some(shouted));
        assert_eq!(found(&["infera-node", "--hidden"]), None);
        assert_eq!(
            found(&["infera://join", link]).as_deref(),
            Some("infera://join")
        );
        assert_eq!(found(&["infera", "ä", "https://net.example/join#x"]), None);
    }
}
