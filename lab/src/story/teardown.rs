//! The scenario of teardown: a stack that others have half deleted is torn down while calls fail and the function is killed
//! on the way. What is somebody else's stays, and what hangs on Espalier's is named; when its owner has taken it away, the
//! rest goes. Then the stack is made again, with a hosted zone of its own that is given up later, and serves.

use serde_json::{Value, json};

use super::drift::strangers::{self, Strangers};
use super::look::{LIMIT, PAUSE, converged, forget, lattice, ours, provision, steps};
use super::watch::until;
use super::{StoryError, Tale, stack, zone};
use crate::chaos::{CallFault, Fault};
use crate::ui::{Phase, Ui};

/// What happens to calls on the way; the SDK tries three times, so four in a row reach the product.
const FAULTS: [Fault; 5] = [
    call("vpc_lattice.DeleteServiceNetworkServiceAssociation", 1, CallFault::KillAfter),
    call("vpc_lattice.DeleteService", 4, CallFault::Unavailable),
    call("vpc_lattice.DeregisterTargets", 4, CallFault::Throttle),
    call("vpc_lattice.DeleteTargetGroup", 1, CallFault::LoseAnswer),
    call("ec2.RevokeSecurityGroupIngress", 1, CallFault::KillBefore),
];

const fn call(operation: &'static str, last: u32, what: CallFault) -> Fault {
    Fault::Call { operation, first: 1, last, what }
}

/// Tells the scenario; the recipe's stack stands before and after.
pub(super) async fn told(tale: &mut Tale, ui: &Ui) -> Result<(), StoryError> {
    let strangers = Strangers::make(tale).await?;
    let theirs = guest_association(tale).await?;
    let spec = tale.spec.clone();
    half_deleted(tale, &theirs, ui.phase("half deleted")).await?;
    strangers.untouched(tale).await?;
    nothing_left(tale, &theirs, strangers, ui.phase("nothing left")).await?;
    tale.spec = spec;
    again(tale, ui.phase("made again")).await?;
    back(tale, ui.phase("its zone given up")).await
}

/// Others delete some of it by hand, then it is taken down under faults, as far as it goes.
async fn half_deleted(tale: &mut Tale, theirs: &str, phase: Phase) -> Result<(), StoryError> {
    let (service, listener, group) = (ours(tale, "svc-")?, ours(tale, "listener-")?, ours(tale, "tg-")?);
    strangers::delete_record(tale).await?;
    lattice(tale, &["delete-listener", "--service-identifier", &service, "--listener-identifier", &listener]).await?;
    let target = tale.world.hosts.first().map(|host| format!("id={}", host.id)).unwrap_or_default();
    lattice(tale, &["deregister-targets", "--target-group-identifier", &group, "--targets", &target]).await?;

    tale.world.chaos.arm(FAULTS.to_vec());
    tale.spec["state"] = "absent".into();
    tale.spec["deletionProtection"] = false.into();
    tale.put_spec(true).await?;
    let stuck = stuck(tale, theirs, &phase).await;
    let met = tale.world.chaos.disarm();
    let looks = stuck?;
    if met.len() != FAULTS.len() {
        return Err(StoryError::Unmet(format!("of the faults on the way only {met:?} were met")));
    }
    // The network, and what hangs on it: whose it is decides what stays.
    let network = ours(tale, "sn-")?;
    let left = stack::left_behind(tale).await?;
    let is_excused = |arn: &&String| [network.as_str(), theirs].iter().any(|id| arn.ends_with(id));
    let is_strangers = |arn: &&String| arn.contains(":targetgroup/");
    if let Some(other) = left.iter().find(|arn| !is_excused(arn) && !is_strangers(arn)) {
        return Err(StoryError::Unmet(format!("{other} is still there, and nothing holds it")));
    }
    phase.done(&format!(
        "record, listener and a target gone by hand; killed twice, refused and left without an answer; after {looks} \
         looks all is gone but the network, which somebody else's association holds: named"
    ));
    Ok(())
}

