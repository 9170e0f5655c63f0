//! Gathers everything a decision about a stack's certificates may look at, anew for each look.

use std::collections::{BTreeMap, BTreeSet};

use aws_config::SdkConfig;
use espalier_domain::acm::{AcmEvidence, request};
use espalier_domain::authority;
use espalier_domain::failure::{Failure, Word, chain};
use espalier_domain::id::{Generation, NodeId, Scope, StackName, TargetId};
use espalier_domain::plan::{Block, BlockCode};
use espalier_domain::record::{AttemptRecord, GenerationRecord, LeafRecord, MembershipRecord, SightingRecord};
use espalier_domain::rotation::evidence::{Evidence, Managed, TargetEvidence};
use espalier_domain::rotation::policy::Policy;
use espalier_domain::rotation::settle::{CommandSeen, settle};
use espalier_domain::spec::{self, AddressTarget, AllowedDomains, Select, Spec, State};
use serde_json::Value;
use time::OffsetDateTime;

use crate::acm::Certificates;
use crate::command::Commands;
use crate::error::AwsError;
use crate::inventory::{Inventory, Node, Nodes, OPT_IN_TAG};
use crate::ledger::{EpochSeen, Ledger, LedgerError};
use crate::specs::Specs;
use crate::{acm, command, inventory, ledger, specs};

/// What a look calls, service by service. With [`Hands::Writing`] also [`ledger::WRITE`].
pub const ACTIONS: [&[&str]; 5] = [specs::ACTIONS, ledger::READ, inventory::ACTIONS, command::READ, acm::ACTIONS];

/// Where evidence comes from.
#[derive(Debug)]
pub struct Sources {
    /// Every stack's spec.
    pub specs: Specs,
    /// What may be certified at all.
    pub allowed: AllowedDomains,
    /// Generations, attempts, sightings.
    pub ledger: Ledger,
    /// Whom Systems Manager knows.
    pub inventory: Inventory,
    /// How deliveries fare.
    pub commands: Commands,
    /// What ACM says.
    pub certificates: Certificates,
    /// Whether ACM is asked at all. Who may not read what `rotate` may would call it unreadable.
    pub asks_acm: bool,
}

/// Whether what is learnt on the way may be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hands {
    /// Settled attempts go to the ledger.
    Writing,
    /// Nothing is changed anywhere (`"mode": "plan"`).
    Tied,
}

/// Why nothing can be said about a stack.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// A service cannot be asked.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Failure for LookError {
    fn word(&self) -> Word {
        match self {
            Self::Aws(error) => error.word(),
            Self::Ledger(error) => error.word(),
        }
    }
}

/// What a look at a stack found.
#[derive(Debug)]
pub enum Look {
    /// Evidence to plan with, and the epoch as it was read *before* the rest.
    Evidence(Box<Evidence>, Option<EpochSeen>),
    /// There is nothing to rotate: the stack is to be absent.
    Nothing,
    /// No plan can be made.
    Blocked(Block),
}

impl Sources {
    /// Where everything is read from.
    pub fn new(sdk: &SdkConfig, table: &str, allowed: AllowedDomains, certificates: Certificates) -> Self {
        Self {
            specs: Specs::new(sdk),
            allowed,
            ledger: Ledger::new(sdk, table),
            inventory: Inventory::new(sdk),
            commands: Commands::new(sdk),
            certificates,
            asks_acm: true,
        }
    }

