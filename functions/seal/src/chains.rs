//! The chains: each is looked at, and gets the segment that follows. One that cannot be sealed keeps no other from it.

use std::collections::BTreeSet;

use espalier_aws::ledger::Ledger;
use espalier_aws::sealing::SealingKey;
use espalier_aws::specs::Specs;
use espalier_aws_s3::{Bucket, Kept};
use espalier_domain::failure::Word;
use espalier_domain::id::StackName;
use espalier_domain::inventory::{Chain, Draft, Facts, Head, Row, Segment, is_due, with_new_leaves};
use espalier_domain::plan::{Outcome, OutcomeKind, ReportedStep};
use espalier_domain::record::TurnRecord;
use espalier_edge::EdgeError;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::asked::Asked;

/// What the chains are made with.
#[derive(Debug)]
pub(crate) struct Chains {
    pub(crate) ledger: Ledger,
    pub(crate) specs: Specs,
    pub(crate) bucket: Bucket,
    pub(crate) key: SealingKey,
}

/// Where the evidence is, and how far it goes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    #[serde(flatten)]
    outcome: Outcome<Value>,
    /// The bucket.
    bucket: String,
    /// The sealing key, by ARN.
    key: String,
    /// The newest segment of each chain.
    heads: Vec<Head>,
}

/// What became of a chain.
struct Done {
    head: Option<Head>,
    step: Option<ReportedStep>,
}

impl Done {
    /// The chain ends with this, if there is one, as before.
    fn nothing(last: Option<Segment>) -> Self {
        Self { head: last.map(|last| last.head()), step: None }
    }
}

