//! What the node's account tells it from afar. The balancer only carries it: whether it is done is
//! decided here.

use infera_protocol::FleetCommand;
use infera_protocol::account::FleetAction;

use super::{Controller, Input};
use crate::account::{CommandOutcome, CommandSeen};

/// Kept, so that nothing is done again after a restart.
pub(super) const LAST_SETTING: &str = "last_command_ms";

impl Controller {
    pub(super) fn on_command(&mut self, command: FleetCommand) {
        let Some(account) = self.edges.around.belonging.borrow().account else {
            tracing::debug!("a command from afar came for a machine of no account");
            return;
        };
        let checked = command.check(
            &account,
            &self.key.id(),
            self.last_command_ms,
            self.now_ms(),
        );
        if let Err(fault) = checked {
            self.saw(&command, fault.into());
            return;
        }
        self.last_command_ms = command.made_ms;
        let store = self.store.clone();
        self.report(async move {
            match store.set_setting(LAST_SETTING, &command.made_ms).await {
                Ok(()) => Input::CommandKept(command),
                // It could be played again: it is not done.
                Err(error) => Input::StorageFault(error),
            }
        });
    }

    /// One that is not allowed was kept too: allowing commands must not bring it back.
    pub(super) fn on_command_kept(&mut self, command: &FleetCommand) {
        if !self.edges.around.belonging.borrow().takes_commands {
            self.saw(command, CommandOutcome::NotAllowed);
            return;
        }
        self.saw(command, CommandOutcome::Done);
        match command.action {
            FleetAction::Pause => self.pause(None, false),
            FleetAction::Snooze { until_ms } => self.pause(Some(until_ms), false),
            FleetAction::Resume => self.resume(),
        }
    }

    fn saw(&mut self, command: &FleetCommand, outcome: CommandOutcome) {
        let seen = CommandSeen {
            at_ms: self.now_ms(),
            account: command.account,
            action: command.action,
            outcome,
        };
        let sentence = seen.sentence();
        if outcome == CommandOutcome::Done {
            tracing::info!("{sentence}");
        } else {
            tracing::warn!("{sentence}");
        }
        self.command = Some(seen);
        self.outlets.published = None;
    }
}
