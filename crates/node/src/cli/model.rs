//! `infera model`: the files in the models folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use infera_node::app::api::{AppState, ById, ByPath, UseModel};
use infera_node::library::{CatalogueItem, DownloadRequest, DownloadState, Fit, InstalledModel};
use serde_json::json;

use super::Show;
use super::remote::{Control, output};
use super::terminal::{Fault, Progress, print, table};

/// How often a download is looked at.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Subcommand)]
pub(super) enum ModelCommand {
    /// Show the models that are here, or those that can be downloaded
    List {
        /// Those of the catalogue
        #[arg(long)]
        available: bool,
        #[command(flatten)]
        show: Show,
    },
    /// Download a model and wait for it; ended early, the download goes on in the node
    Get {
        /// A model of the catalogue (`model list --available`), or the https:// address of a GGUF file
        model: String,
        /// Over a metered connection too, whatever it costs
        #[arg(long)]
        anyway: bool,
        #[command(flatten)]
        show: Show,
    },
    /// Copy a GGUF file of this machine into the models folder
    Import {
        file: PathBuf,
        #[command(flatten)]
        show: Show,
    },
    /// Answer jobs with a model
    Use {
        /// Its name, or its path
        model: String,
        #[command(flatten)]
        show: Show,
    },
    /// Answer no more jobs with a model
    Rest {
        /// Its name, or its path
        model: String,
        #[command(flatten)]
        show: Show,
    },
    /// Delete a model's file from the models folder
    Remove {
        /// Its name, or its path
        model: String,
        #[command(flatten)]
        show: Show,
    },
}

pub(super) async fn run(command: ModelCommand) -> Result<ExitCode, Fault> {
    match command {
        ModelCommand::List {
            available: false,
            show,
        } => {
            let state = state(&Control::of(&show)?).await?;
            output(&show, &state.installed, |models| installed(models))
        }
        ModelCommand::List {
            available: true,
            show,
        } => {
            let items: Vec<CatalogueItem> = Control::of(&show)?.call("catalogue", &()).await?;
            output(&show, &items, |items| catalogue(items))
        }
        ModelCommand::Get {
            model,
            anyway,
            show,
        } => get(&Control::of(&show)?, &model, anyway).await,
        ModelCommand::Import { file, show } => {
            let path = std::path::absolute(&file).unwrap_or(file);
            import(&Control::of(&show)?, &path).await
        }
        ModelCommand::Use { model, show } => set_use(&Control::of(&show)?, &model, true).await,
        ModelCommand::Rest { model, show } => set_use(&Control::of(&show)?, &model, false).await,
        ModelCommand::Remove { model, show } => {
            let control = Control::of(&show)?;
            let path = find(&state(&control).await?, &model)?.path.clone();
            let _: AppState = control
                .call("delete_model", &ByPath { path: path.clone() })
                .await?;
            print(&format!("{path} is deleted"))
        }
    }
}

async fn state(control: &Control) -> Result<AppState, Fault> {
    control.call("state", &()).await
}

async fn set_use(control: &Control, model: &str, in_use: bool) -> Result<ExitCode, Fault> {
    let state = state(control).await?;
    let found = find(&state, model)?;
    let path = found.path.clone();
    let _: AppState = control
        .call("use_model", &UseModel { path, in_use })
        .await?;
    print(&format!(
        "{} {}",
        found.name,
        if in_use {
            "answers jobs"
        } else {
            "answers no more jobs"
        }
    ))
}

/// By path, or by its name where no other has it.
fn find<'a>(state: &'a AppState, model: &str) -> Result<&'a InstalledModel, Fault> {
    let path = std::path::absolute(model).unwrap_or_else(|_| model.into());
    let fits = |found: &&InstalledModel| {
        Path::new(&found.path) == path || found.name == model || file_name(&found.path) == model
    };
    let mut found = state.installed.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(found), None) => Ok(found),
        (Some(_), Some(_)) => Err(Fault::with_advice(
            &format!("several models are called {model}"),
            "nothing was changed",
            "name one by its path: `infera model list` shows them",
        )),
        (None, _) => Err(Fault::with_advice(
            &format!("there is no model {model} here"),
            "nothing was changed",
            "see `infera model list`",
        )),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

