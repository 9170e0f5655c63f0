//! One delivery: record the intent, send the command, note its id.

use std::collections::BTreeSet;
use std::time::Duration;

use espalier_aws::command::{Commands, Order};
use espalier_aws::error::{AwsError, Kind};
use espalier_aws::ledger::{Begun, Ledger};
use espalier_domain::failure::chain;
use espalier_domain::id::{NodeId, Nonce, Scope};
use espalier_domain::record::{AttemptEnd, AttemptRecord, GenerationRecord};
use espalier_domain::spec::{Custody, KeyType};
use espalier_domain::work::{DeliverItem, DeliveryAction, PAGE, WorkResult};
use espalier_edge::EdgeError;
use espalier_pki::request;
use time::OffsetDateTime;

/// How long an instance may take to pick the command up, in seconds. With the document's own execution timeout it
/// stays below the deadline after which an attempt is given up (`domain::rotation::policy::COMMAND_DEADLINE`).
const DELIVERY_TIMEOUT_S: u32 = 300;

/// The pauses after which a command is tried again that Run Command refused for its rate, beyond the SDK's own: AWS does not
/// publish that rate.
const THROTTLED_S: [u32; 4] = [1, 2, 4, 8];

/// The word an attempt ends with that was never sent: the same as Run Command's for a target it could not reach, so
/// that it is tried again and never counted against the target.
const NOT_SENT: &str = "Undeliverable";

/// The installer document.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// Its name.
    pub(crate) name: String,
    /// The version to run; the default one when absent.
    pub(crate) version: Option<String>,
}

/// What the command is about.
#[derive(Debug)]
enum About {
    /// A leaf. Where each target has its own, one command says it of all: each host finds its own by its node's id.
    Leaf { parameter: String, fingerprint: String },
    /// A key that each host is to make for itself, and the word by which its answer is known.
    Key { key_type: KeyType, nonce: Nonce },
}

/// What a delivery works with.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) ledger: Ledger,
    pub(crate) commands: Commands,
    pub(crate) document: Document,
}

impl Delivery {
    /// Sends the item's command unless its attempts have been begun before.
    pub(crate) async fn deliver(&self, item: &DeliverItem, now: OffsetDateTime) -> Result<WorkResult, EdgeError> {
        let receivers = check(item)?;
        let generation = self.ledger.generation(&item.stack, item.generation).await?;
        let generation = generation.filter(|record| record.scope == item.scope).ok_or_else(|| {
            let (number, scope, stack) = (item.generation, &item.scope, &item.stack);
            EdgeError::conflict(format!("generation {number} of {stack}, of scope {scope}, is not in the ledger"))
        })?;
        let about = self.about(item, &receivers, &generation).await?;
        let attempts = match &about {
            About::Leaf { .. } => item.attempts(&generation, now),
            About::Key { nonce, .. } => item.preparations(&generation, &receivers, nonce, now),
        };
        match self.ledger.begin_attempts(&item.stack, &attempts).await? {
            Begun::Ours => {}
            Begun::Taken(found) => return already(item, &found),
        }
        match self.send(item, receivers, &about).await {
            Ok(command_id) => {
                self.ledger.note_command(&item.stack, &attempts, &command_id).await?;
                tracing::info!(stack = %item.stack, generation = item.generation.0, command_id, "command sent");
                Ok(WorkResult::Sent { stack: item.stack.clone(), command_id })
            }
            Err(error) => {
                if was_not_sent(&error) {
                    self.close(item, &attempts, &error, now).await?;
                }
                Err(error.into())
            }
        }
    }

    /// What the command is about.
    async fn about(
        &self,
        item: &DeliverItem,
        receivers: &[NodeId],
        generation: &GenerationRecord,
    ) -> Result<About, EdgeError> {
        match item.action {
            DeliveryAction::Install | DeliveryAction::Confirm => {
                let fingerprint = self.fingerprint(item, receivers, generation).await?;
                Ok(About::Leaf { parameter: generation.parameter.clone(), fingerprint })
            }
            DeliveryAction::Prepare => {
                let key_type =
                    generation.key_type.filter(|_| generation.custody == Custody::Target).ok_or_else(|| {
                        let (number, stack) = (item.generation, &item.stack);
                        EdgeError::refused(format!(
                            "the keys of generation {number} of {stack} are not made on its targets"
                        ))
                    })?;
                let nonce = request::nonce().map_err(|error| EdgeError::broken(chain(&error)))?;
                Ok(About::Key { key_type, nonce })
            }
        }
    }