    /// Looks at a stack. `inline` is a spec to plan with in place of the stored one.
    ///
    /// # Errors
    /// When a service or the ledger cannot be asked. ACM that does not answer is told as absent evidence.
    pub async fn look(
        &self,
        stack: &StackName,
        inline: Option<&Value>,
        hands: Hands,
        now: OffsetDateTime,
    ) -> Result<Look, LookError> {
        // What was handed over is read before anybody is asked: its mistakes cost no call.
        let inline = inline.map(|spec| usable(stack, Some(&spec.to_string()), &self.allowed));
        if let Some(Usable::Blocked(block)) = inline {
            return Ok(Look::Blocked(block));
        }
        // Before the rest: a hint that arrives from here on makes the end of this epoch fail, so nothing seen later is
        // older than a hint that was taken for served.
        let epoch = self.ledger.epoch(stack).await?;
        let usable = match inline {
            Some(usable) => usable,
            None => usable(stack, self.specs.get(stack).await?.as_deref(), &self.allowed),
        };
        let spec = match usable {
            Usable::Spec(spec) => spec,
            Usable::Nothing => return Ok(Look::Nothing),
            Usable::Blocked(block) => return Ok(Look::Blocked(block)),
        };
        let evidence = self.evidence(&spec, epoch.as_ref(), hands, now).await?;
        Ok(Look::Evidence(Box::new(evidence), epoch))
    }

    async fn evidence(
        &self,
        spec: &Spec,
        epoch: Option<&EpochSeen>,
        hands: Hands,
        now: OffsetDateTime,
    ) -> Result<Evidence, LookError> {
        let stack = &spec.stack;
        let ledger = async {
            tokio::try_join!(
                self.ledger.generations(stack),
                self.ledger.attempts(stack),
                self.ledger.sightings(stack),
                self.ledger.authorities(),
                self.ledger.turns(),
                self.ledger.through(stack),
                self.ledger.look_since(stack),
                self.ledger.emergency(stack),
                self.ledger.membership(stack),
                self.ledger.line(),
            )
            .map_err(LookError::from)
        };
        let source = async {
            let mut policy = Policy::from_spec(spec, &self.allowed);
            if let Some(source) = &mut policy.source
                && source.is_requested
            {
                let made = self.ledger.requested(stack).await?;
                source.certificate =
                    made.filter(|made| made.request == request::mark(spec)).map(|made| made.certificate);
            }
            let acm = self.acm(&policy).await;
            Ok((policy, acm))
        };
        let (facts, (policy, acm)) = tokio::try_join!(ledger, source)?;
        let (
            generations,
            mut attempts,
            sightings,
            authorities,
            turns,
            through,
            look_since,
            emergency,
            membership,
            line,
        ) = facts;
        let fleet = self.fleet(spec, membership.as_ref()).await?;
        let leaves = self.leaves(stack, &generations, &attempts, &sightings, now).await?;
        self.settle(spec, &generations, &leaves, &mut attempts, hands, now).await?;
        Ok(Evidence {
            now,
            policy,
            generations,
            targets: targets(fleet, attempts, sightings, leaves),
            authorities: authority::trusted(authorities, &turns),
            turns,
            acm,
            through,
            membership,
            look_since,
            emergency,
            line,
            epoch: epoch.map(|seen| seen.record.clone()),
        })
    }

    /// The targets' own leaves, of those generations that anything may depend on.
    async fn leaves(
        &self,
        stack: &StackName,
        generations: &[GenerationRecord],
        attempts: &[AttemptRecord],
        sightings: &[SightingRecord],
        now: OffsetDateTime,
    ) -> Result<OwnLeaves, LookError> {
        let mut leaves = OwnLeaves::new();
        for generation in with_own_leaves(generations, attempts, sightings, now) {
            for leaf in self.ledger.leaves(stack, generation).await? {
                leaves.entry(leaf.scope.clone()).or_default().push(leaf);
            }
        }
        Ok(leaves)
    }

