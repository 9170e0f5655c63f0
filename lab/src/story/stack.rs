//! The chapters about the Lattice estate: what would be done, doing it, doing nothing, undoing it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::world::World;
use super::{StoryError, Tale};
use crate::ui::Phase;

/// How long it may take until the estate is as wanted.
const LIMIT: Duration = Duration::from_secs(180);

/// A VPC that has nothing to do with the stack.
pub(super) async fn outsider_vpc(world: &World) -> Result<String, StoryError> {
    let create = ["ec2", "create-vpc", "--cidr-block", "127.2.0.0/16", "--output", "json"];
    let made = world.aws().run(&create).await?;
    Ok(made["Vpc"]["VpcId"].as_str().unwrap_or_default().to_owned())
}

/// `mode: plan` with the spec inline: says what it would do and does nothing.
pub(super) async fn plan(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let spec = tale.spec.clone();
    let answer = tale.would_do("provision", Some(&spec)).await?;
    let steps = steps(&answer);
    if steps.is_empty() {
        return Err(StoryError::Unmet(format!("provision plans nothing for a stack that does not exist: {answer}")));
    }
    show(&steps, &phase);
    let made = tale.world.lattice.resources();
    if !made.is_empty() {
        return Err(StoryError::Unmet(format!("a plan changed something: {made:?}")));
    }
    phase.done(&format!("{} steps planned for the first wave, nothing changed", steps.len()));
    Ok(())
}

/// The spec is put; its change event starts `provision`.
pub(super) async fn provision(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    tale.put_spec(false).await?;
    let steps = until_converged(tale, &phase).await?;
    show(&steps, &phase);
    let waves = steps.last().map_or(0, |step| step.wave);
    let faults = tale.world.lattice.faults();
    if !faults.is_empty() {
        return Err(StoryError::Unmet(format!("the Lattice stand-in found faults in itself: {faults:?}")));
    }
    phase.done(&format!("{} steps in {waves} waves, by the spec's own change event", steps.len()));
    Ok(())
}

/// Everything that is done until nothing is left to do; looks that wait for something in between are told as one.
async fn until_converged(tale: &Tale, phase: &Phase) -> Result<Vec<Shown>, StoryError> {
    let mut done: Vec<Shown> = Vec::new();
    loop {
        let heard = tale.wait_for(&["Stack Changed", "Stack Converged"], LIMIT, phase).await?;
        let before = done.last().map_or(0, |step| step.wave);
        done.extend(steps(&heard.detail).into_iter().map(|step| Shown { wave: before + step.wave, ..step }));
        if heard.kind == "Stack Converged" {
            return Ok(done);
        }
    }
}

/// After everything: both planners plan nothing.
pub(super) async fn again(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    for function in ["provision", "rotate"] {
        let answer = tale.would_do(function, None).await?;
        if answer["outcome"] != "converged" || !steps(&answer).is_empty() {
            return Err(StoryError::Unmet(format!("{function} still has something to do: {answer}")));
        }
    }
    phase.done("provision and rotate plan nothing");
    Ok(())
}

/// `state: absent`, deletion protection off: nothing of ours stays.
pub(super) async fn tear_down(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    tale.spec["state"] = "absent".into();
    tale.put_spec(true).await?;
    let refused = tale.wait_for(&["Stack Blocked"], Duration::from_secs(60), &phase).await?;
    if !refused.detail.to_string().contains("DeletionProtected") {
        return Err(StoryError::Unmet(format!("teardown was blocked for another reason: {}", refused.detail)));
    }
    phase.note("refused while deletionProtection is on");
    tale.spec["deletionProtection"] = false.into();
    tale.put_spec(true).await?;
    let steps = until_converged(tale, &phase).await?;
    show(&steps, &phase);
    let left = left_behind(tale).await?;
    if !left.is_empty() {
        return Err(StoryError::Unmet(format!("teardown left behind: {}", left.join(", "))));
    }
    phase.done(&format!("{} steps; nothing that carries our tag, rule or record is left", steps.len()));
    Ok(())
}

/// Whatever still is ours: Lattice resources, ingress rules, the record, a zone.
pub(super) async fn left_behind(tale: &Tale) -> Result<Vec<String>, StoryError> {
    let mut left: Vec<String> = tale.world.lattice.resources().into_keys().collect();
    let aws = tale.world.aws();
    let rules = aws.run(&["ec2", "describe-security-group-rules", "--output", "json"]).await?;
    for rule in rules["SecurityGroupRules"].as_array().into_iter().flatten() {
        if rule["Description"].as_str().is_some_and(|text| text.starts_with("espalier:")) {
            left.push(rule["SecurityGroupRuleId"].to_string());
        }
    }
    let zone = super::deploy::output(&tale.network, "ZoneId")?;
    let list = ["route53", "list-resource-record-sets", "--hosted-zone-id", zone, "--output", "json"];
    let records = aws.run(&list).await?;
    for record in records["ResourceRecordSets"].as_array().into_iter().flatten() {
        if record["Name"].as_str().is_some_and(|name| name.trim_end_matches('.') == super::judge::DOMAIN) {
            left.push(format!("record {}", super::judge::DOMAIN));
        }
    }
    left.extend(super::zone::zone(tale).await?.map(|zone| format!("hosted zone {zone}")));
    Ok(left)
}

struct Shown {
    wave: u64,
    text: String,
}

fn steps(answer: &Value) -> Vec<Shown> {
    let list = answer["steps"].as_array().into_iter().flatten();
    list.map(|step| {
        let (action, because) = (step["action"].as_str(), step["because"].as_str());
        let text = format!("{} ({})", action.unwrap_or_default(), because.unwrap_or_default());
        Shown { wave: step["wave"].as_u64().unwrap_or_default(), text }
    })
    .collect()
}

fn show(steps: &[Shown], phase: &Phase) {
    let mut waves: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for step in steps {
        waves.entry(step.wave).or_default().push(&step.text);
    }
    for (wave, texts) in waves {
        for (index, text) in texts.into_iter().enumerate() {
            let label = if index == 0 { format!("wave {wave}:") } else { String::new() };
            phase.note(&format!("{label:<8} {text}"));
        }
    }
}
