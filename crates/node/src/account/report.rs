//! What a node tells its owner of itself: in steps, so that it is not news every second.

use infera_protocol::account::{DeviceReport, MachineReport};

use super::Belonging;
use crate::clock::Clock;
use crate::state::{self, DeviceStatus};

/// What is told of a name; the balancer takes no more.
pub(crate) const LONGEST_NAME: usize = 64;
/// A rate that differs by less than this share of the one that was told is no news.
const NEWS: f32 = 0.2;

/// None for a node of no account.
pub(crate) fn report(
    belonging: &Belonging,
    devices: &[DeviceStatus],
    told: Option<&MachineReport>,
    clock: &dyn Clock,
) -> Option<MachineReport> {
    belonging.account?;
    let told = |index: usize| Some(told?.devices.get(index)?.tokens_per_second);
    let devices = devices.iter().enumerate().map(|(index, device)| {
        let rate = device.tokens_per_second.unwrap_or(0.0);
        DeviceReport {
            name: device.name.clone(),
            paused: paused(device, clock),
            tokens_per_second: in_steps(rate, told(index).unwrap_or(0.0)),
        }
    });
    Some(MachineReport {
        name: belonging.name.chars().take(LONGEST_NAME).collect(),
        software: crate::SOFTWARE.to_owned(),
        takes_commands: belonging.takes_commands,
        devices: devices.collect(),
    })
}

/// In the words that strangers hear: the balancer's operator can read them.
fn paused(device: &DeviceStatus, clock: &dyn Clock) -> Option<String> {
    if device.missing {
        return Some("It is not there".to_owned());
    }
    let reason = device.reason.as_ref()?;
    Some(state::in_public(reason, device.mode, clock))
}

/// The rate that was told, as long as it says about the same; else this one, in two digits.
fn in_steps(rate: f32, told: f32) -> f32 {
    // A sum of nothing, or of what is no number.
    if !rate.is_finite() || rate <= 0.0 {
        return 0.0;
    }
    if told > 0.0 && (rate - told).abs() <= told * NEWS {
        return told;
    }
    let digit = 10f32.powf(rate.log10().floor() - 1.0);
    let rounded = (rate / digit).round() * digit;
    if rounded.is_finite() { rounded } else { rate }
}

#[cfg(test)]
mod tests {
    use infera_protocol::AccountId;
    use proptest::prelude::*;

    use super::*;
    use crate::clock::SystemClock;
    use crate::governor::{Mode, Reason};

    proptest! {
        #[test]
        fn a_rate_is_told_about_right_and_seldom(rates in proptest::collection::vec(0.1f32..5000.0, 1..50)) {
            let mut told = 0.0;
            for rate in rates {
                let now = in_steps(rate, told);
                prop_assert!((now - rate).abs() <= rate * 0.3, "{rate} {now}");
                prop_assert!((in_steps(rate, now) - now).abs() < f32::EPSILON, "the same again is no news");
                told = now;
            }
        }
    }

    #[test]
    fn steps_as_a_table() {
        for (rate, told, now) in [
            (0.0, 40.0, 0.0),
            (f32::NAN, 40.0, 0.0),
            (-1.0, 40.0, 0.0),
            (42.3, 0.0, 42.0),
            (43.9, 42.0, 42.0),
            (51.0, 42.0, 51.0),
            (1234.0, 0.0, 1200.0),
            (0.123, 0.0, 0.12),
        ] {
            assert!((in_steps(rate, told) - now).abs() < 1e-3, "{rate} {told}");
        }
    }

    #[test]
    fn a_node_of_no_account_tells_nothing_and_names_are_bounded() {
        let device = DeviceStatus {
            id: "cpu".to_owned(),
            name: "Ryzen".to_owned(),
            missing: false,
            paused: true,
            mode: Mode::StopNow,
            reason: Some(Reason::Paused {
                until_ms: None,
                finishing: false,
            }),
            held: Vec::new(),
            seen: None,
            models: Vec::new(),
            jobs: 0,
            audits: 0,
            tokens_per_second: Some(12.0),
        };
        let mut belonging = Belonging {
            name: "ä".repeat(100),
            ..Belonging::default()
        };
        let devices = [device];
        assert_eq!(report(&belonging, &devices, None, &SystemClock), None);
        belonging.account = Some(AccountId::from_bytes([1; 32]));
        let told = report(&belonging, &devices, None, &SystemClock).unwrap();
        assert_eq!(told.name.chars().count(), LONGEST_NAME);
        assert_eq!(told.devices[0].paused.as_deref(), Some("Paused by you"));
        assert!(!told.takes_commands);
    }
}
