//! The inventory as an assessor reads it: every certificate with where it stands, every authority, every handshake.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use time::OffsetDateTime;

use super::{Chain, Facts, Head, Issued, Row, Segment, Word};
use crate::authority::phase;
use crate::id::{Generation, NodeId, Scope, StackName, TargetId, leaf_parameter};
use crate::record::{AuthorityRecord, EmergencyRecord, GenerationRecord, LeafRecord, SightingRecord, Turn, TurnRecord};
use crate::spec::KeyType;
use crate::verdict::covers;

/// All that the segments say, as of the newest of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// When the ledger was last read for one of the segments; absent when there is none.
    #[serde(with = "time::serde::rfc3339::option")]
    pub as_of: Option<OffsetDateTime>,
    /// The newest segment of each chain: what to note elsewhere.
    pub heads: Vec<Head>,
    /// Every certificate, by stack, generation and scope.
    pub certificates: Vec<Certificate>,
    /// Every authority, by its end.
    pub authorities: Vec<Trusted>,
    /// What was negotiated with each target the last time.
    pub handshakes: Vec<Handshake>,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Whose it is.
    pub stack: StackName,
    /// Whether all targets share it, or the node whose own it is.
    pub scope: Scope,
    /// Its number.
    pub generation: Generation,
    /// Where it stands.
    pub standing: Standing,
    /// The names in it.
    pub dns_names: Vec<String>,
    /// The authority that signed it; of an exported one, the digest of what a verifier trusts.
    pub issuer: String,
    /// Its serial number.
    pub serial: String,
    /// SHA-256 of its DER.
    pub fingerprint: String,
    /// The kind of its key; absent where it was not written down.
    pub key_type: Option<KeyType>,
    /// Start of validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// End of validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// When it was minted or exported.
    #[serde(with = "time::serde::rfc3339")]
    pub issued_at: OffsetDateTime,
    /// The ACM certificate that it was exported from; absent when it was minted.
    pub exported_from: Option<String>,
    /// The parameter that it was stored in, sealed, with its key.
    pub stored_in: String,
    /// When it was deleted from there; absent while it is there.
    #[serde(with = "time::serde::rfc3339::option")]
    pub discarded_at: Option<OffsetDateTime>,
    /// Why it was issued.
    pub because: String,
    /// Whose word it goes back to: what kind, who, and the request.
    pub asked_by: Word,
    /// The principal, as far as somebody wrote it down.
    pub caller: Option<String>,
    /// The version of the spec that it was issued by.
    pub spec_version: Option<i64>,
    /// SHA-256 of that spec.
    pub spec_digest: Option<String>,
    /// When a newer generation took its place.
    #[serde(with = "time::serde::rfc3339::option")]
    pub superseded_at: Option<OffsetDateTime>,
    /// When it, or the authority that signed it, was declared unsafe.
    #[serde(with = "time::serde::rfc3339::option")]
    pub unsafe_since: Option<OffsetDateTime>,
    /// Where an installer said that it serves it, at any time; not known of a leaf that is one target's and a target that is an
    /// address.
    pub delivered_to: Vec<TargetId>,
    /// Where a handshake showed it the last time.
    pub served_by: Vec<TargetId>,
    /// When a sealed handshake last showed it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_served_at: Option<OffsetDateTime>,
}

/// Where a certificate stands, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// Somebody declared it, or the authority that signed it, unsafe.
    Unsafe,
    /// Its validity has ended.
    Expired,
    /// A newer generation took its place.
    Superseded,
    /// It is of the newest generation.
    Current,
}

impl Standing {
    /// As JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unsafe => "unsafe",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Current => "current",
        }
    }
}

/// An authority that clients trust, trusted, or will trust.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trusted {
    /// Its id: the first 16 digits of its root's SHA-256.
    pub authority: String,
    /// `prepared`, `active`, `retiring` or `retired`.
    pub phase: &'static str,
    /// Whether somebody declared all that it signed unsafe.
    pub tainted: bool,
    /// The key in AWS KMS; absent when it is kept in Secrets Manager.
    pub key: Option<String>,
    /// When its root was published.
    #[serde(with = "time::serde::rfc3339::option")]
    pub published_at: Option<OffsetDateTime>,
    /// End of its issuing certificate's validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// The root, PEM.
    pub root_pem: String,
    /// The issuing certificate, PEM.
    pub issuing_pem: String,
}

