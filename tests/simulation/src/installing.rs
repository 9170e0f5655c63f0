//! Run Command and the installers it starts.

use std::collections::BTreeMap;

use espalier_domain::id::{Generation, InstanceId};
use espalier_domain::rotation::settle::{CommandSeen, InstallerCode};
use espalier_domain::work::DeliverItem;
use time::Duration;

use crate::host::{Agent, Ill};
use crate::oracle::Broken;
use crate::trouble::Trouble;
use crate::world::{Event, Stage, World};

/// A command and what became of it on each instance.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) generation: Generation,
    pub(crate) seen: BTreeMap<InstanceId, CommandSeen>,
}

impl World {
    /// Sends a command to an item's targets.
    pub(crate) fn send(&mut self, item: &DeliverItem) -> u32 {
        self.tally.commands += 1;
        let command = self.tally.commands;
        self.tell(|| format!("command {command}: generation {} to {:?}", item.generation, item.targets));
        self.commands.insert(command, Command { generation: item.generation, seen: BTreeMap::new() });
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
            Stage::Arrives => self.arrives(command, index, generation),
            Stage::Swaps => {
                if self.hosts[index].installing == Some(command) {
                    self.examine_swap(index, generation)?;
                    self.hosts[index].swap(generation);
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
                let code = self.hosts[index].reload(generation, taken);
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

    fn arrives(&mut self, command: u32, index: usize, generation: Generation) {
        if !self.hosts[index].listens() {
            // It may come back in time; after that the command is gone.
            let details = if self.dice.one_in(2) { "Delivery Timed Out" } else { "Undeliverable" };
            if self.hosts[index].agent == Agent::Deaf && self.dice.one_in(4) {
                return; // never answered at all
            }
            self.end(command, index, "TimedOut", details, String::new());
            return;
        }
        let Some(leaf) = self.ledger.generation(generation) else { return };
        let valid = (leaf.not_before, leaf.not_after);
        let reachable = !self.is_out(Trouble::ParametersOut) && !self.is_out(Trouble::Throttled);
        if let Some(code) = self.hosts[index].refuses(generation, valid, reachable, self.now) {
            self.answer(command, index, code);
            return;
        }
        self.hosts[index].installing = Some(command);
        let most = if self.hosts[index].slow { 500 } else { 6 };
        let fetch = Duration::seconds(i64::from(self.dice.between(1, most)));
        self.after(fetch, Event::Install { command, host: index, stage: Stage::Swaps });
    }

    /// The installer's last line.
    fn answer(&mut self, command: u32, index: usize, code: InstallerCode) {
        let good = matches!(code, InstallerCode::Installed | InstallerCode::Unchanged);
        let Some(generation) = self.commands.get(&command).map(|command| command.generation) else { return };
        let fingerprint = self.ledger.generation(generation).map_or("", |record| record.fingerprint.as_str());
        let line = format!(
            "{{\"espalier\":1,\"code\":\"{}\",\"stack\":\"payments\",\"generation\":{generation},\
             \"fingerprint\":\"{fingerprint}\",\"serial\":\"0\",\"detail\":\"\"}}\n",
            code.as_str()
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
