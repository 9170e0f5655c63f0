//! Gathers everything a decision may look at, anew for each look.

use std::collections::{BTreeMap, BTreeSet};

use espalier_aws::acm::Certificates;
use espalier_aws::command::Commands;
use espalier_aws::inventory::{Inventory, Node, Nodes, OPT_IN_TAG};
use espalier_aws::ledger::{EpochSeen, Ledger};
use espalier_aws::specs::Specs;
use espalier_domain::acm::{AcmEvidence, request};
use espalier_domain::failure::chain;
use espalier_domain::id::{InstanceId, Scope, StackName};
use espalier_domain::plan::{Block, BlockCode};
use espalier_domain::record::{AttemptRecord, GenerationRecord, MembershipRecord, SightingRecord};
use espalier_domain::rotation::evidence::{Evidence, Managed, TargetEvidence};
use espalier_domain::rotation::policy::Policy;
use espalier_domain::rotation::settle::{CommandSeen, settle};
use espalier_domain::spec::{self, AllowedDomains, Select, Spec, State};
use espalier_edge::EdgeError;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

/// A command that has not been seen to end by then will not be asked about any more: the planner has long given its
/// attempts up, and Run Command forgets.
const ASKED_WITHIN: Duration = Duration::hours(1);

/// Where evidence comes from.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) specs: Specs,
    pub(crate) allowed: AllowedDomains,
    pub(crate) ledger: Ledger,
    pub(crate) inventory: Inventory,
    pub(crate) commands: Commands,
    pub(crate) certificates: Certificates,
}

/// Whether what is learnt on the way may be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hands {
    /// Settled attempts go to the ledger.
    Writing,
    /// Nothing is changed anywhere (`"mode": "plan"`).
    Tied,
}

/// What a look at a stack found.
#[derive(Debug)]
pub(crate) enum Look {
    /// Evidence to plan with, and the epoch as it was read *before* the rest.
    Evidence(Box<Evidence>, Option<EpochSeen>),
    /// There is nothing to rotate: the stack is to be absent.
    Nothing,
    /// No plan can be made.
    Blocked(Block),
}

