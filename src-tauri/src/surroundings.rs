//! What kind of desktop this is: its tray, its panel's colour, its driver.

use std::io;
use std::path::{Path, PathBuf};
#[cfg(target_os = "linux")]
use std::time::Duration;

use tauri::AppHandle;
#[cfg(target_os = "linux")]
use tauri::Manager;
use tokio::sync::watch;

/// The window is drawn by the processor: the GPU is for jobs, and a page of text and small charts
/// needs none. It also keeps graphics drivers out of a program that only shows its tray (33 MB less),
/// and halves the web view's memory. `WebKitGTK`'s own accelerated path shows a blank window with
/// NVIDIA's driver. What the person set stays. Must be called before any thread is started.
pub(crate) fn prepare_web_view() {
    let nvidia = Path::new("/sys/module/nvidia").exists();
    for (name, value, wanted) in [
        ("GDK_GL", "disable", true),
        ("WEBKIT_DISABLE_DMABUF_RENDERER", "1", nvidia),
    ] {
        if cfg!(target_os = "linux") && wanted && std::env::var_os(name).is_none() {
            // SAFETY: the caller has started no thread, so nothing reads the environment meanwhile.
            unsafe { std::env::set_var(name, value) };
        }
    }
}

/// Whether a tray icon can be made at all. Making one without the library would end the program.
#[cfg(target_os = "linux")]
pub(crate) fn has_tray_library() -> bool {
    ["libayatana-appindicator3.so.1", "libappindicator3.so.1"]
        .iter()
        // SAFETY: the tray is about to load the same library, whose initialisers need nothing.
        .any(|name| unsafe { libloading::Library::new(name) }.is_ok())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn has_tray_library() -> bool {
    true
}

/// What the system starts us by: an `AppImage` unpacks its program into another place each time.
#[cfg(target_os = "linux")]
pub(crate) fn program(app: &AppHandle) -> io::Result<PathBuf> {
    let image = app.env().appimage.map(PathBuf::from);
    image.map_or_else(std::env::current_exe, Ok)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn program(_: &AppHandle) -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Whether a panel shows tray icons right now.
#[cfg(target_os = "linux")]
pub(crate) async fn has_tray_host() -> bool {
    let ask = async {
        let connection = zbus::Connection::session().await?;
        let watcher = zbus::Proxy::new(
            &connection,
            "org.kde.StatusNotifierWatcher",
            "/StatusNotifierWatcher",
            "org.kde.StatusNotifierWatcher",
        )
        .await?;
        watcher
            .get_property::<bool>("IsStatusNotifierHostRegistered")
            .await
    };
    bus_answer(ask).await.unwrap_or(false)
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unused_async, reason = "it asks on Linux")]
pub(crate) async fn has_tray_host() -> bool {
    true
}

/// Follows the colour of the panel with the tray: true is dark.
#[cfg(target_os = "linux")]
pub(crate) fn panel_is_dark() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(true);
    let desktop = std::env::var("XDG_CURRENT_DESKTOP").unwrap_or_default();
    if !panel_is_always_dark(&desktop) {
        tauri::async_runtime::spawn(async move {
            if let Err(error) = follow_color_scheme(&sender).await {
                tracing::debug!(%error, "the desktop does not tell its colours");
            }
        });
    }
    receiver
}

/// macOS inks the icon itself; Windows' task bar is dark unless somebody changes that.
#[cfg(not(target_os = "linux"))]
pub(crate) fn panel_is_dark() -> watch::Receiver<bool> {
    watch::channel(true).1
}

/// These draw their panel dark whatever the applications' theme is.
#[cfg(any(target_os = "linux", test))]
fn panel_is_always_dark(desktop: &str) -> bool {
    desktop.split(':').any(|name| {
        matches!(
            name.to_ascii_lowercase().as_str(),
            "gnome" | "unity" | "pantheon" | "x-cinnamon"
        )
    })
}

#[cfg(target_os = "linux")]
async fn follow_color_scheme(sender: &watch::Sender<bool>) -> zbus::Result<()> {
    use futures_util::StreamExt as _;

    const NAMESPACE: &str = "org.freedesktop.appearance";
    const KEY: &str = "color-scheme";
    /// Two asks for light; anything else says nothing of the panel, and most are dark.
    const LIGHT: u32 = 2;
    let connection = zbus::Connection::session().await?;
    let settings = zbus::Proxy::new(
        &connection,
        "org.freedesktop.portal.Desktop",
        "/org/freedesktop/portal/desktop",
        "org.freedesktop.portal.Settings",
    )
    .await?;
    let mut changes = settings.receive_signal("SettingChanged").await?;
    let scheme: zbus::zvariant::OwnedValue = settings.call("ReadOne", &(NAMESPACE, KEY)).await?;
    sender.send_replace(u32::try_from(&scheme).is_ok_and(|scheme| scheme != LIGHT));
    while let Some(change) = changes.next().await {
        let body = change.body();
        let (namespace, key, value): (&str, &str, zbus::zvariant::Value<'_>) =
            body.deserialize()?;
        if (namespace, key) == (NAMESPACE, KEY) {
            sender.send_replace(u32::try_from(&value).is_ok_and(|scheme| scheme != LIGHT));
        }
    }
    Ok(())
}

/// A bus that does not answer soon is taken for one that knows nothing.
#[cfg(target_os = "linux")]
async fn bus_answer<T>(ask: impl Future<Output = zbus::Result<T>>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(1), ask)
        .await
        .ok()?
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn desktops_with_a_dark_panel() {
        assert!(panel_is_always_dark("GNOME"));
        assert!(panel_is_always_dark("ubuntu:GNOME"));
        assert!(!panel_is_always_dark("KDE"));
        assert!(!panel_is_always_dark(""));
    }
}