/// What was negotiated with a target the last time it was seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Handshake {
    /// Whose target it is.
    pub stack: StackName,
    /// The target.
    pub target: TargetId,
    /// The port.
    pub port: Option<u16>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The protocol's version; absent when no handshake was completed.
    pub protocol: Option<String>,
    /// The cipher suite.
    pub suite: Option<String>,
    /// The application's protocol (ALPN), if the server chose one.
    pub alpn: Option<String>,
    /// The versions of TLS that it was seen to speak, each tried alone.
    pub versions: Vec<String>,
    /// The kind of the served certificate's key, if it is one of the inventory's.
    pub key_type: Option<KeyType>,
    /// SHA-256 of the certificate that was served.
    pub fingerprint: Option<String>,
    /// What was wrong with it; nothing is.
    pub faults: Vec<String>,
}

/// Which certificates are asked for; each part narrows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Of these stacks; of all if there are none.
    pub stacks: Vec<StackName>,
    /// That end before this.
    pub expires_before: Option<OffsetDateTime>,
    /// That were delivered to this target, or served by it.
    pub target: Option<TargetId>,
    /// That this authority signed.
    pub issuer: Option<String>,
    /// That are good for this name.
    pub name: Option<String>,
}

impl Filter {
    fn takes_stack(&self, stack: &StackName) -> bool {
        self.stacks.is_empty() || self.stacks.contains(stack)
    }

    fn takes(&self, one: &Certificate) -> bool {
        let at = |target: &TargetId| one.served_by.contains(target) || one.delivered_to.contains(target);
        self.takes_stack(&one.stack)
            && self.expires_before.is_none_or(|before| one.not_after < before)
            && self.target.as_ref().is_none_or(at)
            && self.issuer.as_ref().is_none_or(|issuer| *issuer == one.issuer)
            && self.name.as_ref().is_none_or(|name| {
                let asked = name.to_ascii_lowercase();
                one.dns_names.iter().any(|of| of.eq_ignore_ascii_case(&asked) || covers(of, &asked))
            })
    }
}

impl View {
    /// What segments say; those of a chain stand in the order of their numbers.
    pub fn of(segments: &[Segment]) -> Self {
        let mut chains: BTreeMap<&Chain, Vec<&Segment>> = BTreeMap::new();
        for segment in segments {
            chains.entry(&segment.header.chain).or_default().push(segment);
        }
        let plane = chains.get(&Chain::Plane).map(|all| Told::of(all)).unwrap_or_default();
        let as_of = segments.iter().map(|segment| segment.header.until).max();
        let mut view = Self { as_of, authorities: trusted(&plane), ..Self::default() };
        for (chain, all) in &chains {
            view.heads.extend(all.last().map(|segment| segment.head()));
            if let (Chain::Stack(stack), Some(as_of)) = (chain, as_of) {
                let told = Told::of(all);
                view.certificates.extend(told.certificates(stack, &plane.facts.turns, as_of));
                view.handshakes.extend(told.handshakes(stack));
            }
        }
        view
    }

    /// What is asked for; authorities and heads are always there.
    #[must_use]
    pub fn filtered(mut self, filter: &Filter) -> Self {
        self.certificates.retain(|one| filter.takes(one));
        self.handshakes.retain(|one| {
            filter.takes_stack(&one.stack) && filter.target.as_ref().is_none_or(|target| *target == one.target)
        });
        self
    }
}

fn trusted(plane: &Told<'_>) -> Vec<Trusted> {
    let Facts { authorities, turns, .. } = &plane.facts;
    let of = |record: &AuthorityRecord| Trusted {
        authority: record.authority.clone(),
        phase: phase(record, authorities, turns).word(),
        tainted: turns.iter().any(|turn| turn.turn == Turn::Tainted && turn.authority == record.authority),
        key: record.issuing_key.clone(),
        published_at: record.published_at,
        not_after: record.not_after,
        root_pem: record.root_pem.clone(),
        issuing_pem: record.issuing_pem.clone(),
    };
    let mut all: Vec<Trusted> = authorities.iter().map(of).collect();
    all.sort_by_key(|one| one.not_after);
    all
}

