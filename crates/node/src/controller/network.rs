//! The balancer: its session's events, and what the node asks it for now and then.

use std::time::Duration;

use infera_protocol::ModelId;
use infera_protocol::node_api::{ModelOffer, Network, NodeEvent, Points, Session};
use infera_protocol::requirements::Policy;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Controller, Input, LOOK_AROUND};
use crate::balancer_link::LinkError;
use crate::books::JobRow;
use crate::session::SessionEvent;
use crate::state::Connection;
use crate::store::AttemptKey;

/// The network's speed as it was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SpeedMeasured {
    balancer: String,
    bytes_per_second: Option<u64>,
    measured_ms: i64,
}

/// The network as far as it is known.
pub(super) struct NetworkView {
    pub(super) connection: Connection,
    /// The node re-scores other nodes' outputs instead of taking jobs.
    pub(super) reference: bool,
    pub(super) policy: Option<Policy>,
    pub(super) served: Option<Vec<ModelOffer>>,
    served_asked: Instant,
    pub(super) points: Option<Points>,
    points_in_flight: bool,
    points_outdated: bool,
    speed: Option<SpeedMeasured>,
    speed_in_flight: bool,
}

pub(super) const SPEED_SETTING: &str = "network_speed";
const SPEED_TEST_BYTES: u64 = 8 << 20;
const SPEED_VALID_MS: i64 = 24 * 3_600_000;
/// Too slow may have been bad luck: it is not held against the machine for a day.
const SLOW_SPEED_VALID_MS: i64 = 10 * 60_000;
const HISTORY_FETCHED: u32 = 200;
/// What the network serves is asked for again after so long. No event tells that a model is gone.
const SERVED_VALID: Duration = Duration::from_mins(10);

impl NetworkView {
    pub(super) fn new(speed: Option<SpeedMeasured>, now: Instant) -> Self {
        Self {
            connection: Connection::Connecting,
            reference: false,
            policy: None,
            served: None,
            served_asked: now,
            points: None,
            points_in_flight: false,
            points_outdated: false,
            speed,
            speed_in_flight: false,
        }
    }
}

impl Controller {
    /// While nothing may be shared there is no session, but the person is to see the rules of the
    /// network that they chose, and whether it is there.
    pub(super) fn ask_network(&mut self) {
        let Some(balancer) = self.edges.balancer.as_ref() else {
            return;
        };
        if self.config.hold.is_none() {
            return;
        }
        let answer = balancer.network();
        self.report(async move { Input::Network(answer.await.map(Box::new)) });
    }

    pub(super) fn on_network(&mut self, answer: Result<Box<Network>, LinkError>) {
        match answer {
            Ok(network) => {
                self.network.connection = Connection::Connecting;
                self.network.policy = Some(network.policy);
                self.network.served = Some(network.models);
            }
            Err(error) => {
                self.network.connection = Connection::Disconnected {
                    reason: error.reason(),
                    retry_at_ms: self.now_ms() + LOOK_AROUND.as_millis() as i64,
                };
            }
        }
    }

