//! The keys that targets made for themselves, as far as they may be certified.
//!
//! A request counts as what one node said to one command of ours: which command that was and what its nonce was is read from the
//! ledger, what was said from Run Command, and that the node is still one of the stack's from Systems Manager's inventory. Nothing
//! that somebody could hand to this function is believed.

use espalier_aws::command::Commands;
use espalier_aws::inventory::{Inventory, Nodes, OPT_IN_TAG};
use espalier_aws::ledger::Ledger;
use espalier_domain::failure::chain;
use espalier_domain::id::{NodeId, Scope};
use espalier_domain::record::{AskedRecord, AttemptEnd, AttemptRecord};
use espalier_domain::rotation::settle::{self, InstallerCode, REQUEST_LOST, REQUEST_REFUSED};
use espalier_domain::spec::KeyType;
use espalier_domain::work::{DeliveryAction, KeyRequest, MintItem};
use espalier_edge::EdgeError;
use espalier_pki::key::PublicKey;
use espalier_pki::request::{Asked, accept};
use time::OffsetDateTime;

/// Where requests are found.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) ledger: Ledger,
    pub(crate) commands: Commands,
    pub(crate) inventory: Inventory,
}

/// Why a target's request is not signed: how its preparation ends, and what is told.
struct Refusal {
    code: &'static str,
    why: String,
}

impl Requests {
    /// The keys of those among the item's nodes that have no leaf yet. Whose request is refused is left out, and the target is told to
    /// make another: one host keeps no other from its leaf.
    pub(crate) async fn accepted(
        &self,
        item: &MintItem,
        missing: &[Scope],
        key_type: KeyType,
        now: OffsetDateTime,
    ) -> Result<Vec<(Scope, Option<PublicKey>)>, EdgeError> {
        if item.requests.len() != item.nodes.len() {
            let text =
                format!("`requests`: the keys of {} are made on its targets, and none was asked for", item.stack);
            return Err(EdgeError::conflict(text));
        }
        let mut accepted = Vec::with_capacity(missing.len());
        if missing.is_empty() {
            return Ok(accepted);
        }
        let nodes = self.inventory.opted_in(&item.stack).await?;
        let mut unasked = None;
        for (node, request) in item.nodes.iter().zip(&item.requests) {
            let scope = Scope::of(node);
            if !missing.contains(&scope) {
                continue;
            }
            let Some((attempt, asked)) = self.attempt(item, node, request).await? else {
                unasked = Some((node, request.attempt));
                continue;
            };
            match self.key(item, &attempt, &asked, key_type, &nodes).await? {
                Ok(key) => accepted.push((scope, Some(key))),
                Err(refusal) => self.refuse(item, &attempt, refusal, now).await?,
            }
        }
        match unasked {
            // Planned from an old look: the next one plans anew for whoever is left out here.
            Some((node, number)) if accepted.is_empty() => {
                let (generation, stack) = (item.generation, &item.stack);
                let text =
                    format!("{node} was not prepared for generation {generation} of {stack} by delivery {number}");
                Err(EdgeError::conflict(text))
            }
            Some(_) | None => Ok(accepted),
        }
    }

    /// The delivery in which the node was told to make its key, if it has said that it did.
    async fn attempt(
        &self,
        item: &MintItem,
        node: &NodeId,
        request: &KeyRequest,
    ) -> Result<Option<(AttemptRecord, AskedRecord)>, EdgeError> {
        let KeyRequest { target, attempt: number } = request;
        let attempt = self.ledger.attempt(&item.stack, target, item.generation, *number).await?;
        let is_prepared = |attempt: &AttemptRecord| {
            let end = attempt.ended.as_ref().map(|end| end.code.as_str());
            attempt.action == DeliveryAction::Prepare && end == Some(InstallerCode::Prepared.as_str())
        };
        let prepared = attempt.filter(is_prepared).and_then(|attempt| Some((attempt.asked.clone()?, attempt)));
        Ok(prepared.filter(|(asked, _)| asked.node == *node).map(|(asked, attempt)| (attempt, asked)))
    }

    /// The key that the node asks to be certified.
    async fn key(
        &self,
        item: &MintItem,
        attempt: &AttemptRecord,
        asked: &AskedRecord,
        key_type: KeyType,
        nodes: &Nodes,
    ) -> Result<Result<PublicKey, Refusal>, EdgeError> {
        let AskedRecord { node, nonce } = asked;
        if !nodes.get(node).is_some_and(|known| known.online) {
            return Ok(Err(lost(format!("{node} is not online, or not tagged {OPT_IN_TAG}={} any more", item.stack))));
        }
        let seen = match &attempt.command_id {
            Some(command) => self.commands.invocation(command, node).await?,
            None => None,
        };
        let Some(seen) = seen else { return Ok(Err(lost(format!("Run Command does not know what {node} said")))) };
        let asked = Asked { stack: &item.stack, generation: item.generation, node, nonce, key_type };
        let request = settle::request(&item.stack, item.generation, &seen.output);
        let key = request.and_then(|request| accept(&request, &asked).map_err(|error| chain(&error)));
        Ok(key.map_err(|why| Refusal { code: REQUEST_REFUSED, why }))
    }

    /// Ends the preparation otherwise than it seemed to.
    async fn refuse(
        &self,
        item: &MintItem,
        attempt: &AttemptRecord,
        refusal: Refusal,
        now: OffsetDateTime,
    ) -> Result<(), EdgeError> {
        let Refusal { code, why } = refusal;
        tracing::warn!(
            stack = %item.stack, target_id = %attempt.target, generation = item.generation.0, code, why,
            "the request for a certificate is not signed"
        );
        let end = AttemptEnd { installed: false, code: code.into(), detail: why, at: now };
        Ok(self.ledger.refuse_request(&item.stack, attempt, &end).await?)
    }
}

fn lost(why: String) -> Refusal {
    Refusal { code: REQUEST_LOST, why }
}
