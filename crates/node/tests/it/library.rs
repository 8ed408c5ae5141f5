//! The model library against a web server of the tests' own, which fails in all the known ways.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use futures_util::{StreamExt, stream};
use infera_model::gguf::write::GgufBuilder;
use infera_node::clock::SystemClock;
use infera_node::library::{
    Catalogue, DiskSpace, Download, DownloadFault, DownloadRequest, DownloadState, Http, Library,
    LibraryConfig, LibraryEdges, LibraryError, LibraryState, Limits, Timing,
};
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof, proptest};
use tokio::time::{Instant, sleep, timeout};

use crate::http::serve;

/// What the server does with one request.
#[derive(Debug, Clone)]
enum Serve {
    Well,
    /// So many bytes, then the connection breaks.
    Break(usize),
    /// So many bytes, then nothing.
    Stall(usize),
    /// A piece each 5 ms.
    Slowly,
    /// The whole file, whatever was asked for.
    Whole,
    /// The whole file, with an early end.
    WholeBreak(usize),
    Status(u16),
    Page,
    /// Promises so many bytes more than come.
    TooShort(usize),
    Redirect(String),
}

struct Server {
    url: String,
    state: Arc<ServerState>,
}

struct ServerState {
    content: Mutex<Arc<[u8]>>,
    etag: Mutex<Option<String>>,
    /// What a hub says of the file, on every answer.
    linked_hash: Mutex<Option<String>>,
    /// The last one stays.
    plan: Mutex<VecDeque<Serve>>,
    /// The `Range` of each request.
    asked: Mutex<Vec<Option<String>>>,
}

impl Server {
    async fn start(content: &[u8], plan: impl IntoIterator<Item = Serve>) -> Self {
        let state = Arc::new(ServerState {
            content: Mutex::new(content.into()),
            etag: Mutex::new(Some("\"one\"".to_owned())),
            linked_hash: Mutex::new(None),
            plan: Mutex::new(plan.into_iter().collect()),
            asked: Mutex::default(),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&state));
        Self {
            url: format!("{}/model.gguf", serve(router).await),
            state,
        }
    }

    fn plan(&self, plan: impl IntoIterator<Item = Serve>) {
        *self.state.plan.lock().unwrap() = plan.into_iter().collect();
    }

    fn asked(&self) -> Vec<Option<String>> {
        self.state.asked.lock().unwrap().clone()
    }

    fn request(&self) -> DownloadRequest {
        DownloadRequest::Url {
            url: self.url.clone(),
        }
    }
}

async fn answer(State(server): State<Arc<ServerState>>, request: Request) -> Response {
    let range = request.headers().get(header::RANGE);
    let range = range.map(|range| range.to_str().unwrap().to_owned());
    server.asked.lock().unwrap().push(range.clone());
    let serve = {
        let mut plan = server.plan.lock().unwrap();
        match plan.len() {
            0 => Serve::Well,
            1 => plan[0].clone(),
            _ => plan.pop_front().unwrap(),
        }
    };
    let content = Arc::clone(&server.content.lock().unwrap());
    let etag = server.etag.lock().unwrap().clone();
    let linked = server.linked_hash.lock().unwrap().clone();
    let if_range = request.headers().get(header::IF_RANGE);
    let is_same = if_range.is_none_or(|tag| Some(tag.to_str().unwrap()) == etag.as_deref());
    let wants_part = is_same && !matches!(serve, Serve::Whole | Serve::WholeBreak(_));
    let part = range.filter(|_| wants_part).map(|range| {
        let (first, last) = range
            .strip_prefix("bytes=")
            .unwrap()
            .split_once('-')
            .unwrap();
        let last = last.parse().map_or(content.len(), |last: usize| last + 1);
        (first.parse::<usize>().unwrap(), last)
    });
    let mut response = Response::builder();
    if let Some(etag) = etag {
        response = response.header(header::ETAG, etag);
    }
    if let Some(hash) = linked {
        response = response
            .header("x-linked-etag", format!("\"{hash}\""))
            .header("x-linked-size", content.len());
    }
    let (start, end) = part.unwrap_or((0, content.len()));
    if start >= content.len() {
        return response
            .status(416)
            .header(header::CONTENT_RANGE, format!("bytes */{}", content.len()))
            .body(Body::empty())
            .unwrap();
    }
    if part.is_some() {
        response = response.status(206).header(
            header::CONTENT_RANGE,
            format!("bytes {start}-{}/{}", end - 1, content.len()),
        );
    }
    let part = &content[start..end];
    let (sent, end, pause) = match serve {
        Serve::Status(status) => {
            return StatusCode::from_u16(status).unwrap().into_response();
        }
        Serve::Page => return Html("<html>Log in</html>").into_response(),
        Serve::Redirect(target) => {
            let response = response.status(302).header(header::LOCATION, target);
            return response.body(Body::empty()).unwrap();
        }
        Serve::Well | Serve::Whole => (part.len(), End::Clean, 0),
        Serve::Slowly => (part.len(), End::Clean, 5),
        Serve::Break(bytes) | Serve::WholeBreak(bytes) => (bytes.min(part.len()), End::Break, 0),
        Serve::Stall(bytes) => (bytes.min(part.len()), End::Stall, 0),
        Serve::TooShort(more) => {
            response = response.header(header::CONTENT_LENGTH, part.len() + more);
            (part.len(), End::Break, 0)
        }
    };
    if !response
        .headers_ref()
        .unwrap()
        .contains_key(header::CONTENT_LENGTH)
    {
        response = response.header(header::CONTENT_LENGTH, part.len());
    }
    let pieces: Vec<Bytes> = part[..sent]
        .chunks(1000)
        .map(Bytes::copy_from_slice)
        .collect();
    let body = stream::iter(pieces)
        .then(move |piece| async move {
            if pause > 0 {
                sleep(Duration::from_millis(pause)).await;
            }
            Ok(piece)
        })
        .chain(stream::once(end.run()).filter_map(|end| async { end }));
    response.body(Body::from_stream(body)).unwrap()
}

