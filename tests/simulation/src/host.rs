//! A target: what its disk holds, what its server shows, what is wrong with it, and what the installer does there.

use std::collections::BTreeMap;

use espalier_domain::id::{Generation, TargetId};
use espalier_domain::rotation::settle::InstallerCode;
use espalier_domain::verdict::{Fault, Presented};
use time::{Duration, OffsetDateTime};

/// What a server presents.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Pair {
    Ours(Generation),
    /// Put there by a person.
    Foreign(Presented),
}

/// Systems Manager's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agent {
    Up,
    /// It is gone, and Systems Manager knows.
    Gone,
    /// It is gone, and Systems Manager does not know yet.
    Deaf,
}

/// The TLS server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Up,
    Down,
    Garbled,
}

/// What keeps the installer from its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ill {
    Well,
    /// The server refuses to reload with anything new.
    Reverts,
    CannotFetch,
    Busy,
    /// The installer says `installed` and nothing changed.
    Lies,
    /// What it prints last is no report.
    Babbles,
}

#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) id: TargetId,
    pub(crate) wanted: bool,
    pub(crate) tagged: bool,
    pub(crate) consents: bool,
    pub(crate) runs: bool,
    pub(crate) launched_at: Option<OffsetDateTime>,
    pub(crate) has_address: bool,
    pub(crate) agent: Agent,
    pub(crate) slow: bool,
    pub(crate) server: Server,
    pub(crate) hidden: bool,
    pub(crate) ill: Ill,
    /// How far its clock is off.
    pub(crate) clock: Duration,
    /// Where `current` leads.
    pub(crate) disk: Option<Generation>,
    pub(crate) before: Option<Generation>,
    /// The highest generation confirmed on this disk.
    pub(crate) floor: Option<Generation>,
    pub(crate) serves: Option<Pair>,
    /// When it goes back by itself.
    pub(crate) deadline: Option<OffsetDateTime>,
    /// What it went back from.
    pub(crate) unconfirmed: Option<Generation>,
    /// The keys that it has made, each by a number of its own.
    pub(crate) keys: BTreeMap<Generation, u32>,
    /// What it says next of its key is nonsense.
    pub(crate) raves: bool,
    /// What it says next of its key is forgotten.
    pub(crate) unheard: bool,
    /// The next key that it makes is gone once it has said that it made it.
    pub(crate) forgets: bool,
    /// The command whose installer runs.
    pub(crate) installing: Option<u32>,
    /// How many troubles it has, and since when it has none.
    pub(crate) troubles: u32,
    pub(crate) well_since: OffsetDateTime,
    /// Since when what it serves fails clients.
    pub(crate) failing_since: Option<OffsetDateTime>,
}

impl Host {
    pub(crate) fn new(id: TargetId, now: OffsetDateTime) -> Self {
        Self {
            id,
            wanted: true,
            tagged: true,
            consents: true,
            runs: true,
            launched_at: None,
            has_address: true,
            agent: Agent::Up,
            slow: false,
            server: Server::Up,
            hidden: false,
            ill: Ill::Well,
            clock: Duration::ZERO,
            disk: None,
            before: None,
            floor: None,
            serves: None,
            deadline: None,
            unconfirmed: None,
            keys: BTreeMap::new(),
            raves: false,
            unheard: false,
            forgets: false,
            installing: None,
            troubles: 0,
            well_since: now,
            failing_since: None,
        }
    }

    /// What keeps a connection from seeing any certificate.
    pub(crate) fn silence(&self, from_service: bool) -> Option<Fault> {
        if !self.runs || (self.hidden && !from_service) {
            return Some(Fault::TimedOut);
        }
        match self.server {
            Server::Down => Some(Fault::Refused),
            // Either, and no dice for it.
            Server::Garbled if self.well_since.minute().is_multiple_of(2) => Some(Fault::NotTls),
            Server::Garbled => Some(Fault::HandshakeFailed),
            Server::Up => self.serves.is_none().then_some(Fault::Refused),
        }
    }

    /// The agent takes commands.
    pub(crate) fn listens(&self) -> bool {
        self.runs && self.agent == Agent::Up
    }

    /// Before anything is changed: a word that ends the installation here. `valid` are the leaf's dates, `bundle`
    /// whether it can be fetched.
    pub(crate) fn refuses(
        &self,
        generation: Generation,
        valid: (OffsetDateTime, OffsetDateTime),
        bundle: bool,
        now: OffsetDateTime,
    ) -> Option<InstallerCode> {
        let here = now.saturating_add(self.clock);
        let word = self.prepares_not(generation);
        if word.is_some() {
            word
        } else if self.ill == Ill::Lies {
            Some(InstallerCode::Installed)
        } else if self.serves == Some(Pair::Ours(generation))
            && self.disk == Some(generation)
            && self.server == Server::Up
        {
            Some(InstallerCode::Unchanged)
        } else if !bundle || self.ill == Ill::CannotFetch {
            Some(InstallerCode::FetchFailed)
        } else if here < valid.0 || here > valid.1 {
            Some(InstallerCode::InvalidBundle)
        } else {
            None
        }
    }