impl Chains {
    pub(crate) async fn answer(&self, asked: Asked, now: OffsetDateTime) -> Result<Told, EdgeError> {
        // Damage to one chain keeps no other from being sealed, not even damage to the one that names them all.
        let plane = self.last(&Chain::Plane).await;
        let last = plane.as_ref().ok().and_then(Option::as_ref);
        let known: Vec<Head> = last.iter().flat_map(|last| &last.rows).filter_map(head).cloned().collect();
        let (authorities, turns) = (self.ledger.authorities().await?, self.ledger.turns().await?);
        let (mut heads, mut steps, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for stack in self.stacks(&known).await? {
            let chain = Chain::Stack(stack.clone());
            let known_head = known.iter().find(|head| head.chain == chain);
            match Box::pin(self.stack(&stack, known_head, &turns, asked, now)).await {
                Ok(done) => {
                    heads.extend(done.head);
                    steps.extend(done.step);
                }
                Err(error) => {
                    tracing::warn!(%stack, word = %error.word, error = error.text, "the chain was not sealed");
                    // What was sealed of it stays sealed.
                    heads.extend(known_head.cloned());
                    failures.push(EdgeError { word: error.word, text: format!("{chain}: {}", error.text) });
                }
            }
        }
        let acknowledgements = self.ledger.acknowledgements().await?;
        let facts = Facts { authorities, turns, acknowledgements, heads, ..Facts::default() };
        let sealed = match plane {
            Ok(last) if !is_wanted(asked, last.as_ref(), now) => Ok(Done::nothing(last)),
            Ok(last) => self.chain(&Chain::Plane, last, &facts, now).await,
            Err(error) => Err(error),
        };
        let newest = match sealed {
            Ok(done) => {
                steps.extend(done.step);
                done.head
            }
            Err(error) => {
                failures.push(EdgeError { word: error.word, text: format!("{}: {}", Chain::Plane, error.text) });
                None
            }
        };
        if let Some(error) = gravest(failures) {
            return Err(error);
        }
        let heads = facts.heads.into_iter().chain(newest).collect();
        let outcome = Outcome { steps, ..Outcome::bare(OutcomeKind::Converged, None) };
        Ok(Told { outcome, bucket: self.bucket.name().to_owned(), key: self.key.arn().to_owned(), heads })
    }

    /// All that have a spec, and all that ever had a chain.
    async fn stacks(&self, known: &[Head]) -> Result<BTreeSet<StackName>, EdgeError> {
        let mut stacks: BTreeSet<StackName> =
            self.specs.all().await?.into_iter().filter_map(|found| StackName::parse(found.name).ok()).collect();
        stacks.extend(known.iter().filter_map(|head| match &head.chain {
            Chain::Stack(stack) => Some(stack.clone()),
            Chain::Plane => None,
        }));
        Ok(stacks)
    }

    async fn stack(
        &self,
        stack: &StackName,
        known: Option<&Head>,
        turns: &[TurnRecord],
        asked: Asked,
        now: OffsetDateTime,
    ) -> Result<Done, EdgeError> {
        let chain = Chain::Stack(stack.clone());
        let last = self.last(&chain).await?;
        is_whole(&chain, last.as_ref(), known)?;
        if !is_wanted(asked, last.as_ref(), now) {
            return Ok(Done::nothing(last));
        }
        let (generations, mut leaves) = (self.ledger.generations(stack).await?, Vec::new());
        for generation in with_new_leaves(&generations, last.as_ref()) {
            leaves.extend(self.ledger.leaves(stack, generation).await?);
        }
        let facts = Facts {
            generations,
            leaves,
            discarded: self.ledger.discarded(stack).await?,
            attempts: self.ledger.attempts(stack).await?,
            sightings: self.ledger.sightings(stack).await?,
            emergencies: self.ledger.emergencies(stack).await?,
            authors: self.specs.authors(stack).await?,
            turns: turns.to_vec(),
            ..Facts::default()
        };
        self.chain(&chain, last, &facts, now).await
    }

    /// The newest segment of a chain, if it is one of ours: on anything else nothing is built.
    async fn last(&self, chain: &Chain) -> Result<Option<Segment>, EdgeError> {
        let Some(last) = self.bucket.newest(chain).await? else { return Ok(None) };
        if self.key.has_sealed(&last).await? {
            return Ok(Some(last));
        }
        let number = last.header.number;
        let text = format!("segment {number} of {chain} is not sealed by {}: see docs/evidence.md", self.key.arn());
        Err(EdgeError::broken(text))
    }

    async fn chain(
        &self,
        chain: &Chain,
        last: Option<Segment>,
        facts: &Facts,
        now: OffsetDateTime,
    ) -> Result<Done, EdgeError> {
        // A stack that has nothing yet needs no chain; the control plane's is there from the first day.
        let is_nothing = last.is_none() && facts.is_empty() && *chain != Chain::Plane;
        if is_nothing {
            return Ok(Done::nothing(last));
        }
        if last.as_ref().is_some_and(|last| facts.is_behind(&last.carried)) {
            let text =
                "the ledger knows fewer generations than were sealed: it is not the one of before (docs/evidence.md)";
            return Err(EdgeError::broken(text));
        }
        let draft = Draft::new(chain, last.as_ref(), facts, now).map_err(|error| unwritten(&error))?;
        let seal = self.key.seal(&draft).await?;
        let (place, text) = (draft.place(), draft.sealed(&seal).map_err(|error| unwritten(&error))?);
        let (number, rows) = (place.number, draft.count());
        match self.bucket.put(&place, &text).await? {
            Kept::Ours => {
                tracing::info!(%chain, number, rows, hash = draft.head().hash, "sealed");
                let action = format!("+ Segment {chain} {number}");
                let step = ReportedStep { wave: 1, action, because: format!("{rows} rows since the last one") };
                Ok(Done { head: Some(draft.head()), step: Some(step) })
            }
            // Of two that seal at once one is first; what only the other one knew is in the segment after.
            Kept::Taken => Ok(Done::nothing(self.last(chain).await?)),
        }
    }
}

/// Whether a chain is to be sealed now.
fn is_wanted(asked: Asked, last: Option<&Segment>, now: OffsetDateTime) -> bool {
    match asked {
        Asked::Status => false,
        Asked::Seal => true,
        Asked::Sweep => is_due(last, now),
    }
}

/// A chain's newest segment is the one that the control plane's chain names, or a later one: else somebody has hidden or exchanged
/// segments, and what is built on the others is a second chain.
fn is_whole(chain: &Chain, last: Option<&Segment>, known: Option<&Head>) -> Result<(), EdgeError> {
    let Some(known) = known else { return Ok(()) };
    let head = last.map(Segment::head);
    if head.as_ref().is_some_and(|head| head.number > known.number || head == known) {
        return Ok(());
    }
    let number = head.map_or(0, |head| head.number);
    let text = format!(
        "{chain} ends with segment {number}, and {} was sealed as {}: see docs/evidence.md",
        known.number, known.hash
    );
    Err(EdgeError::broken(text))
}

fn head(row: &Row) -> Option<&Head> {
    if let Row::Head(head) = row { Some(head) } else { None }
}

fn unwritten(error: &serde_json::Error) -> EdgeError {
    EdgeError::broken(format!("a segment cannot be written: {error}"))
}

/// What needs a person first; all that failed in its text.
fn gravest(failures: Vec<EdgeError>) -> Option<EdgeError> {
    let passes = |error: &EdgeError| matches!(error.word, Word::Busy | Word::Conflict);
    let word = failures.iter().find(|error| !passes(error)).or(failures.first())?.word;
    let text = failures.into_iter().map(|error| error.text).collect::<Vec<_>>().join("; ");
    Some(EdgeError { word, text })
}