/// Has `provision` look until only what is not ours is in its way; how often it looked.
async fn stuck(tale: &Tale, theirs: &str, phase: &Phase) -> Result<u32, StoryError> {
    let (mut looks, mut last) = (0, Value::Null);
    let found = until(LIMIT, PAUSE, async || {
        phase.progress(&format!("waiting until only {theirs} is in the way"));
        looks += 1;
        // A look that is killed or refused is what the faults are for.
        last = match provision(tale).await {
            Ok(answer) => answer,
            Err(error) => json!({"failed": error.to_string()}),
        };
        let mut blocks = last["blocks"].as_array().into_iter().flatten();
        let named = blocks.any(|block| block["code"] == "Foreign" && block["because"].to_string().contains(theirs));
        let is_done = named && steps(&last).next().is_none() && tale.world.chaos.is_spent();
        Ok::<_, StoryError>(is_done.then_some(()))
    });
    let found = found.await?;
    found.ok_or_else(|| StoryError::Unmet(format!("not taken down within {} s: {last}", LIMIT.as_secs())))?;
    Ok(looks)
}

/// Their owners take away what is theirs: then nothing is left.
async fn nothing_left(tale: &Tale, theirs: &str, strangers: Strangers, phase: Phase) -> Result<(), StoryError> {
    let identifier = ["--service-network-vpc-association-identifier", theirs];
    lattice(tale, &[&["delete-service-network-vpc-association"], &identifier[..]].concat()).await?;
    let done = converged(tale, &phase).await?;
    let Some(step) = done.iter().find(|step| step.starts_with("- ServiceNetwork")) else {
        return Err(StoryError::Unmet(format!("the network was not deleted at last: {done:?}")));
    };
    phase.note(step);
    // Other runs deleted all but the network, and some of them were killed: the last one tells of everything.
    let told = provision(tale).await?["teardown"]["deleted"].clone();
    let told: Vec<&str> = told.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let kinds = ["ServiceAssociation", "Service ", "TargetGroup", "VpcAssociation", "ServiceNetwork", "Ingress"];
    if let Some(kind) = kinds.iter().find(|kind| !told.iter().any(|one| one.starts_with(**kind))) {
        return Err(StoryError::Unmet(format!("that {kind} was deleted is not told: {told:?}")));
    }
    strangers.untouched(tale).await?;
    strangers.remove(tale).await?;
    let left = stack::left_behind(tale).await?;
    if !left.is_empty() {
        return Err(StoryError::Unmet(format!("teardown left behind: {}", left.join(", "))));
    }
    forget(tale).await?;
    phase.done("the network went when its last guest had left; somebody else's group and rule were as they were");
    Ok(())
}

/// The same spec as before, but for a zone of its own, makes the same stack; the targets still serve what they served.
async fn again(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    zone::made(tale, &phase).await?;
    forget(tale).await?;
    phase.done(
        "made again with a private zone of its own, which resolves in the consumers' VPCs only; clients are served, what was \
         proven is registered at once",
    );
    Ok(())
}

/// The former spec, to the letter.
async fn back(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    let zone = super::deploy::output(&tale.network, "ZoneId")?.trim_start_matches("/hostedzone/").to_owned();
    zone::given_up(tale, &json!({"hostedZoneId": zone}), &phase).await?;
    phase.done("somebody else's record in it is named and kept it; without that it went, and clients are served");
    Ok(())
}

/// Somebody lets another VPC into our service network; the association's id.
async fn guest_association(tale: &Tale) -> Result<String, StoryError> {
    let (network, vpc) = (ours(tale, "sn-")?, tale.outsider.as_str());
    let create = ["create-service-network-vpc-association", "--service-network-identifier", &network];
    let made = lattice(tale, &[&create[..], &["--vpc-identifier", vpc]].concat()).await?;
    let id = made["id"].as_str().map(str::to_owned);
    let id = id.ok_or_else(|| StoryError::Unmet(format!("the VPC was not associated: {made}")))?;
    let get = ["get-service-network-vpc-association", "--service-network-vpc-association-identifier", &id];
    let active = until(LIMIT, PAUSE, async || {
        let seen = lattice(tale, &get).await?;
        Ok::<_, StoryError>((seen["status"] == "ACTIVE").then_some(()))
    });
    active.await?.ok_or_else(|| StoryError::Unmet(format!("{id} does not become active")))?;
    Ok(id)
}