/// What a chain's segments tell.
#[derive(Default)]
struct Told<'a> {
    facts: Facts,
    issued: Vec<&'a Issued>,
    own: BTreeMap<Generation, Vec<&'a LeafRecord>>,
    /// What the newest segment says of each target.
    now: Vec<&'a SightingRecord>,
    /// When a certificate was last seen, by its fingerprint, and who shows it now.
    seen_at: BTreeMap<&'a str, OffsetDateTime>,
    shown_by: BTreeMap<&'a str, Vec<TargetId>>,
    /// When a generation's bundles were deleted.
    discarded: BTreeMap<Generation, OffsetDateTime>,
    /// Who was given a generation.
    delivered: BTreeMap<Generation, BTreeSet<TargetId>>,
    /// When the one after a generation was issued.
    superseded: BTreeMap<Generation, OffsetDateTime>,
}

impl<'a> Told<'a> {
    fn of(segments: &[&'a Segment]) -> Self {
        let mut told = Self::default();
        for segment in segments {
            told.now.clear();
            segment.rows.iter().for_each(|row| told.read(row));
        }
        for seen in &told.now {
            if let Some(fingerprint) = &seen.verdict.fingerprint {
                told.shown_by.entry(fingerprint).or_default().push(seen.target.clone());
            }
        }
        told
    }

    fn read(&mut self, row: &'a Row) {
        match row {
            Row::Issued(issued) => {
                self.superseded.extend(issued.supersedes.map(|before| (before, issued.record.minted_at)));
                self.issued.push(issued);
            }
            Row::Discarded(record) => drop(self.discarded.insert(record.generation, record.at)),
            Row::Leaf(leaf) => self.own.entry(leaf.generation).or_default().push(leaf),
            Row::Delivered(record) => {
                if record.ended.as_ref().is_some_and(|ended| ended.installed) {
                    self.delivered.entry(record.generation).or_default().insert(record.target.clone());
                }
            }
            Row::Seen(record) => {
                if let Some(fingerprint) = &record.verdict.fingerprint {
                    let last = self.seen_at.entry(fingerprint).or_insert(record.at);
                    *last = record.at.max(*last);
                }
                self.now.push(record);
            }
            Row::Unsafe(record) => self.facts.emergencies.push(record.clone()),
            Row::Authority(record) => self.facts.authorities.push(record.clone()),
            Row::Turn(record) => self.facts.turns.push(record.clone()),
            Row::Acknowledged(_) | Row::Head(_) | Row::Carried(_) => {}
        }
    }

    fn certificates(&self, stack: &StackName, turns: &[TurnRecord], as_of: OffsetDateTime) -> Vec<Certificate> {
        let of = |issued: &&Issued| {
            let generation = self.certificate(stack, issued, turns, as_of);
            if !issued.record.scope.is_each() {
                return vec![generation];
            }
            let own = self.own.get(&issued.record.generation).into_iter().flatten();
            own.map(|leaf| self.of_target(leaf, generation.clone())).collect()
        };
        let mut all: Vec<_> = self.issued.iter().flat_map(of).collect();
        all.sort_by(|a, b| (a.generation, &a.scope).cmp(&(b.generation, &b.scope)));
        all
    }

    /// One target's own leaf of a generation, which names all that they have in common.
    fn of_target(&self, leaf: &LeafRecord, generation: Certificate) -> Certificate {
        let is_its = |target: &TargetId| NodeId::of(target).is_some_and(|node| Scope::of(&node) == leaf.scope);
        Certificate {
            serial: leaf.serial.clone(),
            fingerprint: leaf.fingerprint.clone(),
            not_after: leaf.not_after,
            issued_at: leaf.minted_at,
            stored_in: leaf_parameter(&generation.stack, &leaf.scope, leaf.generation),
            delivered_to: generation.delivered_to.into_iter().filter(is_its).collect(),
            served_by: self.served_by(&leaf.fingerprint),
            last_served_at: self.seen_at.get(leaf.fingerprint.as_str()).copied(),
            scope: leaf.scope.clone(),
            ..generation
        }
    }

    fn served_by(&self, fingerprint: &str) -> Vec<TargetId> {
        self.shown_by.get(fingerprint).cloned().unwrap_or_default()
    }

    fn certificate(
        &self,
        stack: &StackName,
        issued: &Issued,
        turns: &[TurnRecord],
        as_of: OffsetDateTime,
    ) -> Certificate {
        let record = &issued.record;
        let superseded_at = self.superseded.get(&record.generation).copied();
        let unsafe_since = self.unsafe_since(record, turns);
        Certificate {
            stack: stack.clone(),
            scope: record.scope.clone(),
            generation: record.generation,
            standing: match (unsafe_since, superseded_at) {
                (Some(_), _) => Standing::Unsafe,
                (None, _) if record.not_after < as_of => Standing::Expired,
                (None, Some(_)) => Standing::Superseded,
                (None, None) => Standing::Current,
            },
            dns_names: record.dns_names.clone(),
            issuer: record.authority.clone(),
            serial: record.serial.clone(),
            fingerprint: record.fingerprint.clone(),
            key_type: record.key_type,
            not_before: record.not_before,
            not_after: record.not_after,
            issued_at: record.minted_at,
            exported_from: record.export.as_ref().map(|export| export.certificate.to_string()),
            stored_in: record.parameter.clone(),
            discarded_at: self.discarded.get(&record.generation).copied(),
            because: record.because.clone(),
            asked_by: issued.asked.by,
            caller: issued.asked.caller.clone(),
            spec_version: record.spec.as_ref().map(|spec| spec.version),
            spec_digest: record.spec.as_ref().map(|spec| spec.digest.clone()),
            superseded_at,
            unsafe_since,
            delivered_to: self.delivered.get(&record.generation).into_iter().flatten().cloned().collect(),
            served_by: self.served_by(&record.fingerprint),
            last_served_at: self.seen_at.get(record.fingerprint.as_str()).copied(),
        }
    }

    /// When somebody declared it, or the authority that signed it, unsafe.
    fn unsafe_since(&self, record: &GenerationRecord, turns: &[TurnRecord]) -> Option<OffsetDateTime> {
        let declared = |one: &&EmergencyRecord| one.through >= record.generation && one.at >= record.minted_at;
        let emergency = self.facts.emergencies.iter().filter(declared).map(|one| one.at).min();
        let taint = turns.iter().find(|turn| turn.turn == Turn::Tainted && turn.authority == record.authority);
        [emergency, taint.map(|turn| turn.at)].into_iter().flatten().min()
    }

    fn handshakes(&self, stack: &StackName) -> Vec<Handshake> {
        let mut keys: BTreeMap<&str, Option<KeyType>> = BTreeMap::new();
        for Issued { record, .. } in &self.issued {
            let own = self.own.get(&record.generation).into_iter().flatten();
            let all = own.map(|leaf| leaf.fingerprint.as_str()).chain([record.fingerprint.as_str()]);
            keys.extend(all.map(|fingerprint| (fingerprint, record.key_type)));
        }
        let of = |seen: &&SightingRecord| {
            let tls = seen.verdict.tls.as_ref();
            Handshake {
                stack: stack.clone(),
                target: seen.target.clone(),
                port: seen.port,
                at: seen.at,
                protocol: tls.map(|tls| tls.protocol.clone()),
                suite: tls.map(|tls| tls.suite.clone()),
                alpn: tls.and_then(|tls| tls.alpn.clone()),
                versions: tls.map(|tls| tls.versions.clone()).unwrap_or_default(),
                key_type: seen
                    .verdict
                    .fingerprint
                    .as_deref()
                    .and_then(|fingerprint| keys.get(fingerprint).copied().flatten()),
                fingerprint: seen.verdict.fingerprint.clone(),
                faults: seen.verdict.faults.iter().map(|fault| format!("{fault:?}")).collect(),
            }
        };
        self.now.iter().map(of).collect()
    }
}
