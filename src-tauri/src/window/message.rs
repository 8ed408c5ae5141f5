//! What the tray's program and its window say to each other, in frames over the window's standard
//! input and output. Both are the same executable, so that there is one version of it.

use infera_node::app::api::ApiError;
use infera_node::app::settings::Theme;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::words::Dialog;

/// From the tray's program to the window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum ToWindow {
    /// Come to the front.
    Show,
    Hide,
    Minimise,
    Theme(Theme),
    /// What became of a call or of something to be opened. Given to the page as it is.
    Answer {
        id: u64,
        answer: Result<Box<RawValue>, ApiError>,
    },
    /// Something for the page that subscribed with this number.
    Event {
        page: u64,
        event: Box<RawValue>,
    },
    /// Ask the person, above the window.
    Ask {
        id: u64,
        question: Question,
    },
    /// Keep the window's place, and end.
    End,
}

/// From the window to the tray's program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum FromWindow {
    /// The first of all.
    Started {
        version: String,
    },
    /// The person sees it.
    Shown,
    /// It is on top, however that came about.
    Focused,
    /// It was told to go out of sight, and has: what it said before of being seen is no longer so.
    Hidden,
    /// There can be no window, and why. The process ends.
    Failed {
        detail: String,
    },
    /// The page's command.
    Call {
        id: u64,
        name: String,
        request: Value,
    },
    /// The page wants the stream of events, the whole state first. It has one stream.
    Subscribe {
        page: u64,
    },
    /// The page's wish to have an address or a folder opened elsewhere.
    Open {
        id: u64,
        target: String,
    },
    /// The person pressed the window's close button.
    ClosePressed,
    /// The person chose to quit where the system offers it, as macOS's menu does. The process ends.
    Quit,
    Answered {
        id: u64,
        yes: bool,
    },
}

/// A [`Dialog`] in the person's language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) yes: String,
    pub(crate) no: Option<String>,
}

impl From<Dialog> for Question {
    fn from(dialog: Dialog) -> Self {
        Self {
            title: dialog.title.to_owned(),
            text: dialog.text,
            yes: dialog.yes.to_owned(),
            no: dialog.no.map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use infera_node::app::api::Refusal;
    use infera_protocol::frame::{self, Decoder};
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::*;

    fn over_the_pipe<T: Serialize + serde::de::DeserializeOwned>(message: &T) -> T {
        let mut decoder = Decoder::default();
        decoder.push(&frame::encode(message).unwrap());
        decoder.message().unwrap().unwrap()
    }

    #[test]
    fn what_the_page_is_given_crosses_the_pipe_letter_by_letter() {
        let given = to_raw_value(&json!({ "text": "ä\u{2028}\"", "points": 12_345_678_901_u64 }));
        let given = given.unwrap();
        let event = ToWindow::Event {
            page: 7,
            event: given.clone(),
        };
        let ToWindow::Event { page: 7, event } = over_the_pipe(&event) else {
            panic!("another message");
        };
        assert_eq!(event.get(), given.get());
        let answer = ToWindow::Answer {
            id: 3,
            answer: Ok(given.clone()),
        };
        let ToWindow::Answer {
            id: 3,
            answer: Ok(answer),
        } = over_the_pipe(&answer)
        else {
            panic!("another message");
        };
        assert_eq!(answer.get(), given.get());
    }

    #[test]
    fn a_refusal_crosses_the_pipe_as_it_is() {
        let refused = ApiError::from(Refusal::NoSuchModel);
        let answer = ToWindow::Answer {
            id: 3,
            answer: Err(refused.clone()),
        };
        let ToWindow::Answer {
            answer: Err(error), ..
        } = over_the_pipe(&answer)
        else {
            panic!("another message");
        };
        assert_eq!(error, refused);
    }

    #[test]
    fn what_the_window_says_crosses_the_pipe() {
        for said in [
            FromWindow::Started {
                version: "0.1.0".to_owned(),
            },
            FromWindow::Shown,
            FromWindow::Call {
                id: u64::MAX,
                name: "pause".to_owned(),
                request: json!({ "seconds": 60 }),
            },
            FromWindow::Answered { id: 0, yes: true },
        ] {
            assert_eq!(over_the_pipe(&said), said);
        }
    }
}