#[derive(Clone, Copy)]
enum End {
    Clean,
    Break,
    Stall,
}

impl End {
    async fn run(self) -> Option<Result<Bytes, std::io::Error>> {
        match self {
            Self::Clean => None,
            Self::Break => {
                // What was sent before has to leave first.
                sleep(Duration::from_millis(5)).await;
                Some(Err(std::io::Error::other("broken")))
            }
            Self::Stall => std::future::pending().await,
        }
    }
}

struct FakeDisk(AtomicU64);

impl DiskSpace for FakeDisk {
    fn free(&self, _folder: &Path) -> Option<u64> {
        Some(self.0.load(Ordering::SeqCst))
    }
}

/// A machine with its folders.
struct Machine {
    folder: tempfile::TempDir,
    disk: Arc<FakeDisk>,
    limits: Limits,
    catalogue: Catalogue,
    publish: Duration,
}

impl Machine {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            disk: Arc::new(FakeDisk(AtomicU64::new(u64::MAX))),
            limits: Limits::default(),
            catalogue: Catalogue::default(),
            publish: Duration::from_millis(5),
        }
    }

    /// With a model `m` whose SHA-256 the catalogue knows, or not.
    fn with_catalogue(sources: &[&str], content: &[u8], knows_hash: bool) -> Self {
        let mut entry = serde_json::json!({
            "id": "m", "name": "Model M", "summary": {"en": "It is small."}, "parameters_billions": 0.1,
            "licence": "MIT", "licence_url": "https://m.example", "quantisation": "F32",
            "bytes": content.len(), "bytes_are_exact": knows_hash, "context_tokens": 8,
            "layers": 1, "kv_heads": 1, "head_dim": 1, "sources": sources,
        });
        if knows_hash {
            entry["sha256"] = sha256(content).into();
        }
        let catalogue = Catalogue::from_json(&serde_json::json!([entry]).to_string()).unwrap();
        Self {
            catalogue,
            ..Self::new()
        }
    }

    fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    fn partials(&self) -> PathBuf {
        self.folder.path().join("partials")
    }

    async fn open(&self) -> Library {
        self.open_with(&self.partials()).await
    }

    async fn open_with(&self, partials: &Path) -> Library {
        self.open_at(partials, Some(false)).await
    }

    async fn open_metered(&self, metered: Option<bool>) -> Library {
        self.open_at(&self.partials(), metered).await
    }

    async fn open_at(&self, partials: &Path, metered: Option<bool>) -> Library {
        let config = LibraryConfig {
            partials_folder: partials.to_owned(),
            metered,
            catalogue: self.catalogue.clone(),
            limits: self.limits,
            timing: Timing {
                stall: Duration::from_millis(300),
                first_retry: Duration::from_millis(30),
                longest_retry: Duration::from_millis(100),
                publish: self.publish,
                save_every: Duration::ZERO,
                speed_window: Duration::from_secs(1),
            },
            chunk_bytes: 4096,
            keep_free_bytes: 1000,
            ..LibraryConfig::new(self.models())
        };
        let edges = LibraryEdges {
            clock: Arc::new(SystemClock),
            disk: Arc::clone(&self.disk) as Arc<dyn DiskSpace>,
            http: Http::new(None).unwrap().with_hub("127.0.0.1"),
        };
        Library::open(config, edges).await.unwrap()
    }

    /// Name and content of all models.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(self.models())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, fs::read(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    /// What is left of downloads and imports.
    fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.partials()).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "provenance")
            .collect();
        names.sort();
        names
    }
}

fn by_id() -> DownloadRequest {
    DownloadRequest::Catalogue { id: "m".to_owned() }
}

fn sha256(content: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, content))
}

/// A GGUF file of about so many bytes.
fn model(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let values: Vec<f32> = (0..bytes / 4)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32
        })
        .collect();
    GgufBuilder::new()
        .str("general.architecture", "llama")
        .str("general.name", "Small")
        .f32_tensor("x", &[values.len() as u64], &values)
        .build()
}

async fn wait_for(library: &Library, what: impl FnMut(&LibraryState) -> bool) -> LibraryState {
    let mut state = library.state();
    let found = timeout(Duration::from_secs(20), state.wait_for(what)).await;
    let Ok(state) = found else {
        panic!("it does not happen: {:?}", *library.state().borrow());
    };
    state.unwrap().clone()
}

async fn finished(library: &Library) -> LibraryState {
    wait_for(library, |state| {
        state.downloads.is_empty() && !state.installed.is_empty()
    })
    .await
}

async fn failed(library: &Library) -> (DownloadFault, String) {
    let state = wait_for(library, |state| {
        matches!(
            state.downloads[..],
            [Download {
                state: DownloadState::Failed { .. },
                ..
            }]
        )
    })
    .await;
    match &state.downloads[0].state {
        DownloadState::Failed { code, message } => (*code, message.clone()),
        _ => unreachable!("it was waited for"),
    }
}

async fn is_at(library: &Library, bytes: u64) -> LibraryState {
    wait_for(library, |state| state.downloads[0].done_bytes >= bytes).await
}

/// Collects every state until nothing is downloaded any more.
fn watch(library: &Library) -> tokio::task::JoinHandle<Vec<LibraryState>> {
    let mut state = library.state();
    tokio::spawn(async move {
        let mut seen = vec![state.borrow_and_update().clone()];
        while state.changed().await.is_ok() {
            let now = state.borrow_and_update().clone();
            let ended = now.downloads.is_empty();
            seen.push(now);
            if ended {
                break;
            }
        }
        seen
    })
}

