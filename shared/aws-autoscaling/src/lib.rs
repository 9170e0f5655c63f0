//! Auto Scaling, as far as provisioning needs it: who is in the groups a spec selects, and answering lifecycle hooks.
//!
//! A crate of its own, as `espalier-aws-ec2` is: only `provision` pays for the SDK. Groups, hooks and instances are the
//! user's; nothing here makes, changes or removes one.

use std::collections::{BTreeMap, BTreeSet};

use aws_config::SdkConfig;
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::types::{Instance, LifecycleHook};
use espalier_aws::error::{AwsError, during};
use espalier_domain::id::{StackName, TargetId};
use espalier_domain::network::{Action, Life, Scaling, SeenHook};
use espalier_domain::tag;

const GROUPS: &str = "autoscaling:DescribeAutoScalingGroups";
const HOOKS: &str = "autoscaling:DescribeLifecycleHooks";
const COMPLETE: &str = "autoscaling:CompleteLifecycleAction";

/// What this crate calls.
pub const ACTIONS: &[&str] = &[GROUPS, HOOKS, COMPLETE];

/// The hands.
#[derive(Debug, Clone)]
pub struct AutoScaling {
    client: Client,
}

/// The groups a spec selects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    /// Those that exist.
    pub names: BTreeSet<String>,
    /// Their instances.
    pub members: BTreeMap<TargetId, Scaling>,
    /// Their lifecycle hooks, where an instance waits for one.
    pub hooks: Vec<SeenHook>,
}

impl AutoScaling {
    /// Builds the client.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { client: Client::new(sdk) }
    }

    /// Looks at the groups of these names. One that does not exist is left out.
    ///
    /// # Errors
    /// When Auto Scaling cannot be asked, or answers without a field it always sends.
    pub async fn groups(&self, stack: &StackName, names: &[String]) -> Result<Groups, AwsError> {
        let mut groups = Groups::default();
        if names.is_empty() {
            // Without a name Auto Scaling would describe every group of the account.
            return Ok(groups);
        }
        let call = self.client.describe_auto_scaling_groups().set_auto_scaling_group_names(Some(names.to_vec()));
        let call = call.max_records(100);
        for group in call.into_paginator().items().send().try_collect().await.map_err(during(GROUPS))? {
            let name = group.auto_scaling_group_name.unwrap_or_default();
            let members = group.instances.unwrap_or_default();
            let mut waits = false;
            for member in members {
                let (id, life) = seen(member)?;
                waits |= matches!(life, Life::ComingWaits | Life::GoingWaits);
                groups.members.insert(id, Scaling { group: name.clone(), life });
            }
            if waits {
                groups.hooks.extend(self.hooks(stack, &name).await?);
            }
            groups.names.insert(name);
        }
        Ok(groups)
    }

    async fn hooks(&self, stack: &StackName, group: &str) -> Result<Vec<SeenHook>, AwsError> {
        let call = self.client.describe_lifecycle_hooks().auto_scaling_group_name(group);
        let answer = call.send().await.map_err(during(HOOKS))?;
        let hooks = answer.lifecycle_hooks.unwrap_or_default();
        Ok(hooks.into_iter().map(|hook| seen_hook(stack, group, hook)).collect())
    }

    /// Takes the step. `None` when the action is not Auto Scaling's.
    ///
    /// # Errors
    /// When Auto Scaling refuses or cannot be asked. Answered already, or timed out, is done.
    pub async fn take(&self, action: &Action) -> Option<Result<(), AwsError>> {
        let Action::CompleteLifecycleAction { group, hook, instance } = action else { return None };
        let call = self.client.complete_lifecycle_action().auto_scaling_group_name(group);
        let call = call.lifecycle_hook_name(hook).instance_id(instance.as_str()).lifecycle_action_result("CONTINUE");
        Some(match call.send().await.map_err(during(COMPLETE)) {
            Ok(_) => Ok(()),
            Err(error) if error.message().contains("No active Lifecycle Action") => Ok(()),
            Err(error) => Err(error),
        })
    }
}

fn seen(member: Instance) -> Result<(TargetId, Life), AwsError> {
    let id = member.instance_id.unwrap_or_default();
    let id = TargetId::parse(id).map_err(|error| AwsError::unexpected(GROUPS, error.to_string()))?;
    Ok((id, life(member.lifecycle_state.as_ref().map_or("", |state| state.as_str()))))
}

/// Amazon EC2 Auto Scaling user guide, instance lifecycle. A word that is not known is nothing to serve with.
fn life(state: &str) -> Life {
    match state {
        "Pending" | "Pending:Proceed" => Life::Coming,
        "Pending:Wait" => Life::ComingWaits,
        "InService" => Life::InService,
        "Terminating" | "Terminating:Proceed" | "Terminated" => Life::Going,
        "Terminating:Wait" => Life::GoingWaits,
        _ => Life::Aside,
    }
}

/// Hooks carry no tags; their notification metadata is a free text of their owner's.
fn seen_hook(stack: &StackName, group: &str, hook: LifecycleHook) -> SeenHook {
    SeenHook {
        group: group.to_owned(),
        name: hook.lifecycle_hook_name.unwrap_or_default(),
        is_for_launch: hook.lifecycle_transition.as_deref() == Some("autoscaling:EC2_INSTANCE_LAUNCHING"),
        ours: hook.notification_metadata.as_deref() == Some(&format!("{}={stack}", tag::STACK)),
    }
}