    /// What the command says of the leaf's fingerprint: the one, or each receiver's own.
    async fn fingerprint(
        &self,
        item: &DeliverItem,
        receivers: &[NodeId],
        generation: &GenerationRecord,
    ) -> Result<String, EdgeError> {
        if !generation.scope.is_each() {
            return Ok(generation.fingerprint.clone());
        }
        let mut own = Vec::with_capacity(receivers.len());
        for node in receivers {
            let leaf = self.ledger.leaf(&item.stack, &Scope::of(node), item.generation).await?.ok_or_else(|| {
                EdgeError::conflict(format!("{node} has no leaf of generation {} of {}", item.generation, item.stack))
            })?;
            own.push(format!("{node}={}", leaf.fingerprint));
        }
        Ok(own.join(","))
    }

    /// Sends the order, patiently: its hosts have places in the line, and a command that was not sent keeps its stack's
    /// wave waiting. What they wait for us they wait the less for their turn.
    async fn send(&self, item: &DeliverItem, receivers: Vec<NodeId>, about: &About) -> Result<String, AwsError> {
        let mut item = item.clone();
        for pause_s in THROTTLED_S {
            match self.commands.send(order(&self.document, &item, receivers.clone(), about)).await {
                Err(error) if error.kind == Kind::Throttled => {}
                sent => return sent,
            }
            tokio::time::sleep(Duration::from_secs(u64::from(pause_s))).await;
            item.start_s = item.start_s.saturating_sub(pause_s);
        }
        self.commands.send(order(&self.document, &item, receivers, about)).await
    }

    /// Ends attempts whose command was certainly not sent, so that nobody waits for them.
    async fn close(
        &self,
        item: &DeliverItem,
        attempts: &[AttemptRecord],
        error: &AwsError,
        now: OffsetDateTime,
    ) -> Result<(), EdgeError> {
        let end = AttemptEnd { installed: false, code: NOT_SENT.into(), detail: chain(error), at: now };
        for attempt in attempts {
            self.ledger.end_attempt(&item.stack, attempt, &end).await?;
        }
        Ok(())
    }
}

/// Whom the command goes to, if the item can be one command.
fn check(item: &DeliverItem) -> Result<Vec<NodeId>, EdgeError> {
    if item.targets.is_empty() || item.targets.len() > PAGE {
        return Err(EdgeError::invalid(format!(
            "`targets`: {} instances; 1 to {PAGE} go in one command",
            item.targets.len()
        )));
    }
    // The same instance twice would be one attempt twice, which the ledger's transaction refuses as a whole.
    if item.targets.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(EdgeError::invalid("`targets`: not sorted, or an instance is named twice"));
    }
    if item.start_s > 999 {
        return Err(EdgeError::invalid(format!("`startS`: {}; the installer waits up to 999 seconds", item.start_s)));
    }
    for (field, number) in [("confirmS", item.confirm_s), ("marginHours", item.margin_hours)] {
        if number > 9_999 {
            return Err(EdgeError::invalid(format!("`{field}`: {number}; the installer takes up to 9999")));
        }
    }
    if item.attempt == 0 || item.attempt > 9_999 {
        return Err(EdgeError::invalid(format!("`attempt`: {}; attempts are counted from 1 to 9999", item.attempt)));
    }
    let receivers = item
        .receivers()
        .ok_or_else(|| EdgeError::invalid("`nodes`: one for each target, since an address takes no command"))?;
    // One installer on a host at a time.
    if receivers.iter().collect::<BTreeSet<_>>().len() < receivers.len() {
        return Err(EdgeError::invalid("`nodes`: a node is named twice"));
    }
    Ok(receivers)
}

