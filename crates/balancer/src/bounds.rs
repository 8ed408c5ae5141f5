//! How large the calls of nodes may be, as a whole and in their parts: what a node says is kept,
//! and a stranger may say anything.

use infera_protocol::OutputBatch;
use infera_protocol::account::{
    AccountChallengeRequest, AccountSessionRequest, DeviceReport, FleetCommand, KeyRequest,
    LinkGrant, MachineReport, Ownership,
};
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, ChallengeRequest, Claim, Decline, InvitationRequest, JoinRequest,
    NodeState, Release, SessionRequest,
};
use infera_protocol::requirements::Hardware;

const SMALL: usize = 64 << 10;
/// 512 tokens, each with 20 alternatives of at most 40 bytes, are half of it.
const MEDIUM: usize = 1 << 20;
/// The vectors of 256 texts with 8192 values each are 11 MiB in base64, and the differences of a
/// whole context of 131,072 tokens 9 MiB.
const LARGE: usize = 16 << 20;
const MAX_MODELS: usize = 256;
const MAX_GPUS: usize = 64;
/// Bytes of a name that a system or a driver gives.
const MAX_NAME: usize = 512;
/// Bytes of a reason in words.
const MAX_REASON: usize = 1024;

/// A message from a node.
pub(crate) trait Bounded {
    /// The most bytes that its JSON may have.
    const MAX_BYTES: usize = SMALL;
    /// The same for a node that was given something whose result may be large.
    const LARGEST: usize = Self::MAX_BYTES;

    /// What is longer in it than it may be, if anything.
    fn excess(&self) -> Option<&'static str> {
        None
    }
}

impl Bounded for AccountChallengeRequest {}
impl Bounded for AccountSessionRequest {}
impl Bounded for ChallengeRequest {}
impl Bounded for FleetCommand {}
impl Bounded for KeyRequest {}
impl Bounded for LinkGrant {}
impl Bounded for Ownership {}
impl Bounded for InvitationRequest {}
impl Bounded for Claim {}
impl Bounded for AuditCommit {}

impl Bounded for OutputBatch {
    const MAX_BYTES: usize = MEDIUM;
    const LARGEST: usize = LARGE;
}

impl Bounded for AuditReveal {
    const LARGEST: usize = LARGE;

    fn excess(&self) -> Option<&'static str> {
        (self.report.backend.len() > MAX_NAME).then_some("backend")
    }
}

impl Bounded for JoinRequest {
    fn excess(&self) -> Option<&'static str> {
        (self.software.len() > MAX_NAME).then_some("software")
    }
}

impl Bounded for SessionRequest {
    fn excess(&self) -> Option<&'static str> {
        if self.software.len() > MAX_NAME {
            return Some("software");
        }
        hardware_excess(&self.hardware)
    }
}

impl Bounded for NodeState {
    fn excess(&self) -> Option<&'static str> {
        if self.models.len() > MAX_MODELS {
            Some("models")
        } else if self.context_tokens.len() > self.models.len() {
            Some("context_tokens")
        } else if self
            .paused
            .as_ref()
            .is_some_and(|reason| reason.len() > MAX_REASON)
        {
            Some("paused")
        } else {
            let report = self.report.as_ref().and_then(report_excess);
            report.or_else(|| hardware_excess(&self.hardware))
        }
    }
}

impl Bounded for Release {
    fn excess(&self) -> Option<&'static str> {
        (self.reason.len() > MAX_REASON).then_some("reason")
    }
}

impl Bounded for Decline {
    fn excess(&self) -> Option<&'static str> {
        (self.reason.len() > MAX_REASON).then_some("reason")
    }
}

fn report_excess(report: &MachineReport) -> Option<&'static str> {
    let MachineReport {
        name,
        software,
        takes_commands: _,
        devices,
    } = report;
    if name.len() > MAX_NAME || software.len() > MAX_NAME {
        return Some("report");
    }
    let long = |device: &DeviceReport| {
        let reason = device.paused.as_ref();
        device.name.len() > MAX_NAME || reason.is_some_and(|reason| reason.len() > MAX_REASON)
    };
    (devices.len() > MAX_GPUS || devices.iter().any(long)).then_some("report.devices")
}

fn hardware_excess(hardware: &Hardware) -> Option<&'static str> {
    let long = |text: &String| text.len() > MAX_NAME;
    if long(&hardware.os) {
        Some("hardware.os")
    } else if long(&hardware.cpu) {
        Some("hardware.cpu")
    } else if hardware.gpus.len() > MAX_GPUS
        || hardware.gpus.iter().any(|gpu| {
            long(&gpu.name)
                || long(&gpu.api)
                || long(&gpu.driver)
                || gpu.pci_id.as_ref().is_some_and(long)
        })
    {
        Some("hardware.gpus")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use infera_protocol::ModelId;
    use infera_protocol::requirements::{Gpu, GpuKind};

    use super::*;

    fn state() -> NodeState {
        let gpu = Gpu {
            name: "x".repeat(MAX_NAME),
            kind: GpuKind::Other,
            api: String::new(),
            driver: String::new(),
            pci_id: None,
            vram_bytes: None,
        };
        let device = DeviceReport {
            name: "d".repeat(MAX_NAME),
            paused: Some("p".repeat(MAX_REASON)),
            tokens_per_second: 1.0,
        };
        NodeState {
            models: vec![ModelId::from_bytes([1; 32]); MAX_MODELS],
            context_tokens: Vec::new(),
            free_slots: 1,
            paused: Some("p".repeat(MAX_REASON)),
            hardware: Hardware {
                gpus: vec![gpu; 8],
                ..Hardware::default()
            },
            report: Some(MachineReport {
                name: "n".repeat(MAX_NAME),
                software: "s".repeat(MAX_NAME),
                takes_commands: true,
                devices: vec![device; 8],
            }),
        }
    }

    #[test]
    fn the_largest_honest_state_fits_and_every_part_has_a_bound() {
        let fits = state();
        assert_eq!(fits.excess(), None);
        assert!(serde_json::to_vec(&fits).unwrap().len() <= NodeState::MAX_BYTES);
        let long = || "x".repeat(MAX_REASON + 1);
        let mut wrong = [(); 10].map(|()| state());
        wrong[0].models.push(ModelId::from_bytes([1; 32]));
        wrong[1].context_tokens = vec![1; MAX_MODELS + 1];
        wrong[2].paused = Some(long());
        wrong[3].hardware.os = long();
        wrong[4].hardware.cpu = long();
        wrong[5].hardware.gpus[0].driver = long();
        wrong[6].hardware.gpus = vec![state().hardware.gpus[0].clone(); MAX_GPUS + 1];
        wrong[7].report.as_mut().unwrap().name = long();
        wrong[8].report.as_mut().unwrap().devices[0].paused = Some(long());
        let devices = &mut wrong[9].report.as_mut().unwrap().devices;
        *devices = vec![devices[0].clone(); MAX_GPUS + 1];
        let told: Vec<_> = wrong.iter().map(Bounded::excess).collect();
        assert_eq!(
            told,
            [
                Some("models"),
                Some("context_tokens"),
                Some("paused"),
                Some("hardware.os"),
                Some("hardware.cpu"),
                Some("hardware.gpus"),
                Some("hardware.gpus"),
                Some("report"),
                Some("report.devices"),
                Some("report.devices")
            ]
        );
    }
}
