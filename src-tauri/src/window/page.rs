//! What the page can ask for, in the window's process. The program's API answers it at the other
//! end of the pipe; where a file goes to or comes from, the person says in a dialog of the window.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use infera_node::app::api::{ApiError, Refusal};
use infera_protocol::frame::{self, FrameError};
use serde_json::Value;
use serde_json::value::RawValue;
use tauri::ipc::Channel;
use tauri::{AppHandle, State};
use tauri_plugin_dialog::DialogExt;
use tokio::sync::oneshot;

use super::child::main_window;
use super::message::FromWindow;

type Answer = Result<Box<RawValue>, ApiError>;

/// The tray's program, as the window sees it.
pub(super) struct Parent {
    output: Mutex<Box<dyn Write + Send>>,
    page: Mutex<Page>,
}

/// Who waits, and for what.
#[derive(Default)]
struct Page {
    last_call: u64,
    calls: HashMap<u64, oneshot::Sender<Answer>>,
    /// The number tells the events of a page from those of the one before it.
    number: u64,
    channel: Option<Channel<Box<RawValue>>>,
}

impl Parent {
    pub(super) fn new(output: impl Write + Send + 'static) -> Self {
        Self {
            output: Mutex::new(Box::new(output)),
            page: Mutex::default(),
        }
    }

    /// What cannot be said any more nobody waits for: the window ends with the program.
    pub(super) fn say(&self, message: &FromWindow) {
        if let Err(error) = self.try_to_say(message) {
            tracing::error!(%error, "the program is not told something");
        }
    }

    pub(super) fn take_answer(&self, id: u64, answer: Answer) {
        let waiting = self.page().calls.remove(&id);
        if let Some(waiting) = waiting {
            // The page may be gone.
            let _ = waiting.send(answer);
        }
    }

    /// Gives the page what it subscribed to. What a page before it subscribed to is dropped.
    pub(super) fn pass_on(&self, number: u64, event: Box<RawValue>) {
        let channel = {
            let page = self.page();
            page.channel.clone().filter(|_| page.number == number)
        };
        if let Some(channel) = channel
            && let Err(error) = channel.send(event)
        {
            tracing::warn!(%error, "the page does not take an event");
        }
    }

    async fn ask(&self, message: impl FnOnce(u64) -> FromWindow) -> Answer {
        let (waiting, answer) = oneshot::channel();
        let id = {
            let mut page = self.page();
            page.last_call += 1;
            let id = page.last_call;
            page.calls.insert(id, waiting);
            id
        };
        if let Err(error) = self.try_to_say(&message(id)) {
            self.page().calls.remove(&id);
            return Err(desktop(&error));
        }
        // The program is gone, and with it soon the window.
        answer.await.unwrap_or_else(|_| Err(Refusal::Ending.into()))
    }

    fn subscribe(&self, channel: Channel<Box<RawValue>>) {
        let number = {
            let mut page = self.page();
            page.number += 1;
            page.channel = Some(channel);
            page.number
        };
        self.say(&FromWindow::Subscribe { page: number });
    }

    fn try_to_say(&self, message: &FromWindow) -> Result<(), SayError> {
        let frame = frame::encode(message)?;
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(&frame)?;
        Ok(output.flush()?)
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        // Each change is a single step.
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, thiserror::Error)]
enum SayError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Pipe(#[from] std::io::Error),
}

/// Any command of the API.
#[tauri::command]
pub(super) async fn call(parent: State<'_, Parent>, name: String, request: Value) -> Answer {
    parent
        .ask(|id| FromWindow::Call { id, name, request })
        .await
}

/// The API's events go over this channel, the whole state first. A page has one stream.
#[tauri::command]
#[expect(clippy::needless_pass_by_value, reason = "Tauri hands them over so")]
pub(super) fn subscribe(parent: State<'_, Parent>, channel: Channel<Box<RawValue>>) {
    parent.subscribe(channel);
}

/// Opens an address in the browser, or one of the program's own folders.
#[tauri::command]
pub(super) async fn open(parent: State<'_, Parent>, target: String) -> Answer {
    parent.ask(|id| FromWindow::Open { id, target }).await
}

/// Asks where to, then writes a text file. Answers where it is; none if the person changed their
/// mind.
#[tauri::command]
pub(super) async fn save_text(
    app: AppHandle,
    name: String,
    text: String,
) -> Result<Option<PathBuf>, ApiError> {
    let mut dialog = app.dialog().file().set_file_name(file_name(&name));
    if let Some(window) = main_window(&app) {
        dialog = dialog.set_parent(&window);
    }
    let (chosen, choice) = oneshot::channel();
    dialog.save_file(move |path| {
        // The page may be gone.
        let _ = chosen.send(path);
    });
    let Some(path) = choice.await.ok().flatten() else {
        return Ok(None);
    };
    let path = path.into_path().map_err(|error| desktop(&error))?;
    tokio::fs::write(&path, text)
        .await
        .map_err(|error| Refusal::NotSaved {
            path: path.display().to_string(),
            detail: error.to_string(),
        })?;
    Ok(Some(path))
}