impl Sources {
    /// Looks at a stack. `inline` is a spec to plan with in place of the stored one.
    pub(crate) async fn look(
        &self,
        stack: &StackName,
        inline: Option<&Value>,
        hands: Hands,
        now: OffsetDateTime,
    ) -> Result<Look, EdgeError> {
        // First of all: a hint that arrives from here on makes the end of this epoch fail, so nothing seen later is
        // older than a hint that was taken for served.
        let epoch = self.ledger.epoch(stack).await?;
        let text = match inline {
            Some(spec) => Some(spec.to_string()),
            None => self.specs.get(stack).await?,
        };
        let spec = match usable(stack, text.as_deref(), &self.allowed) {
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
    ) -> Result<Evidence, EdgeError> {
        let stack = &spec.stack;
        let ledger = async {
            tokio::try_join!(
                self.ledger.generations(stack),
                self.ledger.attempts(stack),
                self.ledger.sightings(stack),
                self.ledger.authorities(),
                self.ledger.through(stack),
                self.ledger.look_since(stack),
                self.ledger.emergency(stack),
                self.ledger.membership(stack),
            )
            .map_err(EdgeError::from)
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
        let (generations, mut attempts, sightings, authorities, through, look_since, emergency, membership) = facts;
        let fleet = self.fleet(spec, membership.as_ref()).await?;
        self.settle(stack, &generations, &mut attempts, hands, now).await?;
        let generations = generations.into_iter().filter(|record| record.scope == Scope::shared()).collect();
        Ok(Evidence {
            now,
            policy,
            generations,
            targets: targets(fleet, attempts, sightings),
            authorities,
            acm,
            through,
            membership,
            look_since,
            emergency,
            epoch: epoch.map(|seen| seen.record.clone()),
        })
    }

    /// Asks Run Command about the attempts that are open, and ends those that are over.
    async fn settle(
        &self,
        stack: &StackName,
        generations: &[GenerationRecord],
        attempts: &mut [AttemptRecord],
        hands: Hands,
        now: OffsetDateTime,
    ) -> Result<(), EdgeError> {
        let mut commands: BTreeMap<String, BTreeMap<InstanceId, CommandSeen>> = BTreeMap::new();
        for attempt in attempts.iter_mut().filter(|attempt| is_asked(attempt, now)) {
            let Some(command_id) = &attempt.command_id else { continue };
            if !commands.contains_key(command_id) {
                commands.insert(command_id.clone(), self.commands.invocations(command_id).await?);
            }
            let seen = commands.get(command_id).and_then(|targets| targets.get(&attempt.target));
            let expected = generations.iter().find(|record| record.generation == attempt.generation);
            let Some(end) = seen.and_then(|seen| settle(attempt, stack, expected, seen, now)) else { continue };
            if hands == Hands::Writing {
                self.ledger.end_attempt(stack, attempt, &end).await?;
            }
            attempt.ended = Some(end);
        }
        Ok(())
    }

    async fn fleet(&self, spec: &Spec, membership: Option<&MembershipRecord>) -> Result<Fleet, EdgeError> {
        let opted_in = self.inventory.opted_in(&spec.stack).await?;
        match &spec.targets.select {
            Select::InstanceIds(ids) => self.by_id(ids.iter().cloned().collect(), opted_in).await,
            // Who is in a group is `provision`'s to read; Systems Manager does not know.
            Select::AutoScalingGroups(_) => {
                let members = membership.into_iter().flat_map(|all| all.members.keys().cloned());
                self.by_id(members.collect(), opted_in).await
            }
            Select::Tag { key, value } => {
                let opted: BTreeSet<InstanceId> = opted_in.keys().cloned().collect();
                let nodes = if key == OPT_IN_TAG && value == spec.stack.as_str() {
                    opted_in
                } else {
                    self.inventory.tagged(key, value).await?
                };
                Ok(Fleet { wanted: nodes.keys().cloned().collect(), opted_in: opted, nodes })
            }
        }
    }

    async fn by_id(&self, wanted: BTreeSet<InstanceId>, opted_in: Nodes) -> Result<Fleet, EdgeError> {
        let others: Vec<InstanceId> = wanted.iter().filter(|id| !opted_in.contains_key(*id)).cloned().collect();
        let mut nodes = self.inventory.managed(&others).await?;
        let opted: BTreeSet<InstanceId> = opted_in.keys().cloned().collect();
        nodes.extend(opted_in);
        Ok(Fleet { wanted, opted_in: opted, nodes })
    }

    /// The certificate that is served or followed. ACM that does not answer is no reason to stop delivering what is minted.
    async fn acm(&self, policy: &Policy) -> Option<AcmEvidence> {
        let served = policy.source.as_ref().and_then(|source| source.certificate.as_ref());
        let certificate = served.or(policy.follow.as_ref().map(|follow| &follow.certificate))?;
        match self.certificates.describe(certificate).await {
            Ok(evidence) => Some(evidence),
            Err(error) => {
                tracing::warn!(stack = %policy.stack, error = chain(&error), "the ACM certificate was not read");
                None
            }
        }
    }
}

/// Who is meant, who consented, and who can be reached.
#[derive(Debug)]
struct Fleet {
    wanted: BTreeSet<InstanceId>,
    opted_in: BTreeSet<InstanceId>,
    nodes: Nodes,
}

fn targets(fleet: Fleet, attempts: Vec<AttemptRecord>, sightings: Vec<SightingRecord>) -> Vec<TargetEvidence> {
    let mut attempts_of: BTreeMap<InstanceId, Vec<AttemptRecord>> = BTreeMap::new();
    for attempt in attempts {
        attempts_of.entry(attempt.target.clone()).or_default().push(attempt);
    }
    let mut sighting_of: BTreeMap<InstanceId, SightingRecord> =
        sightings.into_iter().map(|sighting| (sighting.target.clone(), sighting)).collect();
    let mut nodes = fleet.nodes;
    fleet
        .wanted
        .into_iter()
        .map(|target| TargetEvidence {
            wanted: true,
            opted_in: fleet.opted_in.contains(&target),
            managed: nodes.remove(&target).map(|Node { online, address }| Managed { online, address }),
            attempts: attempts_of.remove(&target).unwrap_or_default(),
            sighting: sighting_of.remove(&target),
            target,
        })
        .collect()
}

fn is_asked(attempt: &AttemptRecord, now: OffsetDateTime) -> bool {
    attempt.ended.is_none() && attempt.command_id.is_some() && now - attempt.begun_at < ASKED_WITHIN
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

    fn id(last: char) -> InstanceId {
        InstanceId::parse(format!("i-0000000000000000{last}")).unwrap()
    }

    fn attempt(last: char) -> AttemptRecord {
        AttemptRecord {
            target: id(last),
            generation: Generation(1),
            attempt: 1,
            epoch: Epoch(1),
            action: DeliveryAction::Install,
            begun_at: OffsetDateTime::UNIX_EPOCH,
            command_id: Some("c-1".into()),
            ended: None,
        }
    }

    #[test]
    fn a_target_is_what_the_spec_wants_with_what_is_known_of_it() {
        let node = Node { online: true, address: Some("10.0.0.7".parse().unwrap()) };
        let fleet = Fleet {
            wanted: [id('a'), id('b'), id('c')].into(),
            opted_in: [id('a'), id('d')].into(),
            nodes: [(id('a'), node.clone()), (id('b'), node.clone()), (id('d'), node)].into(),
        };
        let found = targets(fleet, vec![attempt('a'), attempt('d')], Vec::new());
        let seen: Vec<_> =
            found.iter().map(|t| (t.target.clone(), t.opted_in, t.managed.is_some(), t.attempts.len())).collect();
        assert_eq!(seen, [(id('a'), true, true, 1), (id('b'), false, true, 0), (id('c'), false, false, 0)]);
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
