//! What the command-line programs share about the terminal they run in: its colours, and its end.

use std::future::Future;
use std::io::IsTerminal;

use futures_util::future::{BoxFuture, select_all};

/// Whether colours may be written to a stream: to a person who has not asked for none.
pub fn has_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Ends when the process is asked to end, from this call on: by Ctrl-C, by the signal that services
/// are ended with, or by the end of its terminal.
pub fn end_asked() -> impl Future<Output = ()> {
    let mut asked: Vec<BoxFuture<'static, ()>> = Vec::new();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        // Whoever has it ignored, as `nohup` does, wants the program to outlive the terminal.
        if !is_hangup_ignored() {
            kinds.push(SignalKind::hangup());
        }
        for mut signal in kinds.into_iter().filter_map(|kind| signal(kind).ok()) {
            asked.push(Box::pin(async move { _ = signal.recv().await }));
        }
    }
    #[cfg(windows)]
    {
        use tokio::signal::windows::{ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown};
        if let Ok(mut event) = ctrl_c() {
            asked.push(Box::pin(async move { _ = event.recv().await }));
        }
        // The console gives some seconds for what follows.
        if let Ok(mut event) = ctrl_close() {
            asked.push(Box::pin(async move { _ = event.recv().await }));
        }
        if let Ok(mut event) = ctrl_logoff() {
            asked.push(Box::pin(async move { _ = event.recv().await }));
        }
        if let Ok(mut event) = ctrl_shutdown() {
            asked.push(Box::pin(async move { _ = event.recv().await }));
        }
    }
    async move {
        if asked.is_empty() {
            // Without a handler the process ends by the signal itself.
            return std::future::pending().await;
        }
        select_all(asked).await;
    }
}

#[cfg(unix)]
fn is_hangup_ignored() -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only writes the present one, to memory of its type.
    let asked = unsafe { libc::sigaction(libc::SIGHUP, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: the call has written it where it succeeded.
    asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}