/// Asks for a model's file. Answers where it is; none if the person changed their mind.
#[tauri::command]
pub(super) async fn choose_model(app: AppHandle) -> Result<Option<PathBuf>, ApiError> {
    let mut dialog = app.dialog().file().add_filter("GGUF", &["gguf"]);
    if let Some(window) = main_window(&app) {
        dialog = dialog.set_parent(&window);
    }
    let (chosen, choice) = oneshot::channel();
    dialog.pick_file(move |path| {
        // The page may be gone.
        let _ = chosen.send(path);
    });
    let Some(path) = choice.await.ok().flatten() else {
        return Ok(None);
    };
    path.into_path().map(Some).map_err(|error| desktop(&error))
}

/// A page proposes a name, not a place.
fn file_name(name: &str) -> String {
    let name: String = name
        .chars()
        .filter(|character| !character.is_control() && !"/\\:*?\"<>|".contains(*character))
        .take(100)
        .collect();
    let name = name.trim_matches([' ', '.']);
    if name.is_empty() { "infera.txt" } else { name }.to_owned()
}

fn desktop(error: &dyn std::fmt::Display) -> ApiError {
    let detail = error.to_string();
    Refusal::Desktop { detail }.into()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use infera_protocol::frame::Decoder;
    use serde_json::json;
    use serde_json::value::to_raw_value;
    use tauri::ipc::InvokeResponseBody;

    use super::*;

    /// What the program hears.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<u8>>>);

    impl Heard {
        fn messages(&self) -> Vec<FromWindow> {
            let mut decoder = Decoder::default();
            decoder.push(&self.0.lock().unwrap());
            std::iter::from_fn(|| decoder.message().unwrap()).collect()
        }
    }

    impl Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A program that takes nothing any more.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn raw(value: &Value) -> Box<RawValue> {
        to_raw_value(value).unwrap()
    }

    /// A page's channel, and what comes over it.
    fn channel() -> (Channel<Box<RawValue>>, Arc<Mutex<Vec<Value>>>) {
        let came = Arc::new(Mutex::new(Vec::new()));
        let page = Arc::clone(&came);
        let channel = Channel::new(move |body| {
            let InvokeResponseBody::Json(text) = body else {
                panic!("not JSON");
            };
            page.lock().unwrap().push(serde_json::from_str(&text)?);
            Ok(())
        });
        (channel, came)
    }

    #[tokio::test]
    async fn each_call_gets_its_own_answer() {
        let heard = Heard::default();
        let parent = Parent::new(heard.clone());
        let call = |name: &'static str| {
            parent.ask(move |id| FromWindow::Call {
                id,
                name: name.to_owned(),
                request: Value::Null,
            })
        };
        let answering = async {
            for message in heard.messages().into_iter().rev() {
                let FromWindow::Call { id, name, .. } = message else {
                    panic!("{message:?}");
                };
                parent.take_answer(id, Ok(raw(&json!(name))));
                // A second answer is nobody's.
                parent.take_answer(id, Ok(raw(&json!("again"))));
            }
        };
        let (first, second, ()) = tokio::join!(call("pause"), call("resume"), answering);
        assert_eq!(first.unwrap().get(), "\"pause\"");
        assert_eq!(second.unwrap().get(), "\"resume\"");
    }

    #[tokio::test]
    async fn a_call_that_cannot_be_made_is_answered_here() {
        let gone = Parent::new(Gone);
        let call = |id| FromWindow::Call {
            id,
            name: "import".to_owned(),
            request: Value::Null,
        };
        let error = gone.ask(call).await.unwrap_err();
        assert!(matches!(error.refusal, Refusal::Desktop { .. }), "{error}");
    }

    #[test]
    fn a_page_hears_only_what_it_subscribed_to() {
        let heard = Heard::default();
        let parent = Parent::new(heard.clone());
        let (first, first_came) = channel();
        parent.subscribe(first);
        parent.pass_on(1, raw(&json!("one")));
        let (second, second_came) = channel();
        parent.subscribe(second);
        // It was on its way when the page was loaded anew.
        parent.pass_on(1, raw(&json!("late")));
        parent.pass_on(2, raw(&json!("two")));
        assert_eq!(*first_came.lock().unwrap(), [json!("one")]);
        assert_eq!(*second_came.lock().unwrap(), [json!("two")]);
        let pages = [1, 2].map(|page| FromWindow::Subscribe { page });
        assert_eq!(heard.messages(), pages);
    }

    #[test]
    fn a_name_is_no_path() {
        assert_eq!(file_name("jobs.csv"), "jobs.csv");
        assert_eq!(file_name("../../.bashrc"), "bashrc");
        assert_eq!(file_name("C:\\a\u{0}b"), "Cab");
        assert_eq!(file_name(" .. "), "infera.txt");
    }
}
