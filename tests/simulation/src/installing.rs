//! Run Command and the installers it starts.

use std::collections::BTreeMap;

use espalier_domain::id::{Generation, TargetId};
use espalier_domain::rotation::settle::{CommandSeen, InstallerCode};
use espalier_domain::work::{DeliverItem, DeliveryAction};
use time::{Duration, OffsetDateTime};

use crate::host::{Agent, Ill};
use crate::oracle::{Broken, KEPT, hold};
use crate::trouble::Trouble;
use crate::world::{Event, Stage, World};

/// A command and what became of it on each instance.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) generation: Generation,
    pub(crate) action: DeliveryAction,
    pub(crate) confirm: Duration,
    pub(crate) margin: Duration,
    pub(crate) seen: BTreeMap<TargetId, CommandSeen>,
}

impl World {
    /// Sends a command to an item's targets.
    pub(crate) fn send(&mut self, item: &DeliverItem) -> u32 {
        self.tally.commands += 1;
        let command = self.tally.commands;
        self.tell(|| {
            format!("command {command}: {:?} generation {} to {:?}", item.action, item.generation, item.targets)
        });
        let sent = Command {
            generation: item.generation,
            action: item.action,
            confirm: Duration::seconds(i64::from(item.confirm_s)),
            margin: Duration::hours(i64::from(item.margin_hours)),
            seen: BTreeMap::new(),
        };
        self.commands.insert(command, sent);
        for target in &item.targets {
            let Some(host) = self.hosts.iter().position(|host| host.id == *target) else { continue };
            let delay = Duration::seconds(1 + i64::from(self.dice.roll(item.window_s + 2)));
            self.after(delay, Event::Install { command, host, stage: Stage::Arrives });
        }
        command
    }

    pub(crate) fn install(&mut self, command: u32, index: usize, stage: Stage) -> Result<(), Broken> {
        let Some(generation) = self.commands.get(&command).map(|command| command.generation) else { return Ok(()) };
        match stage {
            Stage::Arrives => self.arrives(command, index, generation)?,
            Stage::Swaps => {
                if self.hosts[index].installing == Some(command) {
                    self.examine_swap(index, generation)?;
                    self.hosts[index].swap(generation);
                    // Written down before the swap: it holds for what is interrupted, too.
                    if let Some(until) = self.until(command, index) {
                        self.arm(index, until);
                    }
                    if !self.calm && self.dice.one_in(25) {
                        self.tally.meet(Trouble::HalfDone);
                        self.tell(|| format!("host {} goes away half-way", index + 1));
                        self.hosts[index].stop();
                        let now = self.now;
                        self.hosts[index].start(now);
                        self.arrive(index);
                    }
                }
                let reload = Duration::seconds(i64::from(self.dice.between(1, 14)));
                self.after(reload, Event::Install { command, host: index, stage: Stage::Reloads });
            }
            Stage::Reloads => {
                // Who was interrupted answers nothing; Run Command gives up in time.
                if self.hosts[index].installing != Some(command) {
                    let event = Event::Install { command, host: index, stage: Stage::TimesOut };
                    self.after(Duration::seconds(600), event);
                    return Ok(());
                }
                let taken = self.rejected != Some(generation);
                let was_good = self.accepts(index);
                let until = self.until(command, index);
                let code = self.hosts[index].reload(generation, taken, until);
                if code == InstallerCode::Armed {
                    self.armed(index);
                }
                self.examine_reload(index, was_good)?;
                self.answer(command, index, code);
            }
            Stage::TimesOut => {
                let details = if self.dice.one_in(2) { "Terminated" } else { "Execution Timed Out" };
                self.end(command, index, "TimedOut", details, String::new());
            }
        }
        Ok(())
    }

    fn arrives(&mut self, command: u32, index: usize, generation: Generation) -> Result<(), Broken> {
        if !self.hosts[index].listens() {
            // It may come back in time; after that the command is gone.
            let details = if self.dice.one_in(2) { "Delivery Timed Out" } else { "Undeliverable" };
            if self.hosts[index].agent == Agent::Deaf && self.dice.one_in(4) {
                return Ok(()); // never answered at all
            }
            self.end(command, index, "TimedOut", details, String::new());
            return Ok(());
        }
        let Some(leaf) = self.ledger.generation(generation) else { return Ok(()) };
        let valid = (leaf.not_before, leaf.not_after);
        let reachable = !self.is_out(Trouble::ParametersOut) && !self.is_out(Trouble::Throttled);
        if self.commands.get(&command).is_some_and(|command| command.action == DeliveryAction::Confirm) {
            let code = self.confirm(index, generation);
            self.answer(command, index, code);
            return Ok(());
        }
        if self.commands.get(&command).is_some_and(|command| command.action == DeliveryAction::Prepare) {
            let code = self.prepare(index, generation);
            self.answer(command, index, code);
            return Ok(());
        }
        if let Some(mut code) = self.hosts[index].refuses(generation, valid, reachable, self.now) {
            if code == InstallerCode::Unchanged {
                let until = self.until(command, index);
                self.hosts[index].keep(generation, until);
                if until.is_some() {
                    code = InstallerCode::Armed;
                    self.armed(index);
                }
            }
            self.answer(command, index, code);
            return Ok(());
        }
        if !self.has_key(index, generation) {
            self.answer(command, index, InstallerCode::NoKey);
            return Ok(());
        }
        let is_there = self.ledger.discarded.iter().all(|gone| gone.generation != generation);
        hold(is_there, KEPT, || format!("generation {generation} by command {command} at host {}", index + 1))?;
        self.hosts[index].installing = Some(command);
        let most = if self.hosts[index].slow { 500 } else { 6 };
        let fetch = Duration::seconds(i64::from(self.dice.between(1, most)));
        self.after(fetch, Event::Install { command, host: index, stage: Stage::Swaps });
        Ok(())
    }