#[tokio::test]
async fn a_model_of_the_catalogue_arrives_checked_and_known() {
    let content = model(50_000, 1);
    let server = Server::start(&content, [Serve::Slowly]).await;
    let machine = Machine::with_catalogue(&[&server.url], &content, true);
    let library = machine.open().await;
    let id = library.download(by_id()).await.unwrap();
    assert_eq!(id, "m");
    let state = library.state().borrow().clone();
    assert_eq!(state.downloads[0].name, "Model M");
    assert_eq!(state.downloads[0].total_bytes, Some(content.len() as u64));
    let running = wait_for(&library, |state| {
        state.downloads[0].bytes_per_second.is_some()
    })
    .await;
    assert_eq!(running.downloads[0].state, DownloadState::Running);
    assert!(running.downloads[0].seconds_left.is_some());
    assert!(running.disk.partial_bytes > 0);

    let state = finished(&library).await;
    assert_eq!(
        machine.files(),
        [("model.gguf".to_owned(), content.clone())]
    );
    assert_eq!(state.installed[0].catalogue_id.as_deref(), Some("m"));
    assert_eq!(state.installed[0].name, "Model M");
    assert_eq!(state.disk.models_bytes, content.len() as u64);
    assert_eq!(state.disk.partial_bytes, 0);
    assert_eq!(machine.leftovers(), [""; 0]);
    assert_eq!(server.asked(), [None]);

    let error = library.download(by_id()).await.unwrap_err();
    assert!(matches!(error, LibraryError::Installed { .. }), "{error}");
    library.close().await;
    let again = machine.open().await;
    let known = again.state().borrow().installed[0].catalogue_id.clone();
    assert_eq!(known.as_deref(), Some("m"));
}

