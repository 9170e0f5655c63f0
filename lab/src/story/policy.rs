//! The scenario of policies: an auth policy by source VPC lets one client in and keeps another out, at the data plane; what
//! others do to it is undone; and a network policy that tests organisations, which cuts everybody off, is named.

use std::time::Duration;

use serde_json::{Value, json};

use super::deploy::{self, PORT};
use super::judge::{self, DOMAIN};
use super::watch::until;
use super::{CLIENT, PROBER, STACK, StoryError, Tale};
use crate::ui::{Phase, Ui};

const LIMIT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(200);

/// Tells the scenario; the recipe's stack serves everybody before and after.
pub(super) async fn told(tale: &mut Tale, ui: &Ui) -> Result<(), StoryError> {
    open(tale, [true, true]).await?;
    one_vpc(tale, ui.phase("one VPC only")).await?;
    undone(tale, ui.phase("policy undone")).await?;
    both(tale, ui.phase("both VPCs")).await?;
    organisation(tale, ui.phase("organisation")).await?;
    without(tale, ui.phase("no policy")).await
}

/// Only the targets' own VPC may connect: its client does, and the other VPC's does not.
async fn one_vpc(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    let vpc = deploy::output(&tale.network, "VpcId")?.to_owned();
    apply(tale, Some(&[vpc.as_str()]), &phase).await?;
    open(tale, [true, false]).await?;
    let denied = tale.world.lattice.event_counts().get("NotAuthorized").copied().unwrap_or_default();
    if denied == 0 {
        return Err(StoryError::Unmet("the client was kept out by something else than the policy".to_owned()));
    }
    phase.done("a client in the VPC that the policy names gets in, one in another associated VPC does not");
    Ok(())
}

/// Somebody takes the policy out of force: everybody gets in, until it is looked at again.
async fn undone(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    let service = id(&tale.world.aws().run(&["vpc-lattice", "list-services", "--output", "json"]).await?)?;
    let open_to_all = ["vpc-lattice", "update-service", "--service-identifier", &service, "--auth-type", "NONE"];
    tale.world.aws().run(&open_to_all).await?;
    open(tale, [true, true]).await?;
    look(tale, &phase).await?;
    open(tale, [true, false]).await?;
    phase.done("taken out of force by hand, found and put right");
    Ok(())
}

async fn both(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    let own = deploy::output(&tale.network, "VpcId")?.to_owned();
    let other = deploy::output(&tale.network, "ConsumerVpcId")?.to_owned();
    apply(tale, Some(&[own.as_str(), other.as_str()]), &phase).await?;
    open(tale, [true, true]).await?;
    phase.done("both VPCs named, both get in");
    Ok(())
}

/// The guide's `DenyOutsideOrg` on the network: nobody gets in, and `provision` says which statement it is.
async fn organisation(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    let aws = tale.world.aws();
    let network = id(&aws.run(&["vpc-lattice", "list-service-networks", "--output", "json"]).await?)?;
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"},
        {"Sid": "DenyOutsideOrg", "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*",
         "Condition": {"StringNotEquals": {"aws:PrincipalOrgID": "o-0123456789"}}}]});
    let put = ["vpc-lattice", "put-auth-policy", "--resource-identifier", &network, "--policy", &policy.to_string()];
    aws.run(&put).await?;
    let auth_type = async |auth_type: &str| {
        let update = ["vpc-lattice", "update-service-network", "--service-network-identifier", &network];
        aws.run(&[&update[..], &["--auth-type", auth_type]].concat()).await
    };
    auth_type("AWS_IAM").await?;
    let told = async {
        open(tale, [false, false]).await?;
        let answer = tale.would_do("provision", None).await?;
        let said = answer["blocks"].to_string();
        if said.contains("CutOff") && said.contains("DenyOutsideOrg") {
            return Ok(());
        }
        Err(StoryError::Unmet(format!("provision does not name the policy that cuts everybody off: {answer}")))
    };
    let told = told.await;
    auth_type("NONE").await?;
    told?;
    open(tale, [true, true]).await?;
    phase.done("DenyOutsideOrg on the network cuts everybody off, and provision names it");
    Ok(())
}

async fn without(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    apply(tale, None, &phase).await?;
    open(tale, [true, true]).await?;
    let answer = tale.would_do("provision", None).await?;
    if answer["outcome"] != "converged" {
        return Err(StoryError::Unmet(format!("provision still has something to do: {answer}")));
    }
    phase.done("without a policy everybody whom the associations admit gets in; nothing is left to do");
    Ok(())
}

/// Writes the spec with a policy for these VPCs, and waits until `provision` has nothing left to do.
async fn apply(tale: &mut Tale, vpcs: Option<&[&str]>, phase: &Phase) -> Result<(), StoryError> {
    let service = tale.spec["service"].as_object_mut();
    let service = service.ok_or_else(|| StoryError::Unmet("the spec has no service".to_owned()))?;
    match vpcs {
        Some(vpcs) => {
            let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
                "Action": "vpc-lattice-svcs:Invoke", "Resource": "*",
                "Condition": {"StringEquals": {"vpc-lattice-svcs:SourceVpc": vpcs}}}]});
            service.insert("authPolicy".to_owned(), policy);
        }
        None => drop(service.remove("authPolicy")),
    }
    tale.put_spec(true).await?;
    tale.wait_for(&["Stack Converged"], LIMIT, phase).await.map(drop)
}

/// Has `provision` look, and waits until nothing is left to do.
async fn look(tale: &Tale, phase: &Phase) -> Result<(), StoryError> {
    tale.watch.invoke(&tale.function("provision"), &json!({"stack": STACK})).await?;
    let mut last = Value::Null;
    let done = until(LIMIT, LOOK, async || {
        phase.progress("waiting until nothing is left to do");
        tale.watch.hear().await?;
        last = tale.would_do("provision", None).await?;
        Ok::<_, StoryError>((last["outcome"] == "converged").then_some(()))
    })
    .await?;
    done.ok_or_else(|| StoryError::Unmet(format!("provision did not put it right: {last}")))
}

/// Whether a client in the targets' VPC and one in the other consumer's VPC get through, in this order.
async fn open(tale: &Tale, expected: [bool; 2]) -> Result<(), StoryError> {
    for (source, expected) in [PROBER, CLIENT].into_iter().zip(expected) {
        let client = judge::client(&tale.world, source, &tale.roots)?;
        let answer = client.get(DOMAIN, PORT, "/").await;
        if answer.is_ok() != expected {
            let wanted = if expected { "through" } else { "kept out" };
            return Err(StoryError::Unmet(format!("{source} should be {wanted}: {answer:?}")));
        }
    }
    Ok(())
}

/// The only one's id.
fn id(list: &Value) -> Result<String, StoryError> {
    let mut ids = list["items"].as_array().into_iter().flatten().filter_map(|one| one["id"].as_str());
    ids.next().map(str::to_owned).ok_or_else(|| StoryError::Unmet(format!("one was expected: {list}")))
}
