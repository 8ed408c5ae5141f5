//! Observers in places of a test's own.

use std::path::PathBuf;
use std::time::Duration;

use infera_surroundings::{Observers, Places, Surroundings, Wanted};

/// What has not come by then does not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Places in which nothing is, but this machine's processes.
pub(crate) fn nowhere() -> Places {
    let nothing = PathBuf::from("/nowhere");
    Places {
        session_bus: None,
        system_bus: None,
        x11: None,
        wayland: None,
        input_devices: nothing.clone(),
        power_supplies: nothing,
        processes: "/proc".into(),
        quiet_after: Duration::from_millis(300),
        first_pause: Duration::from_millis(50),
        sleep_delay: Duration::from_mins(1),
    }
}

/// Waits until it is so.
pub(crate) async fn until(observers: &mut Observers, is: impl Fn(&Surroundings) -> bool) {
    let came = async { observers.seen.wait_for(|seen| is(seen)).await.is_ok() };
    if !tokio::time::timeout(PATIENCE, came)
        .await
        .unwrap_or_default()
    {
        panic!("{:?}", *observers.seen.borrow());
    }
}

/// Wanted programs of these names.
pub(crate) fn programs(names: &[&str]) -> Wanted {
    Wanted {
        programs: names.iter().map(ToString::to_string).collect(),
        keep_awake: false,
        hurry: true,
    }
}
