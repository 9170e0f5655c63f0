//! Everything a decision about certificates may look at, gathered anew for each look.

use std::net::{IpAddr, SocketAddr};

use time::OffsetDateTime;

use crate::acm::{AcmEvidence, AcmStatus, plain_serial};
use crate::authority;
use crate::id::{Epoch, Generation, NodeId, TargetId};
use crate::record::{
    AttemptRecord, AuthorityRecord, EmergencyRecord, EpochRecord, GenerationRecord, LeafRecord, Member,
    MembershipRecord, SightingRecord, ThroughRecord, Turn, TurnRecord,
};
use crate::rotation::agent::AgentVersion;
use crate::rotation::pace::LineRecord;
use crate::rotation::policy::{Policy, REVERIFY};
use crate::work::Endpoint;

/// How many authorities of exported certificates are trusted at once: ACM changes them rarely.
const ANCHORS: usize = 4;

/// A stack as it is known at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// The moment. Records may be younger (another machine's clock): that is never an error.
    pub now: OffsetDateTime,
    /// What the spec asks for.
    pub policy: Policy,
    /// Every generation in the ledger, in any order.
    pub generations: Vec<GenerationRecord>,
    /// The stack's targets, in any order.
    pub targets: Vec<TargetEvidence>,
    /// Every authority whose leaves may be on the wire, in any order: those that are not retired.
    pub authorities: Vec<AuthorityRecord>,
    /// The authorities' turns, in any order: they tell which one signs the next leaf.
    pub turns: Vec<TurnRecord>,
    /// The ACM certificate that is served or followed, or why it could not be read; absent when the spec names none.
    pub acm: Option<AcmEvidence>,
    /// What was last seen through the service.
    pub through: Option<ThroughRecord>,
    /// The targets as `provision` last saw them; absent before it first looked.
    pub membership: Option<MembershipRecord>,
    /// When somebody last asked for a fresh look at every target.
    pub look_since: Option<OffsetDateTime>,
    /// The emergency that reaches furthest; absent while nobody ever declared one.
    pub emergency: Option<EmergencyRecord>,
    /// The line in which hosts wait to read their leaf, all stacks' together; absent before the first stood in it.
    pub line: Option<LineRecord>,
    /// The rotation in progress, or the last one.
    pub epoch: Option<EpochRecord>,
}

/// One target as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetEvidence {
    /// The instance, or the address.
    pub target: TargetId,
    /// The managed node that is installed on: the instance itself, or whoever answers at the address. Absent where somebody
    /// else installs: then it is only looked at.
    pub node: Option<NodeId>,
    /// Whether the spec selects it. What is known about other instances decides nothing.
    pub wanted: bool,
    /// Whether its owner gave it the tag `espalier:stack=<stack>`.
    pub opted_in: bool,
    /// What Systems Manager knows of its node; absent when it never registered there.
    pub managed: Option<Managed>,
    /// Its deliveries, in any order; those below its floor may be left out.
    pub attempts: Vec<AttemptRecord>,
    /// What was last seen on its wire.
    pub sighting: Option<SightingRecord>,
    /// Its own leaves, of those generations in which each target has one: of the newest, and of what is served or under way.
    pub leaves: Vec<LeafRecord>,
}

/// A target as Systems Manager knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managed {
    /// `PingStatus` is `Online`.
    pub online: bool,
    /// Its private address, if the agent reported one.
    pub address: Option<IpAddr>,
    /// Its agent's version, if it reported one that can be read.
    pub agent: Option<AgentVersion>,
}

impl Evidence {
    /// The newest generation. What others install is none, whatever was minted or exported before.
    pub fn newest(&self) -> Option<&GenerationRecord> {
        let ours = self.generations.iter().filter(|_| self.policy.others.is_none());
        ours.max_by_key(|record| record.generation)
    }

    /// The serial number of ACM's newest certificate, as it stands in the ledger, where others install that and ACM could
    /// be read.
    pub fn others_serial(&self) -> Option<String> {
        let wanted = self.policy.others.as_ref()?.certificate_arn.as_ref()?;
        let acm = self.acm.as_ref().filter(|acm| acm.certificate == *wanted && acm.status == AcmStatus::Issued)?;
        acm.serial.as_deref().map(plain_serial)
    }

    /// Whether what was seen then is to be seen again: it was long ago, or somebody asked since.
    pub(crate) fn is_stale(&self, seen_at: OffsetDateTime) -> bool {
        self.now - seen_at > REVERIFY || self.is_asked_again(seen_at)
    }

    /// Whether somebody asked for a fresh look after this was seen.
    pub fn is_asked_again(&self, seen_at: OffsetDateTime) -> bool {
        self.look_since.is_some_and(|since| seen_at < since)
    }

    /// Whether somebody declared this generation, or the authority that signed it, unsafe: it is handed out to nobody any more,
    /// and nothing keeps its replacement waiting.
    pub fn is_tainted(&self, generation: Generation) -> bool {
        self.declared_unsafe(generation).is_some() || self.signed_unsafely(generation).is_some()
    }