    /// Asks Run Command about the attempts that are open, and ends those that are over.
    async fn settle(
        &self,
        spec: &Spec,
        generations: &[GenerationRecord],
        leaves: &OwnLeaves,
        attempts: &mut [AttemptRecord],
        hands: Hands,
        now: OffsetDateTime,
    ) -> Result<(), LookError> {
        let (stack, select) = (&spec.stack, &spec.targets.select);
        let mut commands: BTreeMap<String, BTreeMap<NodeId, CommandSeen>> = BTreeMap::new();
        for attempt in attempts.iter_mut().filter(|attempt| is_asked(attempt, now)) {
            let Some(command_id) = &attempt.command_id else { continue };
            if !commands.contains_key(command_id) {
                commands.insert(command_id.clone(), self.commands.invocations(command_id).await?);
            }
            // Whoever is no node any more is asked about until its time is up.
            let node = select.node(&attempt.target).or_else(|| NodeId::of(&attempt.target));
            let seen = commands.get(command_id).zip(node.as_ref()).and_then(|(nodes, node)| nodes.get(node));
            let generation = generations.iter().find(|record| record.generation == attempt.generation);
            let own = node.as_ref().and_then(|node| leaves.get(&Scope::of(node))).map_or(&[][..], Vec::as_slice);
            let expected = generation.and_then(|record| record.fingerprint_with(own));
            let Some(end) = seen.and_then(|seen| settle(attempt, stack, expected, seen, now)) else { continue };
            if hands == Hands::Writing {
                self.ledger.end_attempt(stack, attempt, &end).await?;
            }
            attempt.ended = Some(end);
        }
        Ok(())
    }

    async fn fleet(&self, spec: &Spec, membership: Option<&MembershipRecord>) -> Result<Fleet, LookError> {
        let opted_in = self.inventory.opted_in(&spec.stack).await?;
        let select = &spec.targets.select;
        match select {
            Select::InstanceIds(ids) => self.by_id(select, ids.iter().cloned().collect(), opted_in).await,
            // Who is in a group is `provision`'s to read; Systems Manager does not know.
            Select::AutoScalingGroups(_) => {
                let members = membership.into_iter().flat_map(|all| all.members.keys().cloned());
                self.by_id(select, members.collect(), opted_in).await
            }
            Select::Addresses(all) => {
                self.by_id(select, all.iter().map(AddressTarget::target).collect(), opted_in).await
            }
            Select::Hosts(all) => self.by_id(select, all.iter().map(TargetId::named).collect(), opted_in).await,
            Select::Tag { key, value } => {
                let opted: BTreeSet<NodeId> = opted_in.keys().cloned().collect();
                let nodes = if key == OPT_IN_TAG && value == spec.stack.as_str() {
                    opted_in
                } else {
                    self.inventory.tagged(key, value).await?
                };
                // A host that is no instance is registered by its address, which its tag does not tell.
                let instances = nodes.keys().filter_map(|node| TargetId::parse(node.as_str()).ok());
                let wanted = instances.map(|id| (id.clone(), NodeId::of(&id))).collect();
                Ok(Fleet { wanted, opted_in: opted, nodes })
            }
        }
    }

    async fn by_id(&self, select: &Select, wanted: BTreeSet<TargetId>, opted_in: Nodes) -> Result<Fleet, LookError> {
        let wanted: BTreeMap<TargetId, Option<NodeId>> =
            wanted.into_iter().map(|target| (target.clone(), select.node(&target))).collect();
        let others = wanted.values().flatten().filter(|node| !opted_in.contains_key(*node));
        let mut nodes = self.inventory.managed(&others.cloned().collect::<Vec<_>>()).await?;
        let opted: BTreeSet<NodeId> = opted_in.keys().cloned().collect();
        nodes.extend(opted_in);
        Ok(Fleet { wanted, opted_in: opted, nodes })
    }

    /// The certificate that is served, followed or compared with. ACM that does not answer is no reason to stop delivering what
    /// is minted.
    async fn acm(&self, policy: &Policy) -> Option<AcmEvidence> {
        let served = policy.source.as_ref().and_then(|source| source.certificate.as_ref());
        let watched = policy.others.as_ref().and_then(|others| others.certificate_arn.as_ref());
        let named = served.or(watched).or(policy.follow.as_ref().map(|follow| &follow.certificate));
        let certificate = named.filter(|_| self.asks_acm)?;
        match self.certificates.describe(certificate).await {
            Ok(evidence) => Some(evidence),
            Err(error) => {
                let why = chain(&error);
                tracing::warn!(stack = %policy.stack, error = why, "the ACM certificate was not read");
                Some(AcmEvidence::unread(certificate.clone(), why))
            }
        }
    }
}