    fn confirm(&mut self, index: usize, generation: Generation) -> InstallerCode {
        let host = &mut self.hosts[index];
        if !host.consents {
            InstallerCode::NotOptedIn
        } else if host.installing.is_some() || host.ill == Ill::Busy {
            InstallerCode::Busy
        } else {
            host.confirm(generation)
        }
    }

    /// Until when the host would wait for a confirmation; not at all where nothing good is there to go back to.
    fn until(&self, command: u32, index: usize) -> Option<OffsetDateTime> {
        let command = self.commands.get(&command).filter(|command| command.confirm > Duration::ZERO)?;
        let is_new = self.hosts[index].floor < Some(command.generation);
        let until = self.now + command.confirm;
        (is_new && self.outlasts(index, until + command.margin)).then_some(until)
    }

    /// Whether the pair of before was confirmed there and lasts until then.
    fn outlasts(&self, index: usize, until: OffsetDateTime) -> bool {
        let host = &self.hosts[index];
        let before = host.before.filter(|before| Some(*before) <= host.floor);
        before.and_then(|before| self.ledger.generation(before)).is_some_and(|leaf| leaf.not_after > until)
    }

    fn arm(&mut self, index: usize, until: OffsetDateTime) {
        self.hosts[index].deadline = Some(until);
        self.after(until - self.now, Event::Expires { host: index, at: until });
    }

    /// The host waits for a confirmation from here on, and may do so in vain.
    fn armed(&mut self, index: usize) {
        if let Some(until) = self.hosts[index].deadline {
            self.arm(index, until);
        }
        if !self.calm && self.dice.one_in(8) {
            self.tally.meet(Trouble::Vanished);
            let minutes = self.dice.between(5, 240);
            self.gone_until = self.now + Duration::minutes(i64::from(minutes));
            self.well_since = self.gone_until;
            self.tell(|| format!("the control plane is gone for {minutes} minutes"));
        }
    }

    /// A host's deadline: what nobody has confirmed is taken back, unless that would be a step down.
    pub(crate) fn expires(&mut self, index: usize, at: OffsetDateTime) -> Result<(), Broken> {
        let host = &self.hosts[index];
        if host.deadline != Some(at) {
            return Ok(());
        }
        if !host.runs || host.installing.is_some() {
            // At the next boot, or when the installation is over.
            self.after(Duration::minutes(1), Event::Expires { host: index, at });
            return Ok(());
        }
        if host.disk <= host.floor {
            self.hosts[index].deadline = None;
            return Ok(());
        }
        if !self.outlasts(index, self.now + self.policy.safety_margin()) {
            self.tell(|| format!("host {} keeps what nobody confirmed", index + 1));
            self.hosts[index].deadline = None;
            return Ok(());
        }
        self.tally.went_back += 1;
        self.tell(|| format!("host {} goes back by itself", index + 1));
        let was_good = self.accepts(index);
        self.hosts[index].go_back();
        self.examine_reload(index, was_good)?;
        self.examine_going_back(index)
    }

    /// The installer's last line.
    fn answer(&mut self, command: u32, index: usize, code: InstallerCode) {
        let good = matches!(
            code,
            InstallerCode::Installed
                | InstallerCode::Unchanged
                | InstallerCode::Armed
                | InstallerCode::Confirmed
                | InstallerCode::Prepared
        );
        let Some(generation) = self.commands.get(&command).map(|command| command.generation) else { return };
        let request = self.request(index, generation, code);
        let fingerprint = self.ledger.fingerprint(&self.hosts[index].id, generation).unwrap_or_default();
        let line = format!(
            "{{\"espalier\":1,\"code\":\"{}\",\"stack\":\"{}\",\"generation\":{generation},\
             \"fingerprint\":\"{fingerprint}\",\"serial\":\"0\",\"detail\":\"\"{request}}}\n",
            code.as_str(),
            self.policy.stack
        );
        let babbles = self.hosts[index].ill == Ill::Babbles;
        let output = if babbles { format!("{line}and then some\n") } else { line };
        let status = if good { "Success" } else { "Failed" };
        self.end(command, index, status, status, output);
    }

    fn end(&mut self, command: u32, index: usize, status: &str, details: &str, output: String) {
        self.tell(|| {
            format!("command {command} on host {}: {details} {}", index + 1, output.get(13..40).unwrap_or(""))
        });
        let seen = CommandSeen { status: status.into(), status_details: details.into(), output };
        let id = self.hosts[index].id.clone();
        if let Some(command) = self.commands.get_mut(&command) {
            command.seen.insert(id, seen);
        }
        self.hint();
    }
}