async fn get(control: &Control, model: &str, anyway: bool) -> Result<ExitCode, Fault> {
    let request = if model.contains("://") {
        DownloadRequest::Url {
            url: model.to_owned(),
        }
    } else {
        DownloadRequest::Catalogue {
            id: model.to_owned(),
        }
    };
    let mut state: AppState = control.call("download", &request).await?;
    let is_it = |id: &str, url: &str| match &request {
        DownloadRequest::Catalogue { id: asked } => id == asked,
        DownloadRequest::Url { url: asked } => url == asked,
    };
    let mut progress = Progress::new();
    if anyway
        && let Some(download) =
            (state.downloads.iter()).find(|download| is_it(&download.id, &download.url))
    {
        let id = download.id.clone();
        state = control.call("download_anyway", &ById { id }).await?;
    }
    loop {
        let download = state
            .downloads
            .iter()
            .find(|download| is_it(&download.id, &download.url));
        let Some(download) = download else { break };
        let total = download.total_bytes.unwrap_or(0);
        match &download.state {
            DownloadState::Failed { message, .. } => {
                progress.clear();
                return Err(Fault::with_advice(
                    message,
                    "the model is not here; what has come is kept",
                    "mend that and ask for it again",
                ));
            }
            DownloadState::Metered { message } => {
                progress.clear();
                return Err(Fault::with_advice(
                    message,
                    "the model is not here yet; what has come is kept",
                    "wait for another connection, or ask for it with --anyway",
                ));
            }
            DownloadState::Verifying { done_bytes } => {
                progress.show_bytes("Checking", *done_bytes, total);
            }
            DownloadState::Stalled { .. } => {
                progress.show_bytes("Waiting", download.done_bytes, total);
            }
            _ => progress.show_bytes("Downloading", download.done_bytes, total),
        }
        tokio::time::sleep(LOOK).await;
        state = self::state(control).await?;
    }
    progress.clear();
    print(&format!("{model} is here"))
}

async fn import(control: &Control, path: &Path) -> Result<ExitCode, Fault> {
    let Some(path) = path.to_str() else {
        return Err(Fault::with_advice(
            &format!("the path {} is not Unicode", path.display()),
            "nothing was copied",
            "rename the file or its folder",
        ));
    };
    let mut progress = Progress::new();
    let asked = json!({ "path": path });
    let copied = control.call_slowly::<AppState>("import_model", &asked);
    let mut copied = std::pin::pin!(copied);
    let state = loop {
        tokio::select! {
            state = &mut copied => break state,
            () = tokio::time::sleep(LOOK) => {
                if let Some(import) = state(control).await?.imports.first() {
                    progress.show_bytes("Copying", import.done_bytes, import.total_bytes.unwrap_or(0));
                }
            }
        }
    };
    progress.clear();
    state?;
    print(&format!("{} is here", file_name(path)))
}

fn installed(models: &[InstalledModel]) -> String {
    if models.is_empty() {
        return "There is no model here. `infera model list --available` shows what can be downloaded"
            .to_owned();
    }
    let mut rows = vec![row(["Model", "Size", "Context", "State", "Path"])];
    rows.extend(models.iter().map(|model| {
        let state = match (&model.fault, model.in_use) {
            (Some(fault), _) => fault.message.clone(),
            (None, true) => "answers jobs".to_owned(),
            (None, false) => fit(&model.fit).to_owned(),
        };
        row([
            &model.name,
            &megabytes(model.bytes),
            &model.context_tokens.to_string(),
            &state,
            &model.path,
        ])
    }));
    table(&rows, &[1, 2])
}

fn catalogue(items: &[CatalogueItem]) -> String {
    let mut rows = vec![row(["Model", "Size", "Context", "Licence", ""])];
    rows.extend(items.iter().map(|item| {
        let entry = &item.entry;
        let remark = match (item.installed, item.suggested) {
            (true, _) => "is here",
            (false, true) => "suggested for this machine",
            (false, false) => fit(&item.fit),
        };
        row([
            &entry.id,
            &megabytes(entry.bytes),
            &entry.context_tokens.to_string(),
            &entry.licence,
            remark,
        ])
    }));
    table(&rows, &[1, 2])
}

fn row(cells: [&str; 5]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

fn fit(fit: &Fit) -> &'static str {
    match fit {
        Fit::TooLarge { .. } => "too large for this device",
        _ => "fits this device",
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