#[tokio::test]
async fn a_broken_connection_goes_on_where_it_stopped() {
    let content = model(100_000, 1);
    let cut = content.len() * 37 / 100;
    let server = Server::start(&content, [Serve::Break(cut), Serve::Well]).await;
    let machine = Machine::with_catalogue(&[&server.url], &content, true);
    let library = machine.open().await;
    let seen = watch(&library);
    library.download(by_id()).await.unwrap();
    finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
    assert_eq!(server.asked(), [None, Some(format!("bytes={cut}-"))]);

    let seen = seen.await.unwrap();
    let done: Vec<_> = seen
        .iter()
        .flat_map(|state| &state.downloads)
        .map(|download| download.done_bytes)
        .collect();
    assert!(done.is_sorted(), "never backwards: {done:?}");
    assert!(
        seen.iter().flat_map(|state| &state.downloads).any(|download| matches!(&download.state, DownloadState::Stalled { message, retry_at_ms } if message.contains("broke") && *retry_at_ms > 0)),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_silent_connection_is_given_up_and_made_again() {
    let content = model(60_000, 1);
    let server = Server::start(&content, [Serve::Stall(20_000), Serve::Well]).await;
    let machine = Machine::new();
    let library = machine.open().await;
    library.download(server.request()).await.unwrap();
    wait_for(&library, |state| {
        state.downloads.iter().any(|download| {
            let stalled = matches!(&download.state, DownloadState::Stalled { message, .. } if message.contains("nothing came"));
            stalled && download.bytes_per_second.is_none() && download.done_bytes == 20_000
        })
    })
    .await;
    finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
    assert_eq!(server.asked(), [None, Some("bytes=20000-".to_owned())]);
}

#[tokio::test]
async fn a_server_without_ranges_does_not_throw_progress_back() {
    let content = model(60_000, 1);
    let plan = [
        Serve::Break(30_000),
        Serve::WholeBreak(10_000),
        Serve::Whole,
    ];
    let server = Server::start(&content, plan).await;
    let machine = Machine::new();
    let library = machine.open().await;
    let seen = watch(&library);
    library.download(server.request()).await.unwrap();
    finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
    let done = seen.await.unwrap();
    let done = done.iter().flat_map(|state| &state.downloads);
    assert!(done.map(|download| download.done_bytes).is_sorted());
}

#[tokio::test]
async fn a_file_that_changed_midway_starts_again_and_says_so() {
    let (old, new) = (model(60_000, 1), model(70_000, 2));
    let server = Server::start(&old, [Serve::Stall(30_000), Serve::Well]).await;
    let machine = Machine::new();
    let library = machine.open().await;
    library.download(server.request()).await.unwrap();
    is_at(&library, 30_000).await;
    *server.state.content.lock().unwrap() = new.as_slice().into();
    *server.state.etag.lock().unwrap() = Some("\"two\"".to_owned());
    let state = wait_for(&library, |state| {
        state.downloads.iter().any(|download| {
            matches!(&download.state, DownloadState::Stalled { message, .. } if message.contains("has changed"))
        })
    })
    .await;
    assert_eq!(state.downloads[0].done_bytes, 0);
    finished(&library).await;
    assert_eq!(
        machine.files()[0].1,
        new,
        "nothing of the old file is in it"
    );
}

#[tokio::test]
async fn without_a_mark_of_the_version_parts_are_never_mixed() {
    let content = model(60_000, 1);
    let server = Server::start(&content, [Serve::Break(30_000), Serve::Well]).await;
    *server.state.etag.lock().unwrap() = None;
    let machine = Machine::new();
    let library = machine.open().await;
    library.download(server.request()).await.unwrap();
    finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
    assert_eq!(server.asked(), [None, None], "from zero");
}

#[tokio::test]
async fn a_wrong_file_is_not_kept() {
    let (promised, wrong) = (model(60_000, 1), model(60_000, 2));
    assert_eq!(promised.len(), wrong.len());
    let server = Server::start(&wrong, []).await;
    let machine = Machine::with_catalogue(&[&server.url], &promised, true);
    let library = machine.open().await;
    library.download(by_id()).await.unwrap();
    let (code, message) = failed(&library).await;
    assert_eq!(code, DownloadFault::WrongHash, "{message}");
    assert_eq!(machine.files(), []);
    assert_eq!(library.state().borrow().disk.partial_bytes, 0);
    let left = fs::metadata(machine.partials().join("m.part")).unwrap();
    assert_eq!(left.len(), 0);

    *server.state.content.lock().unwrap() = promised.as_slice().into();
    library.resume("m").await.unwrap();
    finished(&library).await;
    assert_eq!(machine.files()[0].1, promised);
}

#[tokio::test]
async fn what_cannot_be_the_file_is_refused_before_it_is_fetched() {
    let content = model(60_000, 1);
    let longer = model(60_400, 1);
    for (plan, served, code) in [
        (Serve::Status(404), &content, DownloadFault::Refused),
        (Serve::Status(403), &content, DownloadFault::Refused),
        (Serve::Status(401), &content, DownloadFault::Refused),
        (Serve::Page, &content, DownloadFault::NotAModel),
        (Serve::Well, &longer, DownloadFault::WrongHash),
        (Serve::TooShort(9), &content, DownloadFault::WrongHash),
        (
            Serve::Redirect("http://models.example/m.gguf".to_owned()),
            &content,
            DownloadFault::Refused,
        ),
        (
            Serve::Redirect("/model.gguf".to_owned()),
            &content,
            DownloadFault::Refused,
        ),
    ] {
        let server = Server::start(served, [plan.clone()]).await;
        let machine = Machine::with_catalogue(&[&server.url], &content, true);
        let library = machine.open().await;
        library.download(by_id()).await.unwrap();
        let (found, message) = failed(&library).await;
        assert_eq!(found, code, "{plan:?}: {message}");
        assert_eq!(machine.files(), [], "{plan:?}");
        assert_eq!(library.state().borrow().disk.partial_bytes, 0, "{plan:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_model_end_a_download_at_its_start() {
    let content = vec![7; 3_000_000];
    let server = Server::start(&content, []).await;
    let machine = Machine::new();
    let library = machine.open().await;
    library.download(server.request()).await.unwrap();
    let (code, message) = failed(&library).await;
    assert_eq!(code, DownloadFault::NotAModel, "{message}");
    assert_eq!(library.state().borrow().disk.partial_bytes, 0);

    // It begins well and is cut off: that shows at the end.
    let mut cut = model(60_000, 1);
    cut.truncate(30_000);
    *server.state.content.lock().unwrap() = cut.as_slice().into();
    let id = library.state().borrow().downloads[0].id.clone();
    library.resume(&id).await.unwrap();
    let (code, message) = failed(&library).await;
    assert_eq!(code, DownloadFault::NotAModel);
    assert!(message.contains("model.gguf"), "{message}");
    assert_eq!(machine.files(), []);
}

#[tokio::test]
async fn a_servers_fault_is_waited_out() {
    let content = model(60_000, 1);
    let plan = [500, 503, 429].map(Serve::Status);
    let server = Server::start(&content, plan.into_iter().chain([Serve::Well])).await;
    let machine = Machine::new();
    let library = machine.open().await;
    library.download(server.request()).await.unwrap();
    wait_for(&library, |state| {
        state.downloads.iter().any(|download| {
            matches!(&download.state, DownloadState::Stalled { message, .. } if message.contains("500"))
        })
    })
    .await;
    finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
}

#[tokio::test]
async fn a_length_that_is_too_long_still_ends() {
    let content = model(60_000, 1);
    // The first answer promises 5 bytes too many; the second says where the file ends.
    let server = Server::start(&content, [Serve::TooShort(5), Serve::Well]).await;
    let machine = Machine::new();
    let library = machine.open().await;
    library.download(server.request()).await.unwrap();
    finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn the_next_source_takes_over_with_what_is_there() {
    let content = model(60_000, 1);
    let first = Server::start(&content, [Serve::Break(20_000), Serve::Status(404)]).await;
    let second = Server::start(&content, []).await;
    let sources = [&first.url[..], &second.url[..]];
    let machine = Machine::with_catalogue(&sources, &content, true);
    let library = machine.open().await;
    library.download(by_id()).await.unwrap();
    finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
    assert_eq!(second.asked(), [Some("bytes=20000-".to_owned())]);
}

#[tokio::test]
async fn nobody_there_is_said_after_some_tries() {
    let url = "http://127.0.0.1:1/m.gguf";
    let machine = Machine::with_catalogue(&[url], b"x", true);
    let library = machine.open().await;
    let request = DownloadRequest::Url {
        url: url.to_owned(),
    };
    let id = library.download(request).await.unwrap();
    let (code, message) = failed(&library).await;
    assert_eq!(code, DownloadFault::Unreachable);
    assert!(message.contains("127.0.0.1"), "{message}");
    library.cancel(&id).await.unwrap();

    // The catalogue's addresses are good: only the network is away, and it comes back.
    library.download(by_id()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let state = library.state().borrow().downloads[0].state.clone();
    assert!(
        matches!(
            state,
            DownloadState::Stalled { .. } | DownloadState::Running
        ),
        "{state:?}"
    );
}

#[tokio::test]
async fn a_hub_tells_the_hash_that_the_catalogue_does_not_know() {
    let content = model(60_000, 1);
    let store = Server::start(&content, [Serve::Break(20_000), Serve::Well]).await;
    let hub = Server::start(&content, [Serve::Redirect(store.url.clone())]).await;
    *hub.state.linked_hash.lock().unwrap() = Some(sha256(&content));
    let machine = Machine::with_catalogue(&[&hub.url], &content, false);
    let library = machine.open().await;
    library.download(by_id()).await.unwrap();
    let state = finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
    assert_eq!(state.installed[0].catalogue_id.as_deref(), Some("m"));
    assert_eq!(store.asked(), [None, Some("bytes=20000-".to_owned())]);
}

#[tokio::test]
async fn without_any_hash_a_model_of_the_catalogue_is_not_fetched() {
    let content = model(60_000, 1);
    let server = Server::start(&content, []).await;
    let machine = Machine::with_catalogue(&[&server.url], &content, false);
    let library = machine.open().await;
    library.download(by_id()).await.unwrap();
    let (code, message) = failed(&library).await;
    assert_eq!(code, DownloadFault::WrongHash, "{message}");
    assert_eq!(library.state().borrow().disk.partial_bytes, 0);

    *server.state.linked_hash.lock().unwrap() = Some(sha256(b"another"));
    library.resume("m").await.unwrap();
    wait_for(&library, |state| {
        matches!(&state.downloads[0].state, DownloadState::Failed { message, .. } if message.contains("SHA-256 is another"))
    })
    .await;
    assert_eq!(machine.files(), []);
}

#[tokio::test]
async fn a_crash_costs_nothing_that_was_recorded() {
    let content = model(100_000, 1);
    let server = Server::start(&content, [Serve::Stall(50_000), Serve::Well]).await;
    let machine = Machine::with_catalogue(&[&server.url], &content, true);
    let library = machine.open().await;
    library.download(by_id()).await.unwrap();
    is_at(&library, 50_000).await;
    // The stall makes the download write what it has; then its files are as a crash leaves them.
    let copy = machine.folder.path().join("after-the-crash");
    fs::create_dir(&copy).unwrap();
    wait_for(&library, |state| {
        matches!(state.downloads[0].state, DownloadState::Stalled { .. })
    })
    .await;
    for name in ["m.json", "m.part"] {
        fs::copy(machine.partials().join(name), copy.join(name)).unwrap();
    }
    library.cancel("m").await.unwrap();
    assert_eq!(machine.leftovers(), [""; 0]);
    server.state.asked.lock().unwrap().clear();

    server.plan([Serve::Well]);
    let library = machine.open_with(&copy).await;
    assert_eq!(library.state().borrow().downloads[0].done_bytes, 50_000);
    finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
    assert_eq!(server.asked(), [Some("bytes=50000-".to_owned())]);
}

#[tokio::test]
async fn a_damaged_part_is_fetched_again_alone() {
    let content = model(100_000, 1);
    let server = Server::start(&content, [Serve::Stall(50_000)]).await;
    let machine = Machine::with_catalogue(&[&server.url], &content, true);
    let library = machine.open().await;
    library.download(by_id()).await.unwrap();
    is_at(&library, 50_000).await;
    library.pause("m").await.unwrap();
    library.close().await;
    let data = machine.partials().join("m.part");
    let mut bytes = fs::read(&data).unwrap();
    bytes[4096 * 3 + 7] ^= 1;
    fs::write(&data, bytes).unwrap();
    server.state.asked.lock().unwrap().clear();

    server.plan([Serve::Well]);
    let library = machine.open().await;
    library.resume("m").await.unwrap();
    wait_for(&library, |state| {
        state.downloads.iter().any(|download| {
            matches!(&download.state, DownloadState::Stalled { message, .. } if message.contains("damaged"))
        })
    })
    .await;
    finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
    let (start, end) = (4096 * 3, 4096 * 4 - 1);
    let asked = [format!("bytes={start}-{end}"), "bytes=50000-".to_owned()];
    assert_eq!(server.asked(), asked.map(Some));
}

#[tokio::test]
async fn downloads_outlive_the_program_and_go_on_by_themselves() {
    let content = model(100_000, 1);
    let server = Server::start(&content, [Serve::Stall(50_000), Serve::Well]).await;
    let machine = Machine::new();
    let library = machine.open().await;
    library.download(server.request()).await.unwrap();
    is_at(&library, 50_000).await;
    library.close().await;
    let error = library.refresh().await.unwrap_err();
    assert!(matches!(error, LibraryError::Ended), "{error}");
    let library = machine.open().await;
    finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
    assert_eq!(server.asked(), [None, Some("bytes=50000-".to_owned())]);
}

#[tokio::test]
async fn pause_keeps_resume_goes_on_and_cancel_deletes() {
    let content = model(100_000, 1);
    let server = Server::start(&content, [Serve::Stall(50_000)]).await;
    let machine = Machine::new();
    let library = machine.open().await;
    let id = library.download(server.request()).await.unwrap();
    is_at(&library, 50_000).await;
    library.pause(&id).await.unwrap();
    let state = library.state().borrow().clone();
    assert_eq!(state.downloads[0].state, DownloadState::Paused);
    assert_eq!(state.downloads[0].done_bytes, 50_000);
    library.close().await;

    let library = machine.open().await;
    let state = library.state().borrow().clone();
    assert_eq!(
        state.downloads[0].state,
        DownloadState::Paused,
        "it stays so"
    );
    assert_eq!(state.downloads[0].done_bytes, 50_000);
    assert_eq!(server.asked().len(), 1);
    server.plan([Serve::Stall(10_000)]);
    library.resume(&id).await.unwrap();
    is_at(&library, 60_000).await;

    library.cancel(&id).await.unwrap();
    assert_eq!(library.state().borrow().downloads, []);
    assert_eq!(machine.leftovers(), [""; 0]);
    let error = library.resume(&id).await.unwrap_err();
    assert!(matches!(error, LibraryError::NoDownload(_)), "{error}");
    library.pause("none").await.unwrap_err();
    library.cancel("none").await.unwrap_err();

    server.plan([Serve::Well]);
    library.download(server.request()).await.unwrap();
    finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
}

#[tokio::test]
async fn one_download_runs_at_a_time() {
    let content = model(50_000, 1);
    let first = Server::start(&content, [Serve::Stall(10_000)]).await;
    let second = Server::start(&content, []).await;
    let machine = Machine::new();
    let library = machine.open().await;
    let one = library.download(first.request()).await.unwrap();
    let two = library.download(second.request()).await.unwrap();
    assert_eq!(
        library.download(second.request()).await.unwrap(),
        two,
        "once"
    );
    is_at(&library, 10_000).await;
    let state = library.state().borrow().clone();
    assert_eq!(state.downloads.len(), 2);
    assert_eq!(state.downloads[1].state, DownloadState::Queued);
    assert_eq!(second.asked().len(), 0);

    library.pause(&one).await.unwrap();
    let state = wait_for(&library, |state| state.downloads.len() == 1).await;
    assert_eq!(state.downloads[0].id, one, "the second ran meanwhile");
    first.plan([Serve::Well]);
    library.resume(&one).await.unwrap();
    finished(&library).await;
    let names: Vec<_> = machine.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["model (2).gguf", "model.gguf"]);
}

#[tokio::test]
async fn a_quota_stops_a_download_before_it_starts() {
    let content = model(50_000, 1);
    let server = Server::start(&content, []).await;
    let quota = |bytes| Limits {
        quota_bytes: Some(bytes),
        ..Limits::default()
    };
    let mut machine = Machine::with_catalogue(&[&server.url], &content, true);
    machine.limits = quota(content.len() as u64 - 1);
    let library = machine.open().await;
    library.download(by_id()).await.unwrap();
    let (code, message) = failed(&library).await;
    assert_eq!(code, DownloadFault::OverQuota, "{message}");
    assert_eq!(server.asked().len(), 0);
    let limits = quota(content.len() as u64);
    library.set_limits(limits).await.unwrap();
    let shown = library.state().borrow().disk.quota_bytes;
    assert_eq!(shown, limits.quota_bytes);
    library.resume("m").await.unwrap();
    finished(&library).await;

    // The length of any other file is known only once a server tells it.
    library.download(server.request()).await.unwrap();
    let (code, _) = failed(&library).await;
    assert_eq!(code, DownloadFault::OverQuota);
    assert_eq!(library.state().borrow().disk.partial_bytes, 0);
}

#[tokio::test]
async fn a_full_disk_is_noticed_before_and_midway() {
    let content = model(600_000, 1);
    let server = Server::start(&content, [Serve::Stall(1000)]).await;
    let machine = Machine::new();
    let room = |bytes| machine.disk.0.store(bytes, Ordering::SeqCst);
    room(content.len() as u64 + 999);
    let library = machine.open().await;
    let id = library.download(server.request()).await.unwrap();
    let (code, message) = failed(&library).await;
    assert_eq!(code, DownloadFault::DiskFull);
    assert!(message.contains("free some space"), "{message}");
    assert_eq!(
        library.state().borrow().disk.free_bytes,
        Some(content.len() as u64 + 999)
    );

    room(content.len() as u64 + 1000);
    library.resume(&id).await.unwrap();
    is_at(&library, 1000).await;
    // Another program takes the rest.
    room(10);
    let (code, _) = failed(&library).await;
    assert_eq!(code, DownloadFault::DiskFull);
    assert_eq!(
        library.state().borrow().downloads[0].done_bytes,
        1000,
        "it is kept"
    );
    room(u64::MAX);
    server.plan([Serve::Well]);
    library.resume(&id).await.unwrap();
    finished(&library).await;
    assert_eq!(machine.files()[0].1, content);
}

#[tokio::test]
async fn the_bandwidth_cap_holds_and_changes_at_once() {
    let content = model(300_000, 1);
    let server = Server::start(&content, []).await;
    let mut machine = Machine::new();
    machine.limits.bytes_per_second = Some(50_000);
    let library = machine.open().await;
    let start = Instant::now();
    library.download(server.request()).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    let done = library.state().borrow().downloads[0].done_bytes;
    let seconds = start.elapsed().as_secs_f64();
    // One piece of the network may be ahead of the cap.
    assert!(
        (done as f64) < 50_000.0 * seconds + 150_000.0,
        "{done} in {seconds} s"
    );
    assert!(done < content.len() as u64);
    library.set_limits(Limits::default()).await.unwrap();
    finished(&library).await;
    assert!(start.elapsed() < Duration::from_secs(4), "6 s at the cap");
    assert_eq!(machine.files()[0].1, content);
}

#[tokio::test]
async fn progress_is_published_at_a_calm_pace() {
    let content = model(100_000, 1);
    let server = Server::start(&content, [Serve::Slowly]).await;
    let mut machine = Machine::new();
    machine.publish = Duration::from_millis(250);
    let library = machine.open().await;
    let start = Instant::now();
    let seen = watch(&library);
    library.download(server.request()).await.unwrap();
    finished(&library).await;
    let most = start.elapsed().as_millis() / 250 + 4;
    let seen = seen.await.unwrap().len() as u128;
    assert!(seen <= most, "{seen} states, at most {most}");
}

#[tokio::test]
async fn an_import_copies_checks_and_never_overwrites() {
    let machine = Machine::new();
    let library = machine.open().await;
    let content = model(2_500_000, 1);
    let source = machine.folder.path().join("My Model.gguf");
    fs::write(&source, &content).unwrap();
    let path = library.import(&source).await.unwrap();
    assert_eq!(path, machine.models().join("My Model.gguf"));
    assert_eq!(library.state().borrow().installed[0].path, path);
    let second = library.import(&source).await.unwrap();
    assert_eq!(second, machine.models().join("My Model (2).gguf"));
    assert_eq!(fs::read(&second).unwrap(), content);
    assert!(source.exists());
    assert_eq!(library.state().borrow().installed.len(), 2);

    let error = library.import(&path).await.unwrap_err();
    assert!(matches!(error, LibraryError::InFolder(_)), "{error}");
    let absent = machine.folder.path().join("absent.gguf");
    let error = library.import(&absent).await.unwrap_err();
    assert!(matches!(error, LibraryError::Unreadable { .. }), "{error}");
    for (name, content) in [
        ("page.gguf", &b"<html>"[..]),
        ("cut.gguf", &content[..9000]),
        ("empty.gguf", b""),
    ] {
        let source = machine.folder.path().join(name);
        fs::write(&source, content).unwrap();
        let error = library.import(&source).await.unwrap_err();
        assert_eq!(error.fault(), Some(DownloadFault::NotAModel), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let error = library.import(machine.folder.path()).await.unwrap_err();
    assert!(matches!(error, LibraryError::NotAModel { .. }), "{error}");
    assert_eq!(machine.leftovers(), [""; 0]);
    assert_eq!(machine.files().len(), 2);
}

#[tokio::test]
async fn an_import_needs_room_too() {
    let machine = Machine::new();
    let library = machine.open().await;
    let content = model(50_000, 1);
    let source = machine.folder.path().join("a.gguf");
    fs::write(&source, &content).unwrap();
    machine.disk.0.store(50_000, Ordering::SeqCst);
    let error = library.import(&source).await.unwrap_err();
    assert_eq!(error.fault(), Some(DownloadFault::DiskFull), "{error}");
    machine.disk.0.store(u64::MAX, Ordering::SeqCst);
    let limits = Limits {
        quota_bytes: Some(content.len() as u64 * 2 - 1),
        ..Limits::default()
    };
    library.set_limits(limits).await.unwrap();
    library.import(&source).await.unwrap();
    let error = library.import(&source).await.unwrap_err();
    assert_eq!(error.fault(), Some(DownloadFault::OverQuota), "{error}");
    let pieces = stream::iter([Ok::<_, std::io::Error>(content)]);
    let error = library
        .import_stream("b.gguf", None, pieces)
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Some(DownloadFault::OverQuota), "{error}");
    assert_eq!(machine.files().len(), 1);
    assert_eq!(machine.leftovers(), [""; 0]);
}

#[tokio::test]
async fn an_upload_arrives_whole_or_not_at_all() {
    let machine = Machine::new();
    let library = machine.open().await;
    let content = model(2_500_000, 1);
    let pieces = |content: &[u8], broken: bool| {
        let mut pieces: Vec<_> = content
            .chunks(3333)
            .map(|piece| Ok(piece.to_vec()))
            .collect();
        if broken {
            pieces.truncate(500);
            pieces.push(Err("the tab was closed"));
        }
        stream::iter(pieces)
    };
    let path = library
        .import_stream("../up load?.gguf", None, pieces(&content, false))
        .await
        .unwrap();
    assert_eq!(path, machine.models().join("up load.gguf"));
    assert_eq!(fs::read(&path).unwrap(), content);

    let error = library
        .import_stream("b.gguf", None, pieces(&content, true))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("the tab was closed"), "{error}");
    for wrong in [&b"<html>"[..], &content[..9000], b""] {
        let error = library
            .import_stream("b.gguf", None, pieces(wrong, false))
            .await
            .unwrap_err();
        assert_eq!(error.fault(), Some(DownloadFault::NotAModel), "{error}");
    }
    // A caller that goes away.
    let endless = stream::iter([Ok::<_, std::io::Error>(content.clone())]).chain(stream::pending());
    let upload = library.import_stream("b.gguf", None, endless);
    timeout(Duration::from_millis(200), upload)
        .await
        .unwrap_err();
    assert_eq!(machine.files().len(), 1);
    assert_eq!(machine.leftovers(), [""; 0]);
}

#[tokio::test]
async fn an_import_tells_how_far_it_is() {
    let machine = Machine::new();
    let library = machine.open().await;
    let content = model(2_500_000, 1);
    let total = content.len() as u64;
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let pieces = stream::poll_fn(move |context| receiver.poll_recv(context));
    let upload = library.import_stream("a.gguf", Some(total), pieces);
    let watch = async {
        let (first, rest) = content.split_at(1 << 20);
        sender
            .send(Ok::<_, std::io::Error>(first.to_vec()))
            .unwrap();
        let mut state = library.state();
        let under_way = state
            .wait_for(|state| matches!(&*state.imports, [import] if import.done_bytes == 1 << 20));
        let import = under_way.await.unwrap().imports[0].clone();
        assert_eq!((&*import.name, import.total_bytes), ("a.gguf", Some(total)));
        sender.send(Ok(rest.to_vec())).unwrap();
        drop(sender);
    };
    let (path, ()) = tokio::join!(upload, watch);
    path.unwrap();
    let mut state = library.state();
    let done = state.wait_for(|state| state.imports.is_empty());
    assert_eq!(done.await.unwrap().installed.len(), 1);
}

#[tokio::test]
async fn only_listed_files_can_be_deleted() {
    let machine = Machine::new();
    let library = machine.open().await;
    let content = model(50_000, 1);
    let source = machine.folder.path().join("a.gguf");
    fs::write(&source, &content).unwrap();
    let path = library.import(&source).await.unwrap();
    let outside = machine.models().join("../a.gguf");
    for wrong in [&source, &outside, &machine.models()] {
        let error = library.delete(wrong).await.unwrap_err();
        assert!(matches!(error, LibraryError::NotInstalled(_)), "{error}");
    }
    assert!(source.exists());
    library.delete(&path).await.unwrap();
    assert_eq!(library.state().borrow().installed, []);
    assert_eq!(machine.files(), []);
}

#[tokio::test]
async fn files_that_the_user_puts_there_show_after_a_refresh() {
    let machine = Machine::new();
    let library = machine.open().await;
    fs::write(machine.models().join("a.gguf"), model(50_000, 1)).unwrap();
    fs::write(machine.models().join("broken.gguf"), "x").unwrap();
    library.refresh().await.unwrap();
    let state = library.state().borrow().clone();
    assert_eq!(state.installed.len(), 2);
    assert!(
        state
            .installed
            .iter()
            .any(|file| file.name == "broken" && file.fault.is_some())
    );
    // A listed file that somebody else deleted is gone as wanted.
    let path = state.installed[0].path.clone();
    fs::remove_file(&path).unwrap();
    library.delete(&path).await.unwrap();
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_at_once() {
    let machine = Machine::new();
    let library = machine.open().await;
    let request = |url: &str| DownloadRequest::Url {
        url: url.to_owned(),
    };
    for url in [
        "",
        "model",
        "http://models.example/a.gguf",
        "file:///etc/passwd",
    ] {
        let error = library.download(request(url)).await.unwrap_err();
        assert!(matches!(error, LibraryError::BadAddress(_)), "{error}");
    }
    let error = library.download(by_id()).await.unwrap_err();
    assert!(matches!(error, LibraryError::NotInCatalogue(_)), "{error}");
    assert_eq!(machine.leftovers(), [""; 0]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let config = LibraryConfig::new(file.join("models"));
    let error = Library::open(config, LibraryEdges::system().unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("settings"), "{error}");
}

fn mishap() -> impl Strategy<Value = Serve> {
    prop_oneof![
        Just(Serve::Well),
        (0..30_000_usize).prop_map(Serve::Break),
        (0..30_000_usize).prop_map(Serve::WholeBreak),
        Just(Serve::Whole),
        Just(Serve::Status(503)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_row_of_mishaps_ends_in_the_right_bytes(
        plan in proptest::collection::vec(mishap(), 0..8),
        damage in proptest::option::of(0..20_000_usize),
        has_etag in proptest::bool::ANY,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let content = model(30_000, 1);
            let plan = plan.into_iter().chain([Serve::Well]);
            let server = Server::start(&content, plan).await;
            if !has_etag {
                *server.state.etag.lock().unwrap() = None;
            }
            let machine = Machine::with_catalogue(&[&server.url], &content, true);
            let library = machine.open().await;
            library.download(by_id()).await.unwrap();
            if let Some(place) = damage {
                sleep(Duration::from_millis(20)).await;
                library.close().await;
                let data = machine.partials().join("m.part");
                if let Ok(mut bytes) = fs::read(&data) {
                    if let Some(byte) = bytes.get_mut(place) {
                        *byte ^= 1;
                    }
                    fs::write(&data, bytes).unwrap();
                }
                finished(&machine.open().await).await;
            } else {
                finished(&library).await;
            }
            assert_eq!(machine.files(), [("model.gguf".to_owned(), content)]);
            assert_eq!(machine.leftovers(), [""; 0]);
        });
    }
}

fn waits_for_another_connection(state: &LibraryState) -> bool {
    matches!(&state.downloads[..], [one] if matches!(&one.state, DownloadState::Metered { message } if message.starts_with("Waits: this connection is metered")))
}

#[tokio::test]
async fn a_metered_connection_holds_a_download_up_and_another_goes_on_with_it() {
    let content = model(400_000, 1);
    let server = Server::start(&content, [Serve::Slowly]).await;
    let machine = Machine::new();
    let library = machine.open().await;
    library.download(server.request()).await.unwrap();
    is_at(&library, 50_000).await;
    let begun = Instant::now();
    library.set_metered(true).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1));
    let state = library.state().borrow().clone();
    assert!(waits_for_another_connection(&state), "{state:?}");
    let kept = state.downloads[0].done_bytes;
    assert!((50_000..content.len() as u64).contains(&kept), "{kept}");
    // Nor does it go on when the program is started again, nor before anybody knows.
    library.close().await;
    for metered in [Some(true), None] {
        let library = machine.open_metered(metered).await;
        assert_eq!(library.state().borrow().downloads[0].done_bytes, kept);
        library.close().await;
    }
    assert_eq!(server.asked(), [None]);
    server.plan([Serve::Well]);
    let library = machine.open_metered(None).await;
    library.set_metered(true).await.unwrap();
    assert!(waits_for_another_connection(&library.state().borrow()));
    library.set_metered(false).await.unwrap();
    finished(&library).await;
    assert_eq!(machine.files(), [("model.gguf".to_owned(), content)]);
    let [None, Some(rest)] = &server.asked()[..] else {
        panic!("{:?}", server.asked());
    };
    assert!(
        rest.starts_with(&format!("bytes={kept}-")),
        "{rest}, not from {kept}"
    );
}

#[tokio::test]
async fn one_download_goes_on_whatever_it_costs() {
    let content = model(50_000, 1);
    let server = Server::start(&content, [Serve::Slowly]).await;
    let other = Server::start(&model(50_000, 2), [Serve::Well]).await;
    let machine = Machine::new();
    let library = machine.open_metered(Some(true)).await;
    // The first in the row does not keep the second from it.
    let waits = library.download(other.request()).await.unwrap();
    let id = library.download(server.request()).await.unwrap();
    assert!(matches!(
        library.resume_anyway("nobody").await,
        Err(LibraryError::NoDownload(_))
    ));
    library.resume_anyway(&id).await.unwrap();
    is_second_at(&library, 10_000).await;
    // It outlives the program, and a connection that is metered anew.
    library.close().await;
    let library = machine.open_metered(Some(true)).await;
    library.set_metered(true).await.unwrap();
    let state = wait_for(&library, |state| !state.installed.is_empty()).await;
    assert_eq!(machine.files(), [("model.gguf".to_owned(), content)]);
    assert!(waits_for_another_connection(&state), "{state:?}");
    assert_eq!(state.downloads[0].id, waits);
    assert_eq!(other.asked(), [None; 0]);
    // Paused by the person, it says so, and it waits again after.
    library.pause(&waits).await.unwrap();
    assert_eq!(
        library.state().borrow().downloads[0].state,
        DownloadState::Paused
    );
    library.resume(&waits).await.unwrap();
    assert!(waits_for_another_connection(&library.state().borrow()));
}

async fn is_second_at(library: &Library, bytes: u64) -> LibraryState {
    wait_for(library, |state| state.downloads[1].done_bytes >= bytes).await
}
