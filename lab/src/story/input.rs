//! The scenario of bad input: mistakes, nonsense, strangers and dangerous wishes are answered with a reason, and nothing
//! that stands is changed.
//!
//! Documents are written past the event source on purpose: every question here is asked once, by the lab, and what the
//! product calls until it has answered is what is judged.

mod events;
mod mistakes;
mod strangers;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{PROBER, STACK, StoryError, Tale, judge, look};
use crate::aws::Endpoint;
use crate::gateway::Passed;
use crate::report::Served;
use crate::ui::Ui;

/// Calls that only look, by how their names begin.
const LOOKING: [&str; 6] = ["Get", "List", "Describe", "Query", "BatchGet", "Scan"];

/// The one call that says what is wrong.
const SAYING: &str = "eventbridge.PutEvents";

/// Tells the scenario; the recipe's stack serves before and after.
pub(super) async fn told(tale: &mut Tale, ui: &Ui) -> Result<(), StoryError> {
    // Handshakes of before are noted by the next look, whoever asks for it: that is no doing of what is asked here.
    look::provision(tale).await?;
    let (resources, served) = (tale.world.lattice.resources(), served(tale).await?);
    mistakes::ten(tale, ui.phase("ten mistakes")).await?;
    mistakes::unreadable(tale, ui.phase("no spec")).await?;
    mistakes::protected(tale, ui.phase("protected")).await?;
    events::corpus(tale, ui.phase("nonsense")).await?;
    strangers::all(tale, ui.phase("strangers")).await?;
    still_stands(tale, &resources, &served).await?;
    // Blocks were asked for here: nobody needs to hear of them later.
    while !tale.watch.hear().await?.is_empty() {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

async fn served(tale: &Tale) -> Result<Vec<Served>, StoryError> {
    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    judge::served(&tale.world, PROBER, &tale.roots, &generations).await
}

/// The recipe's resources, and the certificates its targets serve, are those from before.
async fn still_stands(
    tale: &Tale,
    resources: &BTreeMap<String, BTreeMap<String, String>>,
    before: &[Served],
) -> Result<(), StoryError> {
    let now = tale.world.lattice.resources();
    if now != *resources {
        return Err(StoryError::Unmet(format!("the Lattice estate was {resources:?} and is {now:?}")));
    }
    let after = served(tale).await?;
    match before.iter().zip(&after).find(|(old, new)| old.serial != new.serial) {
        Some((old, new)) => {
            Err(StoryError::Unmet(format!("{} served {} and serves {}", old.target, old.serial, new.serial)))
        }
        None => Ok(()),
    }
}

/// What the product called since a moment.
struct Since(usize);

impl Since {
    fn now(tale: &Tale) -> Self {
        Self(tale.world.gateway.passed().len())
    }

    /// Fails if anything was changed; saying so on the bus, and noting that it was said, is no change.
    fn nothing_changed(&self, tale: &Tale, what: &str) -> Result<(), StoryError> {
        let changed = self.passed(tale).filter(|passed| changes(&passed.operation) && !notes(passed));
        let changed: Vec<String> = changed.map(|passed| passed.operation).collect();
        if changed.is_empty() { Ok(()) } else { Err(StoryError::Unmet(format!("{what} led to {changed:?}"))) }
    }

    /// Fails if anything at all was called, of whichever service.
    fn nothing_called(&self, tale: &Tale, what: &str) -> Result<(), StoryError> {
        let called: Vec<String> = self.passed(tale).map(|passed| passed.operation).collect();
        if called.is_empty() { Ok(()) } else { Err(StoryError::Unmet(format!("{what} led to {called:?}"))) }
    }

    fn passed(&self, tale: &Tale) -> impl Iterator<Item = Passed> {
        tale.world.gateway.passed().into_iter().skip(self.0)
    }
}

fn changes(call: &str) -> bool {
    let operation = call.split('.').nth(1).unwrap_or_default();
    call != SAYING && !LOOKING.iter().any(|looking| operation.starts_with(looking))
}

/// Whether a call writes down what a person was told, or what was heard of a certificate, and nothing else.
fn notes(passed: &Passed) -> bool {
    let request: Value = serde_json::from_slice(&passed.request).unwrap_or_default();
    let item = &request["Item"];
    passed.operation == "dynamodb.PutItem" && (item["sk"]["S"] == "TOLD" || item["pk"]["S"] == "HEARD")
}

/// Asks a function; its answer, or the error it answered with.
async fn ask(tale: &Tale, function: &str, payload: &Value) -> Result<Value, StoryError> {
    Ok(tale.watch.invoke(&tale.function(function), payload).await?)
}

/// Whether a function's answer is a block with this code; its sentence.
fn blocked(answer: &Value, code: &str) -> Result<String, StoryError> {
    let blocks: Vec<&Value> = answer["blocks"].as_array().into_iter().flatten().collect();
    match blocks.iter().find(|block| block["code"] == code) {
        Some(block) if answer["outcome"] == "blocked" => Ok(block["because"].as_str().unwrap_or_default().to_owned()),
        Some(_) | None => Err(StoryError::Unmet(format!("blocked with {code} was expected, not {answer}"))),
    }
}

/// Writes a stack's spec, or takes it away, without the event that would announce it.
async fn write_spec(tale: &Tale, stack: &str, text: Option<&str>) -> Result<(), StoryError> {
    let ssm = Endpoint::new("ssm", &tale.world.ministack);
    let name = format!("/espalier-spec/{stack}");
    match text {
        Some(text) => {
            let put = json!({"Name": name, "Type": "String", "Overwrite": true, "Value": text});
            ssm.json("AmazonSSM.PutParameter", &put).await?;
        }
        None => {
            ssm.json("AmazonSSM.DeleteParameter", &json!({"Name": name})).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_and_saying_change_nothing() {
        for call in ["ssm.GetParametersByPath", "ec2.DescribeVpcs", "dynamodb.Query", "vpc_lattice.ListTargets", SAYING]
        {
            assert!(!changes(call), "{call}");
        }
        for call in ["vpc_lattice.DeleteService", "sfn.StartExecution", "dynamodb.PutItem", "vpc_lattice.TagResource"] {
            assert!(changes(call), "{call}");
        }
    }

    #[test]
    fn only_what_was_told_may_be_noted() {
        let put =
            |operation: &str, sk: &str| Passed::well(operation, json!({"Item": {"sk": {"S": sk}}}).to_string(), "");
        assert!(notes(&put("dynamodb.PutItem", "TOLD")));
        assert!(!notes(&put("dynamodb.PutItem", "EPOCH")) && !notes(&put("dynamodb.TransactWriteItems", "TOLD")));
    }

    #[test]
    fn only_a_block_with_the_code_is_one() {
        let answer = json!({"outcome": "blocked", "blocks": [{"code": "Foreign", "because": "somebody's"}]});
        assert_eq!(blocked(&answer, "Foreign").unwrap(), "somebody's");
        assert!(blocked(&answer, "SpecInvalid").is_err());
        let going_on = json!({"outcome": "work", "blocks": answer["blocks"]});
        assert!(blocked(&going_on, "Foreign").is_err());
    }
}