    /// The word about this generation.
    pub fn declared_unsafe(&self, generation: Generation) -> Option<&EmergencyRecord> {
        self.emergency.as_ref().filter(|emergency| generation <= emergency.through)
    }

    /// The word about the authority that signed it.
    pub fn signed_unsafely(&self, generation: Generation) -> Option<&TurnRecord> {
        if !self.turns.iter().any(|turn| turn.turn == Turn::Tainted) {
            return None;
        }
        authority::tainted(&self.generation(generation)?.authority, &self.turns)
    }

    /// A target as `provision` last saw it.
    pub fn member(&self, target: &TargetId) -> Option<&Member> {
        self.membership.as_ref().and_then(|membership| membership.members.get(target))
    }

    /// Whether clients are sent to nobody, as far as `provision` has looked.
    pub fn serves_nobody(&self) -> bool {
        self.membership.as_ref().is_some_and(|all| !all.members.values().any(|member| member.registered))
    }

    /// A generation by its number.
    pub fn generation(&self, generation: Generation) -> Option<&GenerationRecord> {
        self.generations.iter().find(|record| record.generation == generation)
    }

    /// The generation that would be minted next.
    pub fn next_generation(&self) -> Generation {
        self.newest().map_or(Generation::FIRST, |record| record.generation.next())
    }

    /// The authority that signs the next leaf.
    pub fn issuing(&self) -> Option<&AuthorityRecord> {
        authority::active(&self.authorities, &self.turns)
    }

    /// The number of the rotation this look belongs to: the open one's, else the one that would be begun.
    pub fn epoch_number(&self) -> Epoch {
        match &self.epoch {
            None => Epoch(1),
            Some(record) if record.ended_at.is_none() => record.epoch,
            Some(record) => Epoch(record.epoch.0.saturating_add(1)),
        }
    }

    /// What a prober has to trust, concatenated PEM in a fixed order: our roots, and what exported generations lead to.
    pub fn trust(&self) -> String {
        let mut authorities: Vec<_> = self.authorities.iter().collect();
        authorities.sort_by(|a, b| a.authority.cmp(&b.authority));
        authorities.dedup_by(|a, b| a.root_pem == b.root_pem);
        let mut pem = String::new();
        for authority in authorities {
            pem.push_str(authority.root_pem.trim_end());
            pem.push('\n');
        }
        for anchor in self.anchors() {
            pem.push_str(anchor);
            pem.push('\n');
        }
        pem
    }

    /// What the exported generations lead to, each once, the newest first.
    fn anchors(&self) -> Vec<&str> {
        let mut exported: Vec<_> = self.generations.iter().filter(|record| record.export.is_some()).collect();
        exported.sort_by_key(|record| std::cmp::Reverse(record.generation));
        let mut anchors = Vec::new();
        for export in exported.into_iter().filter_map(|record| record.export.as_ref()) {
            let anchor = export.trust_pem.trim_end();
            if anchors.len() < ANCHORS && !anchors.contains(&anchor) {
                anchors.push(anchor);
            }
        }
        anchors
    }

    /// The targets the spec selects, by instance id.
    pub fn wanted(&self) -> Vec<&TargetEvidence> {
        let mut wanted: Vec<_> = self.targets.iter().filter(|target| target.wanted).collect();
        wanted.sort_by(|a, b| a.target.cmp(&b.target));
        wanted.dedup_by(|a, b| a.target == b.target);
        wanted
    }
}

impl TargetEvidence {
    /// The fingerprint of what a generation is on this target; nothing where it is to have a leaf of its own and has none yet.
    pub fn fingerprint<'a>(&'a self, of: &'a GenerationRecord) -> Option<&'a str> {
        of.fingerprint_with(&self.leaves)
    }

    /// The highest generation ever proven here.
    pub fn floor(&self) -> Option<Generation> {
        self.sighting.as_ref().and_then(|sighting| sighting.floor)
    }

    /// Whether it was seen to serve the newest generation. That it cannot be reached by Systems Manager any more, or that its owner
    /// takes it back, makes that no less of a proof.
    pub(crate) fn has_proven(&self, newest: Generation) -> bool {
        self.sighting.as_ref().is_some_and(|seen| seen.verdict.is_good() && seen.generation == newest)
    }

    /// Whether what was last proven here was declared unsafe since.
    pub(crate) fn serves_tainted(&self, evidence: &Evidence) -> bool {
        self.floor().is_some_and(|floor| evidence.is_tainted(floor))
    }

    /// Where it is dialled, on this port.
    pub fn endpoint(&self, port: u16) -> Option<Endpoint> {
        match self.target.host() {
            Some(name) => Some(Endpoint::Host { name, port }),
            None => self.address().map(|address| SocketAddr::new(address, port).into()),
        }
    }

    /// Whether it is known where to dial it.
    pub(crate) fn can_be_dialled(&self) -> bool {
        self.target.host().is_some() || self.address().is_some()
    }

    /// Where the spec says, if it is selected by address, whatever its agent reports.
    fn address(&self) -> Option<IpAddr> {
        self.target.address().or(self.managed.as_ref().and_then(|managed| managed.address))
    }
}
