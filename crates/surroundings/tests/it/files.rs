//! What the kernel tells by files: gamepads, free memory, and the end of it all.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use infera_surroundings::{Input, Observers, Wanted};

use crate::around::{nowhere, until};

/// A pipe that a gamepad's events are written into.
fn plug_in(folder: &Path, name: &str) -> File {
    let made = folder.join("being made");
    let device = folder.join(name);
    assert!(
        Command::new("mkfifo")
            .arg(&made)
            .status()
            .unwrap()
            .success()
    );
    let writer = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&made)
        .unwrap();
    std::fs::rename(&made, &device).unwrap();
    // As the system does when it knows who may use it.
    let rights = std::fs::metadata(&device).unwrap().permissions();
    std::fs::set_permissions(&device, rights).unwrap();
    writer
}

fn event(kind: u8, value: i16) -> [u8; 8] {
    let [low, high] = value.to_le_bytes();
    [0, 0, 0, 0, low, high, kind, 0]
}

#[tokio::test]
async fn gamepads_are_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = plug_in(folder.path(), "js0");
    let mut places = nowhere();
    places.input_devices = folder.path().to_owned();
    places.quiet_after = Duration::from_millis(1500);
    let mut observers = Observers::start_at(places, Wanted::default());
    until(&mut observers, |seen| seen.power.is_some()).await;
    first.write_all(&event(0x81, 0)).unwrap();
    let mut second = plug_in(folder.path(), "js1");
    assert_eq!(observers.seen.borrow().input, None);
    second.write_all(&event(1, 1)).unwrap();
    until(&mut observers, |seen| seen.input == Some(Input::Recent)).await;
    until(&mut observers, |seen| {
        matches!(seen.input, Some(Input::Quiet { .. }))
    })
    .await;
    first.write_all(&event(1, 0)).unwrap();
    until(&mut observers, |seen| seen.input == Some(Input::Recent)).await;
}

#[tokio::test]
async fn memory_is_told_in_steps() {
    let mut observers = Observers::start_at(nowhere(), Wanted::default());
    until(&mut observers, |seen| seen.available_memory_bytes.is_some()).await;
    let bytes = observers.seen.borrow().available_memory_bytes.unwrap();
    assert_eq!(bytes % (128 << 20), 0);
}

#[tokio::test]
async fn observers_end_when_they_are_dropped() {
    let observers = Observers::start_at(nowhere(), Wanted::default());
    let mut seen = observers.seen.clone();
    drop(observers);
    let ended = async { while seen.changed().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), ended)
        .await
        .unwrap();
}