/// Targets' own leaves, by node.
type OwnLeaves = BTreeMap<Scope, Vec<LeafRecord>>;

/// The generations in which each target has its own leaf, as far as anything may depend on them: the newest, those that were last
/// proven to be served, and those that are being installed.
fn with_own_leaves(
    generations: &[GenerationRecord],
    attempts: &[AttemptRecord],
    sightings: &[SightingRecord],
    now: OffsetDateTime,
) -> BTreeSet<Generation> {
    let newest = generations.iter().map(|record| record.generation).max();
    let served = sightings.iter().filter_map(|sighting| sighting.floor);
    let under_way = attempts.iter().filter(|attempt| is_asked(attempt, now)).map(|attempt| attempt.generation);
    let relevant: BTreeSet<Generation> = newest.into_iter().chain(served).chain(under_way).collect();
    // Whoever served what is long over was terminated since, and is still remembered.
    let kept = |record: &&GenerationRecord| now <= LeafRecord::kept_until(record.not_after);
    let each = generations.iter().filter(|record| record.scope.is_each()).filter(kept).map(|record| record.generation);
    each.filter(|generation| relevant.contains(generation)).collect()
}

/// Who is meant, who consented, and who can be reached.
#[derive(Debug)]
struct Fleet {
    /// Each target, and the node that is installed on, where one is known.
    wanted: BTreeMap<TargetId, Option<NodeId>>,
    opted_in: BTreeSet<NodeId>,
    nodes: Nodes,
}

fn targets(
    fleet: Fleet,
    attempts: Vec<AttemptRecord>,
    sightings: Vec<SightingRecord>,
    mut leaves: OwnLeaves,
) -> Vec<TargetEvidence> {
    let mut attempts_of: BTreeMap<TargetId, Vec<AttemptRecord>> = BTreeMap::new();
    for attempt in attempts {
        attempts_of.entry(attempt.target.clone()).or_default().push(attempt);
    }
    let mut sighting_of: BTreeMap<TargetId, SightingRecord> =
        sightings.into_iter().map(|sighting| (sighting.target.clone(), sighting)).collect();
    let nodes = fleet.nodes;
    let managed = |node: &NodeId| {
        let Node { online, address, agent } = *nodes.get(node)?;
        Some(Managed { online, address, agent })
    };
    fleet
        .wanted
        .into_iter()
        .map(|(target, node)| TargetEvidence {
            wanted: true,
            opted_in: node.as_ref().is_some_and(|node| fleet.opted_in.contains(node)),
            managed: node.as_ref().and_then(managed),
            attempts: attempts_of.remove(&target).unwrap_or_default(),
            sighting: sighting_of.remove(&target),
            leaves: node.as_ref().and_then(|node| leaves.remove(&Scope::of(node))).unwrap_or_default(),
            node,
            target,
        })
        .collect()
}

/// A command that can run no more is not asked about: the planner has given its attempts up, and Run Command forgets.
fn is_asked(attempt: &AttemptRecord, now: OffsetDateTime) -> bool {
    attempt.command_id.is_some() && attempt.may_run(now)
}

/// Whether a spec can be rotated by.
#[derive(Debug)]
enum Usable {
    Spec(Box<Spec>),
    Nothing,
    Blocked(Block),
}