    /// Before a key is made: a word that ends it here.
    pub(crate) fn prepares_not(&self, generation: Generation) -> Option<InstallerCode> {
        if !self.consents {
            Some(InstallerCode::NotOptedIn)
        } else if self.installing.is_some() || self.ill == Ill::Busy {
            Some(InstallerCode::Busy)
        } else if self.floor > Some(generation) || self.deadline.is_some() && self.disk > Some(generation) {
            Some(InstallerCode::BelowFloor)
        } else {
            None
        }
    }

    /// One rename: from here on a server that starts loads the new pair.
    pub(crate) fn swap(&mut self, generation: Generation) {
        // What was never confirmed is not what it goes back to.
        if self.disk != Some(generation) && self.disk <= self.floor {
            self.before = self.disk;
        }
        self.disk = Some(generation);
    }

    /// The server shows the new pair: it stays, or it waits for a confirmation until then.
    pub(crate) fn keep(&mut self, generation: Generation, until: Option<OffsetDateTime>) {
        self.deadline = until;
        self.unconfirmed = None;
        if until.is_none() {
            self.floor = self.floor.max(Some(generation));
        }
    }

    /// It is told that what it was given was seen.
    pub(crate) fn confirm(&mut self, generation: Generation) -> InstallerCode {
        if self.floor > Some(generation) {
            InstallerCode::BelowFloor
        } else if self.disk == Some(generation) {
            self.keep(generation, None);
            InstallerCode::Confirmed
        } else if self.unconfirmed == Some(generation) {
            InstallerCode::Unconfirmed
        } else {
            InstallerCode::Refused
        }
    }

    /// Nobody came to tell it: it goes back, as far as the server takes that.
    pub(crate) fn go_back(&mut self) {
        self.deadline = None;
        (self.unconfirmed, self.disk) = (self.disk, self.before);
        if self.server == Server::Up && self.ill != Ill::Reverts {
            self.serves = self.disk.map(Pair::Ours);
        }
    }

    /// Reloads the server, asks it, and goes back if it does not show the new pair. `taken` says whether the server
    /// likes this leaf at all, `until` how long the host waits for a confirmation.
    pub(crate) fn reload(
        &mut self,
        generation: Generation,
        taken: bool,
        until: Option<OffsetDateTime>,
    ) -> InstallerCode {
        self.installing = None;
        let fails = match self.server {
            Server::Up => (self.ill == Ill::Reverts || !taken).then_some(InstallerCode::ConfigTestFailed),
            Server::Down => Some(InstallerCode::ReloadFailed),
            Server::Garbled => Some(InstallerCode::ServedOther),
        };
        match fails {
            None => {
                self.serves = Some(Pair::Ours(generation));
                self.keep(generation, until);
                if until.is_some() { InstallerCode::Armed } else { InstallerCode::Installed }
            }
            // What was confirmed is asserted again, or there is nothing to go back to: it is not to blame.
            Some(code) if self.floor == Some(generation) || self.before.is_none() => code,
            Some(_) => {
                self.disk = self.before;
                self.deadline = None;
                InstallerCode::Reverted
            }
        }
    }

    /// The instance is gone, with whatever ran on it.
    pub(crate) fn stop(&mut self) {
        self.runs = false;
        self.installing = None;
    }

    /// It is there again, and its server loads what the disk holds.
    pub(crate) fn start(&mut self, now: OffsetDateTime) {
        self.runs = true;
        self.launched_at = Some(now);
        self.serves = self.disk.map(Pair::Ours);
    }

    /// A disk of long ago.
    pub(crate) fn restore(&mut self, generation: Option<Generation>, now: OffsetDateTime) {
        self.stop();
        (self.disk, self.floor, self.before) = (generation, generation, None);
        (self.deadline, self.unconfirmed) = (None, None);
        self.keys.clear();
        self.start(now);
    }

    /// Everything that is wrong with it is put right. What it serves stays.
    pub(crate) fn heal(&mut self, now: OffsetDateTime) {
        if !self.runs {
            self.start(now);
        }
        (self.wanted, self.tagged, self.consents, self.has_address) = (true, true, true, true);
        (self.agent, self.slow, self.server, self.hidden) = (Agent::Up, false, Server::Up, false);
        (self.ill, self.clock) = (Ill::Well, Duration::ZERO);
    }
}
