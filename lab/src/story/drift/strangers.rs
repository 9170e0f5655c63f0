//! What others made and own, which stays whatever Espalier does; and what others do by hand outside VPC Lattice.

use serde_json::{Value, json};

use super::super::deploy::{self, PORT};
use super::super::judge::DOMAIN;
use super::super::look::{LIMIT, PAUSE, lattice};
use super::super::watch::until;
use super::super::{StoryError, Tale};

/// Where the stranger's rule admits somebody to the targets.
const CIDR: &str = "127.9.9.0/24";

/// Somebody else's target group in the targets' VPC, and a rule in the targets' security group.
pub(in crate::story) struct Strangers {
    /// The target group's id.
    pub(in crate::story) group: String,
    rule: String,
}

impl Strangers {
    /// Makes them, as somebody with the AWS CLI would.
    pub(in crate::story) async fn make(tale: &Tale) -> Result<Self, StoryError> {
        let vpc = deploy::output(&tale.network, "VpcId")?;
        let config = json!({"port": PORT, "protocol": "TCP", "vpcIdentifier": vpc}).to_string();
        let create = ["create-target-group", "--name", "somebody-elses", "--type", "INSTANCE", "--config", &config];
        let made = lattice(tale, &create).await?;
        let group = made["id"].as_str().unwrap_or_default().to_owned();
        let active = until(LIMIT, PAUSE, async || {
            let seen = lattice(tale, &["get-target-group", "--target-group-identifier", &group]).await?;
            Ok::<_, StoryError>((seen["status"] == "ACTIVE").then_some(()))
        });
        active.await?.ok_or_else(|| StoryError::Unmet(format!("{group} does not become active")))?;
        let targets = deploy::output(&tale.network, "TargetGroupId")?;
        let mut authorize = vec!["ec2", "authorize-security-group-ingress", "--group-id", targets];
        authorize.extend(["--protocol", "tcp", "--port", "9999", "--cidr", CIDR, "--output", "json"]);
        let made = tale.world.aws().run(&authorize).await?;
        let rule = made["SecurityGroupRules"][0]["SecurityGroupRuleId"].as_str().map(str::to_owned);
        let rule = rule.ok_or_else(|| StoryError::Unmet(format!("no rule was made: {made}")))?;
        Ok(Self { group, rule })
    }

    /// They are as they were made.
    pub(in crate::story) async fn untouched(&self, tale: &Tale) -> Result<(), StoryError> {
        let list =
            ["ec2", "describe-security-group-rules", "--security-group-rule-ids", &self.rule, "--output", "json"];
        let seen = tale.world.aws().run(&list).await?;
        let group = lattice(tale, &["get-target-group", "--target-group-identifier", &self.group]).await?;
        if group["status"] == "ACTIVE" && seen["SecurityGroupRules"][0]["CidrIpv4"] == CIDR {
            return Ok(());
        }
        Err(StoryError::Unmet(format!("what is not ours was touched: {group}, {seen}")))
    }

    /// Their owner takes them away.
    pub(in crate::story) async fn remove(self, tale: &Tale) -> Result<(), StoryError> {
        lattice(tale, &["delete-target-group", "--target-group-identifier", &self.group]).await?;
        revoke(tale, &[self.rule.as_str()]).await
    }
}

/// Deletes the service's record.
pub(in crate::story) async fn delete_record(tale: &Tale) -> Result<(), StoryError> {
    let zone = deploy::output(&tale.network, "ZoneId")?;
    let list = ["route53", "list-resource-record-sets", "--hosted-zone-id", zone, "--output", "json"];
    let records = tale.world.aws().run(&list).await?;
    let mut records = records["ResourceRecordSets"].as_array().into_iter().flatten();
    let record = records.find(|one| one["Name"].as_str().is_some_and(|name| name.trim_end_matches('.') == DOMAIN));
    let batch = json!({"Changes": [{"Action": "DELETE", "ResourceRecordSet": record}]}).to_string();
    let change = ["route53", "change-resource-record-sets", "--hosted-zone-id", zone, "--change-batch", &batch];
    tale.world.aws().run(&change).await?;
    Ok(())
}

/// Closes the targets to VPC Lattice: every rule for a prefix list goes.
pub(in crate::story) async fn close_targets(tale: &Tale) -> Result<(), StoryError> {
    let filter = format!("Name=group-id,Values={}", deploy::output(&tale.network, "TargetGroupId")?);
    let list = ["ec2", "describe-security-group-rules", "--filters", &filter, "--output", "json"];
    let rules = tale.world.aws().run(&list).await?;
    let rules = rules["SecurityGroupRules"].as_array().into_iter().flatten();
    let of_lattice = |rule: &&Value| rule["PrefixListId"].is_string() && rule["IsEgress"] != true;
    let ids: Vec<&str> = rules.filter(of_lattice).filter_map(|rule| rule["SecurityGroupRuleId"].as_str()).collect();
    revoke(tale, &ids).await
}

async fn revoke(tale: &Tale, rules: &[&str]) -> Result<(), StoryError> {
    let targets = deploy::output(&tale.network, "TargetGroupId")?;
    let revoke = ["ec2", "revoke-security-group-ingress", "--group-id", targets, "--security-group-rule-ids"];
    tale.world.aws().run(&[&revoke[..], rules].concat()).await?;
    Ok(())
}
