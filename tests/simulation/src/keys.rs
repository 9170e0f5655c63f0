//! Fleets in which each target makes its key itself: what hosts answer when they are told to, what of it is signed, and who
//! loses a key before its leaf has come.

use espalier_domain::id::{Generation, Scope, TargetId};
use espalier_domain::record::AttemptEnd;
use espalier_domain::rotation::settle::{self, InstallerCode, REQUEST_LOST, REQUEST_REFUSED};
use espalier_domain::spec::Custody;
use espalier_domain::work::MintItem;
use time::Duration;

use crate::trouble::Trouble;
use crate::world::{Event, World};

/// How often somebody meddles: often, since a key that is not installed yet lives for seconds.
const HOURS: (u32, u32) = (2, 12);

/// Run Command forgets what was said after this long (Systems Manager user guide, 30 days).
const FORGOTTEN: Duration = Duration::days(30);

pub(crate) fn foresee(world: &mut World) {
    let hours = world.dice.between(HOURS.0, HOURS.1);
    world.after(Duration::hours(i64::from(hours)), Event::KeysMeddled);
}

impl World {
    pub(crate) fn meddle_with_keys(&mut self) {
        if self.calm {
            return;
        }
        foresee(self);
        match self.dice.roll(5) {
            0 => self.change_custody(),
            1 | 2 => self.lose_keys(),
            _ => self.rave(),
        }
    }

    /// The spec asks for keys from the control plane, or for keys made on the targets again; or for one leaf for all.
    fn change_custody(&mut self) {
        self.tally.meet(Trouble::CustodyChanged);
        let is_own = self.policy.custody == Custody::Target;
        self.policy.custody = if is_own { Custody::ParameterStore } else { Custody::Target };
        self.policy.scope = if is_own && self.dice.one_in(3) { Scope::shared() } else { Scope::target() };
        self.tell(|| format!("the spec asks for keys that are made on the targets: {}", !is_own));
        self.hint();
    }

    /// What the host has made and not installed yet is gone; in most lives that is to come.
    fn lose_keys(&mut self) {
        let index = usize::try_from(self.dice.roll(self.size())).unwrap_or_default();
        self.tally.meet(Trouble::KeyLost);
        self.tell(|| format!("host {} loses the keys that it has made", index + 1));
        self.hosts[index].keys.clear();
        // So that it hurts: whoever has just said that its key is there is asked for a leaf with it.
        self.hosts[index].forgets = true;
        self.hosts[index].well_since = self.now;
    }

    /// What a host says next of its key is nonsense, or Run Command forgets it.
    fn rave(&mut self) {
        let index = usize::try_from(self.dice.roll(self.size())).unwrap_or_default();
        self.tally.meet(Trouble::RequestSpoilt);
        let is_unheard = self.dice.one_in(3);
        let host = &mut self.hosts[index];
        (host.raves, host.unheard) = (host.raves || !is_unheard, host.unheard || is_unheard);
        host.well_since = self.now;
    }

    /// A host is told to make its key; what is there already stays.
    pub(crate) fn prepare(&mut self, index: usize, generation: Generation) -> InstallerCode {
        if let Some(code) = self.hosts[index].prepares_not(generation) {
            return code;
        }
        self.tally.keys += 1;
        let key = self.tally.keys;
        let host = &mut self.hosts[index];
        host.keys.retain(|older, _| *older >= generation);
        host.keys.entry(generation).or_insert(key);
        InstallerCode::Prepared
    }

    /// What the last line says of the request: the key's number stands for it.
    pub(crate) fn request(&mut self, index: usize, generation: Generation, code: InstallerCode) -> String {
        if code != InstallerCode::Prepared {
            return String::new();
        }
        let host = &mut self.hosts[index];
        let key = host.keys.get(&generation).copied().unwrap_or_default();
        let raves = std::mem::take(&mut host.raves);
        if std::mem::take(&mut host.forgets) {
            host.keys.clear();
        }
        format!(",\"request\":\"{}\"", if raves { "?".to_owned() } else { key.to_string() })
    }

    /// Whether the host has the private half of what a generation is to it.
    pub(crate) fn has_key(&self, index: usize, generation: Generation) -> bool {
        let host = &self.hosts[index];
        let certified = self.ledger.certified.get(&(host.id.clone(), generation));
        certified.is_none_or(|key| host.keys.get(&generation) == Some(key) || host.disk == Some(generation))
    }

    /// Whether a target's leaf may be signed: where it makes its key itself, only with what it said to the command that the ledger
    /// knows (`functions/mint/src/request.rs`).
    pub(crate) fn is_signed(&mut self, item: &MintItem, at: usize, key: &(TargetId, Generation)) -> bool {
        let is_own = self.ledger.generation(item.generation).is_some_and(|known| known.custody == Custody::Target);
        if !is_own {
            return true;
        }
        let Some(asked) = item.requests.get(at) else { return false };
        let name = (asked.target.clone(), item.generation, asked.attempt);
        let prepared = self
            .ledger
            .attempts
            .get(&name)
            .filter(|record| record.ended.as_ref().is_some_and(|end| end.code == InstallerCode::Prepared.as_str()));
        let Some(attempt) = prepared else { return false };
        let fresh = (self.now - attempt.begun_at) < FORGOTTEN;
        let command = attempt.command_id.as_ref().and_then(|id| id.parse().ok()).filter(|_| fresh);
        let seen =
            command.and_then(|id: u32| self.commands.get(&id)).and_then(|command| command.seen.get(&asked.target));
        let host = self.hosts.iter_mut().find(|host| host.id == key.0);
        let reached = host.is_some_and(|host| !std::mem::take(&mut host.unheard) && host.tagged && host.listens());
        let code = match seen {
            Some(seen) if reached => {
                let request = settle::request(&self.policy.stack, item.generation, &seen.output);
                if let Some(number) = request.ok().and_then(|request| request.parse().ok()) {
                    self.ledger.certified.insert(key.clone(), number);
                    return true;
                }
                REQUEST_REFUSED
            }
            Some(_) | None => REQUEST_LOST,
        };
        *self.tally.codes.entry(code.to_owned()).or_default() += 1;
        let end = AttemptEnd { installed: false, code: code.into(), detail: String::new(), at: self.now + self.skew };
        if let Some(record) = self.ledger.attempts.get_mut(&name) {
            record.ended = Some(end);
        }
        false
    }
}
