//! What is written down of a command before it is sent.

use time::OffsetDateTime;

use super::DeliverItem;
use crate::id::{NodeId, Nonce, TargetId};
use crate::record::{AskedRecord, AttemptRecord, GenerationRecord};

impl DeliverItem {
    /// Whom the command goes to, in the order of the targets; nothing when the item does not say it of each.
    pub fn receivers(&self) -> Option<Vec<NodeId>> {
        if self.nodes.is_empty() {
            return self.targets.iter().map(NodeId::of).collect();
        }
        (self.nodes.len() == self.targets.len()).then(|| self.nodes.clone())
    }

    /// What is written down of it before anything is sent: one attempt for each target.
    /// `generation` is the record of the one that is delivered.
    pub fn attempts(&self, generation: &GenerationRecord, begun_at: OffsetDateTime) -> Vec<AttemptRecord> {
        let attempt = |target: &TargetId| AttemptRecord {
            target: target.clone(),
            generation: self.generation,
            attempt: self.attempt,
            epoch: self.epoch,
            action: self.action,
            asked: None,
            begun_at,
            leaf_ends_at: generation.not_after,
            command_id: None,
            ended: None,
        };
        self.targets.iter().map(attempt).collect()
    }

    /// The same of a command by which these receivers, in the order of the targets, are told to make a key each: what they answer is
    /// known by the nonce.
    pub fn preparations(
        &self,
        generation: &GenerationRecord,
        receivers: &[NodeId],
        nonce: &Nonce,
        begun_at: OffsetDateTime,
    ) -> Vec<AttemptRecord> {
        let asked = |node: &NodeId| Some(AskedRecord { node: node.clone(), nonce: nonce.clone() });
        let attempts = self.attempts(generation, begun_at).into_iter().zip(receivers);
        attempts.map(|(attempt, node)| AttemptRecord { asked: asked(node), ..attempt }).collect()
    }
}