fn usable(stack: &StackName, text: Option<&str>, allowed: &AllowedDomains) -> Usable {
    let block = |code, because: String| Usable::Blocked(Block { code, because });
    let Some(text) = text else {
        return block(BlockCode::SpecMissing, format!("there is no spec for {stack}"));
    };
    let spec = match spec::parse(text, allowed) {
        Ok(spec) => spec,
        Err(errors) => {
            return block(BlockCode::SpecInvalid, format!("the spec of {stack} is not acceptable: {errors}"));
        }
    };
    if spec.stack != *stack {
        return block(BlockCode::SpecInvalid, format!("the spec under the name {stack} is for {}", spec.stack));
    }
    match spec.state {
        State::Absent => Usable::Nothing,
        State::Present => Usable::Spec(Box::new(spec)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use espalier_domain::id::{Epoch, Generation};
    use espalier_domain::work::DeliveryAction;
    use time::Duration;

    fn id(last: char) -> TargetId {
        TargetId::parse(format!("i-0000000000000000{last}")).unwrap()
    }

    fn node_of(last: char) -> NodeId {
        NodeId::of(&id(last)).unwrap()
    }

    fn attempt(last: char) -> AttemptRecord {
        AttemptRecord {
            target: id(last),
            generation: Generation(1),
            attempt: 1,
            epoch: Epoch(1),
            action: DeliveryAction::Install,
            asked: None,
            begun_at: OffsetDateTime::UNIX_EPOCH,
            leaf_ends_at: OffsetDateTime::UNIX_EPOCH,
            command_id: Some("c-1".into()),
            ended: None,
        }
    }

    #[test]
    fn a_target_is_what_the_spec_wants_with_what_is_known_of_it() {
        let node = Node { online: true, address: Some("10.0.0.7".parse().unwrap()), agent: None };
        let fleet = Fleet {
            wanted: ['a', 'b', 'c'].map(|last| (id(last), NodeId::of(&id(last)))).into(),
            opted_in: ['a', 'd'].map(node_of).into(),
            nodes: [(node_of('a'), node.clone()), (node_of('b'), node.clone()), (node_of('d'), node)].into(),
        };
        let found = targets(fleet, vec![attempt('a'), attempt('d')], Vec::new(), OwnLeaves::new());
        let seen: Vec<_> =
            found.iter().map(|t| (t.target.clone(), t.opted_in, t.managed.is_some(), t.attempts.len())).collect();
        assert_eq!(seen, [(id('a'), true, true, 1), (id('b'), false, true, 0), (id('c'), false, false, 0)]);
    }

    #[test]
    fn an_address_has_its_nodes_agent_and_consent_and_without_a_node_nobodys() {
        let (address, other) = (TargetId::parse("10.0.1.5").unwrap(), TargetId::parse("10.0.1.6").unwrap());
        let node = NodeId::parse("mi-0000000000000000a").unwrap();
        let fleet = Fleet {
            wanted: [(address, Some(node.clone())), (other, None)].into(),
            opted_in: [node.clone()].into(),
            nodes: [(node, Node { online: true, address: Some("192.0.2.1".parse().unwrap()), agent: None })].into(),
        };
        let found = targets(fleet, Vec::new(), Vec::new(), OwnLeaves::new());
        assert_eq!(
            found[0].endpoint(443),
            "10.0.1.5:443".parse().ok(),
            "where the spec says, not where the agent thinks"
        );
        assert!(found[0].opted_in && found[0].managed.as_ref().is_some_and(|managed| managed.online));
        assert_eq!((found[1].node.clone(), found[1].managed.clone(), found[1].opted_in), (None, None, false));
        assert_eq!(found[1].endpoint(443), "10.0.1.6:443".parse().ok());
    }

    #[test]
    fn only_open_sent_and_recent_attempts_are_asked_about() {
        let begun = OffsetDateTime::UNIX_EPOCH;
        assert!(is_asked(&attempt('a'), begun));
        assert!(!is_asked(&attempt('a'), begun + Duration::hours(1)));
        assert!(!is_asked(&AttemptRecord { command_id: None, ..attempt('a') }, begun));
    }

    #[test]
    fn without_a_readable_spec_there_is_a_block_and_no_plan() {
        let stack = StackName::parse("payments").unwrap();
        let allowed = AllowedDomains::parse("example.com").unwrap();
        for (text, code) in [(None, BlockCode::SpecMissing), (Some("{"), BlockCode::SpecInvalid)] {
            match usable(&stack, text, &allowed) {
                Usable::Blocked(block) => assert_eq!(block.code, code),
                other => panic!("{other:?}"),
            }
        }
    }
}