/// The answer of an invocation that finds its attempts begun by another: the other's command, if it is known. A
/// second command is never sent, even when the first may have been lost; the planner gives the attempt up in time.
fn already(item: &DeliverItem, found: &[AttemptRecord]) -> Result<WorkResult, EdgeError> {
    match found.iter().find_map(|attempt| attempt.command_id.clone()) {
        Some(command_id) => Ok(WorkResult::Sent { stack: item.stack.clone(), command_id }),
        None => Err(EdgeError::conflict(format!(
            "attempt {} at generation {} of {} has been begun by another invocation",
            item.attempt, item.generation, item.stack
        ))),
    }
}

/// Whether the service said that it did not take the command. A timeout or a server error leaves that open.
fn was_not_sent(error: &AwsError) -> bool {
    match error.kind {
        Kind::Throttled | Kind::Conflict | Kind::NotFound | Kind::Denied | Kind::Invalid | Kind::Quota => true,
        Kind::Busy | Kind::Broken => false,
    }
}

fn order(document: &Document, item: &DeliverItem, nodes: Vec<NodeId>, about: &About) -> Order {
    let mut parameters = vec![
        ("Action", format!("{:?}", item.action)),
        ("Stack", item.stack.to_string()),
        ("Generation", item.generation.to_string()),
    ];
    match about {
        About::Leaf { parameter, fingerprint } => parameters.extend([
            ("ParameterName", parameter.clone()),
            ("Fingerprint", fingerprint.clone()),
            ("StartSeconds", item.start_s.to_string()),
            ("WindowSeconds", item.window_s.to_string()),
            ("ConfirmSeconds", item.confirm_s.to_string()),
            ("MarginHours", item.margin_hours.to_string()),
        ]),
        About::Key { key_type, nonce } => {
            parameters.extend([("KeyType", key_type.to_string()), ("Nonce", nonce.to_string())]);
        }
    }
    Order {
        document: document.name.clone(),
        version: document.version.clone(),
        nodes,
        parameters,
        comment: format!(
            "espalier {}#{} generation {} attempt {}",
            item.stack, item.epoch, item.generation, item.attempt
        ),
        delivery_timeout_s: DELIVERY_TIMEOUT_S,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use espalier_domain::failure::Word;
    use espalier_domain::id::{Epoch, Generation, StackName, TargetId};
    use espalier_domain::rotation::pace::LINE_S;
    use espalier_domain::rotation::policy::COMMAND_DEADLINE;

    fn item() -> DeliverItem {
        DeliverItem {
            stack: StackName::parse("abcdefghijklmnopqrstuvwx").unwrap(),
            epoch: Epoch(u32::MAX),
            action: DeliveryAction::Install,
            scope: Scope::shared(),
            generation: Generation(u32::MAX),
            targets: vec![
                TargetId::parse("i-0000000000000000a").unwrap(),
                TargetId::parse("i-0000000000000000b").unwrap(),
            ],
            nodes: Vec::new(),
            attempt: 9_999,
            start_s: 7,
            window_s: 2,
            confirm_s: 1_800,
            margin_hours: 28,
        }
    }

    fn generation() -> GenerationRecord {
        serde_json::from_value(serde_json::json!({
            "scope": "shared", "generation": 3, "parameter": "/espalier-leaf/payments/shared/3", "serial": "0a",
            "fingerprint": "ab".repeat(32), "dnsNames": ["pay.example.com"], "notBefore": "2026-11-21T00:00:00Z",
            "notAfter": "2026-11-28T00:00:00Z", "mintedAt": "2026-11-21T00:00:00Z", "authority": "a", "because": "missing",
        }))
        .unwrap()
    }

    #[test]
    fn a_command_carries_identifiers_and_a_comment_that_fits() {
        let nodes = check(&item()).unwrap();
        assert_eq!(
            nodes.iter().map(NodeId::as_str).collect::<Vec<_>>(),
            ["i-0000000000000000a", "i-0000000000000000b"]
        );
        let about = About::Leaf { parameter: generation().parameter, fingerprint: generation().fingerprint };
        let document = Document { name: "installer".into(), version: None };
        let order = order(&document, &item(), nodes.clone(), &about);
        assert_eq!(order.parameters[0], ("Action", "Install".to_owned()));
        assert_eq!(order.parameters[3], ("ParameterName", "/espalier-leaf/payments/shared/3".to_owned()));
        assert_eq!(order.parameters[5], ("StartSeconds", "7".to_owned()));
        assert_eq!(order.parameters[7], ("ConfirmSeconds", "1800".to_owned()));
        assert_eq!(order.parameters[8], ("MarginHours", "28".to_owned()));
        assert_eq!(order.parameters.len(), 9);
        assert!(order.comment.len() <= 100, "{}", order.comment);
        let about = About::Key { key_type: KeyType::Rsa4096, nonce: Nonce::parse("5a".repeat(32)).unwrap() };
        let prepare =
            super::order(&document, &DeliverItem { action: DeliveryAction::Prepare, ..item() }, nodes, &about);
        let own: Vec<_> = prepare.parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(own[0], ("Action", "Prepare"));
        assert_eq!(own[3..], [("KeyType", "RSA_4096"), ("Nonce", "5a".repeat(32).as_str())]);
        // The document's executionTimeout (600 s) comes on top, and has room for the whole line, the fetch's own two
        // minutes and as much again.
        const { assert!(LINE_S + 2 * 120 < 600) }
        assert!(i64::from(DELIVERY_TIMEOUT_S) + 600 < COMMAND_DEADLINE.whole_seconds());
    }

    #[test]
    fn what_cannot_be_one_command_is_refused_before_anything_is_written() {
        assert!(check(&item()).is_ok() && check(&DeliverItem { action: DeliveryAction::Confirm, ..item() }).is_ok());
        let late = DeliverItem { start_s: 1_000, ..item() };
        for item in [DeliverItem { confirm_s: 10_000, ..item() }, DeliverItem { margin_hours: 10_000, ..item() }, late]
        {
            assert_eq!(check(&item).unwrap_err().word, Word::Invalid);
        }
        let twice = vec![item().targets[0].clone(), item().targets[0].clone()];
        for targets in [vec![], twice] {
            assert_eq!(check(&DeliverItem { targets, ..item() }).unwrap_err().word, Word::Invalid);
        }
        assert_eq!(check(&DeliverItem { attempt: 0, ..item() }).unwrap_err().word, Word::Invalid);
    }

    #[test]
    fn an_address_is_installed_on_by_the_node_that_answers_there() {
        let targets = vec![TargetId::parse("10.0.1.5").unwrap(), TargetId::parse("10.0.1.6").unwrap()];
        let node = |id: &str| NodeId::parse(id).unwrap();
        let nodes = vec![node("mi-0abc1234def567890"), node("i-0000000000000000a")];
        let named = DeliverItem { targets, nodes: nodes.clone(), ..item() };
        assert_eq!(check(&named), Ok(nodes.clone()));
        for nodes in [Vec::new(), nodes[..1].to_vec(), vec![nodes[0].clone(), nodes[0].clone()]] {
            assert_eq!(check(&DeliverItem { nodes, ..named.clone() }).unwrap_err().word, Word::Invalid);
        }
    }

    #[test]
    fn a_duplicate_answers_with_the_command_that_is_known_and_else_gives_way() {
        let mut found = item().attempts(&generation(), OffsetDateTime::UNIX_EPOCH);
        assert_eq!(already(&item(), &found).unwrap_err().word, Word::Conflict);
        found[1].command_id = Some("c-1".into());
        let sent = WorkResult::Sent { stack: item().stack, command_id: "c-1".into() };
        assert_eq!(already(&item(), &found), Ok(sent));
    }

    #[test]
    fn only_a_clear_refusal_ends_an_attempt_at_once() {
        for code in ["InvalidInstanceId", "ThrottlingException", "AccessDeniedException"] {
            assert!(was_not_sent(&AwsError::coded("ssm:SendCommand", code, "")), "{code}");
        }
        assert!(!was_not_sent(&AwsError::coded("ssm:SendCommand", "InternalServerError", "")));
        assert!(!was_not_sent(&AwsError::unexpected("ssm:SendCommand", "the answer has no command id")));
    }
}