    pub(super) fn on_session(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Opened(session) => self.on_opened(&session),
            SessionEvent::Resumed => {
                tracing::info!("the balancer can be reached again");
                self.connected();
                self.refresh();
            }
            SessionEvent::Received(event) => self.on_event(event),
            SessionEvent::Lost {
                reason,
                turned_away,
                retry_in,
            } => {
                let retry_at_ms = self.now_ms() + retry_in.as_millis() as i64;
                self.network.connection = if let Some(why) = turned_away {
                    tracing::warn!(
                        %reason,
                        ?retry_in,
                        "the balancer does not take this node now"
                    );
                    Connection::TurnedAway { why, retry_at_ms }
                } else {
                    tracing::warn!(%reason, ?retry_in, "the balancer cannot be reached");
                    Connection::Disconnected {
                        reason,
                        retry_at_ms,
                    }
                };
            }
            SessionEvent::Refused(message) => {
                tracing::error!(message, "the balancer refuses this program");
                self.network.connection = Connection::Refused { message };
            }
        }
    }

    fn on_opened(&mut self, session: &Session) {
        tracing::info!(
            reference = session.reference,
            policy = session.policy.name,
            "connected"
        );
        self.network.reference = session.reference;
        self.connected();
        self.network.policy = Some(session.policy.clone());
        self.outlets
            .session_timeout
            .send_replace(Duration::from_millis(session.timeout_ms.max(300)));
        self.refresh();
    }

    fn connected(&mut self) {
        self.network.connection = Connection::Connected {
            reference: self.network.reference,
        };
    }

    fn on_event(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Offer(offer) => {
                if !self.lists(offer.model) {
                    self.refresh_models();
                }
                self.on_offer(offer);
            }
            NodeEvent::Withdrawn { job, attempt } => self.on_withdrawn(AttemptKey { job, attempt }),
            NodeEvent::Cancel { job, attempt } => self.on_cancel(AttemptKey { job, attempt }),
            NodeEvent::Audit {
                audit,
                model,
                tokens,
                deadline_ms,
            } => self.on_audit(audit, model, tokens, Duration::from_millis(deadline_ms)),
            NodeEvent::Reveal { audit } => self.on_reveal(audit),
            NodeEvent::Settled(record) => {
                let store = self.store.clone();
                let row = JobRow::told(record, self.edges.balancer_url());
                self.remember(async move { store.record(row).await });
                self.refresh_points();
            }
            NodeEvent::Command(command) => self.on_command(command),
            NodeEvent::Reset => self.refresh(),
        }
    }

    /// Asks for everything that events would have told.
    fn refresh(&mut self) {
        self.refresh_points();
        self.refresh_models();
        self.measure_speed();
        self.offer_reports();
        let (caller, store) = (self.caller.clone(), self.store.clone());
        let network = self.edges.balancer_url().to_owned();
        self.remember(async move {
            let history = caller.once(|link, token| link.history(token, HISTORY_FETCHED));
            match history.await {
                Ok(records) => {
                    for record in records {
                        store.record(JobRow::told(record, &network)).await?;
                    }
                }
                Err(error) => tracing::debug!(%error, "the history could not be fetched"),
            }
            Ok(())
        });
    }

    /// What is asked for again while the session lasts.
    pub(super) fn refresh_if_needed(&mut self) {
        if !matches!(self.network.connection, Connection::Connected { .. }) {
            return;
        }
        let unserved = self
            .slots
            .iter()
            .any(|slot| slot.is_served(self.network.served.as_deref()) == Some(false));
        let outdated = self.network.served_asked.elapsed() >= SERVED_VALID;
        if unserved || outdated || self.network.served.is_none() {
            self.refresh_models();
        }
        if self.network.points.is_none() {
            self.refresh_points();
        }
        self.measure_speed();
    }

    /// Whether the network serves a model, as far as the node has heard.
    fn lists(&self, model: ModelId) -> bool {
        let served = self.network.served.as_deref().unwrap_or_default();
        served.iter().any(|offer| offer.model == model)
    }

    fn refresh_models(&mut self) {
        self.network.served_asked = Instant::now();
        let (caller, input) = (self.caller.clone(), self.input.clone());
        self.remember(async move {
            match caller.once(|link, token| link.models(token)).await {
                Ok(models) => _ = input.send(Input::Models(models)),
                Err(error) => tracing::debug!(%error, "the models could not be fetched"),
            }
            Ok(())
        });
    }

    /// One call at a time; what changes meanwhile is asked for with the next.
    fn refresh_points(&mut self) {
        if std::mem::replace(&mut self.network.points_in_flight, true) {
            self.network.points_outdated = true;
            return;
        }
        self.network.points_outdated = false;
        let caller = self.caller.clone();
        self.report(
            async move { Input::Points(caller.once(|link, token| link.points(token)).await) },
        );
    }

    pub(super) fn on_points(&mut self, points: Result<Points, LinkError>) {
        self.network.points_in_flight = false;
        match points {
            Ok(points) => self.network.points = Some(points),
            Err(error) => tracing::debug!(%error, "the points could not be fetched"),
        }
        if self.network.points_outdated {
            self.refresh_points();
        }
    }

    /// Once a day, and only where the network asks for a speed.
    fn measure_speed(&mut self) {
        let wanted = self
            .network
            .policy
            .as_ref()
            .is_some_and(|policy| policy.network_bytes_per_second.is_some());
        if !wanted || self.valid_speed().is_some() || self.network.speed_in_flight {
            return;
        }
        self.network.speed_in_flight = true;
        let (caller, store, clock) = (
            self.caller.clone(),
            self.store.clone(),
            self.edges.clock.clone(),
        );
        let balancer = self.edges.balancer_url().to_owned();
        self.report(async move {
            let rate = caller
                .once(|link, token| link.speed_test(token, SPEED_TEST_BYTES))
                .await;
            let speed = SpeedMeasured {
                balancer,
                bytes_per_second: rate.as_ref().ok().copied(),
                measured_ms: clock.now_ms(),
            };
            match rate {
                Ok(_) => {
                    if let Err(error) = store.set_setting(SPEED_SETTING, &speed).await {
                        tracing::warn!(%error, "the measured speed is not kept");
                    }
                }
                Err(error) => tracing::debug!(%error, "the network's speed could not be measured"),
            }
            Input::Speed(speed)
        });
    }

    pub(super) fn on_speed(&mut self, speed: SpeedMeasured) {
        self.network.speed_in_flight = false;
        if speed.bytes_per_second.is_none() {
            return;
        }
        self.network.speed = Some(speed);
        if let Some(hardware) = &mut self.hardware {
            hardware.network_bytes_per_second = self
                .network
                .speed
                .as_ref()
                .and_then(|speed| speed.bytes_per_second);
            self.outlets.hardware.send_replace(hardware.clone());
        }
    }

    /// What is known of the speed, also if it was measured days ago.
    pub(super) fn speed_now(&self) -> Option<u64> {
        self.network
            .speed
            .as_ref()
            .filter(|speed| speed.balancer == self.edges.balancer_url())
            .and_then(|speed| speed.bytes_per_second)
    }

    fn valid_speed(&self) -> Option<&SpeedMeasured> {
        let now = self.now_ms();
        let need = self
            .network
            .policy
            .as_ref()
            .and_then(|policy| policy.network_bytes_per_second);
        self.network.speed.as_ref().filter(|speed| {
            let valid_ms = if speed.bytes_per_second < need {
                SLOW_SPEED_VALID_MS
            } else {
                SPEED_VALID_MS
            };
            speed.balancer == self.edges.balancer_url()
                && (speed.measured_ms..speed.measured_ms + valid_ms).contains(&now)
        })
    }
}
