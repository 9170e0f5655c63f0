//! Every refusal of the stand-in, each with the line of documentation it rests on. `API` is the Amazon EC2 Auto Scaling
//! API Reference, `UG` its user guide. Where AWS does not say how it answers, it is `ValidationError`, the service's own
//! word for most that is wrong.

use std::fmt;

/// A reason to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// API CreateAutoScalingGroup: "The name must be unique per Region per account"; error `AlreadyExists`.
    GroupExists,
    /// API CreateAutoScalingGroup: one of launch template, launch configuration, mixed instances policy or instance.
    NoTemplate,
    /// API SetDesiredCapacity: between the group's minimum and maximum.
    Capacity,
    /// API DescribeLifecycleHooks, CompleteLifecycleAction and others: the name of a group that exists.
    GroupMissing,
    /// API DeleteAutoScalingGroup: "If the group has instances, you must specify the option to force"; `ResourceInUse`.
    GroupInUse,
    /// API LifecycleHookSpecification: `HeartbeatTimeout` "range is from 30 to 7200 seconds".
    Heartbeat,
    /// API LifecycleHookSpecification: the transitions, and the default result `CONTINUE` or `ABANDON`.
    HookWord,
    /// API CompleteLifecycleAction: "You can specify either CONTINUE or ABANDON".
    ActionResult,
    /// API CompleteLifecycleAction: a lifecycle action that is under way; the text is the one AWS was seen to send.
    NoActiveAction,
    /// API, common errors: `MissingParameter`.
    Missing,
    /// API, common errors: a body that is no form.
    NoForm,
    /// The lab has no use for it; AWS says so of actions that it does not know.
    NotServed,
}

/// A refusal: the rule, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) rule: Rule,
    about: String,
}

impl Refusal {
    pub(super) fn new(rule: Rule, about: impl Into<String>) -> Self {
        Self { rule, about: about.into() }
    }

    /// The error's code.
    pub(super) fn code(&self) -> &'static str {
        match self.rule {
            Rule::GroupExists => "AlreadyExists",
            Rule::GroupInUse => "ResourceInUse",
            Rule::Missing => "MissingParameter",
            Rule::NotServed => "InvalidAction",
            Rule::NoTemplate
            | Rule::Capacity
            | Rule::GroupMissing
            | Rule::Heartbeat
            | Rule::HookWord
            | Rule::ActionResult
            | Rule::NoActiveAction
            | Rule::NoForm => "ValidationError",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = &self.about;
        match self.rule {
            Rule::GroupExists => write!(out, "AutoScalingGroup by this name already exists: {about}"),
            Rule::NoTemplate => write!(
                out,
                "Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or \
                 MixedInstancesPolicy parameter; the lab takes a LaunchTemplate"
            ),
            Rule::Capacity => write!(out, "desired capacity {about} is not between the group's minimum and maximum"),
            Rule::GroupMissing => write!(out, "AutoScalingGroup name not found - no such group: {about}"),
            Rule::GroupInUse => {
                write!(out, "You cannot delete an AutoScalingGroup while there are instances in the group: {about}")
            }
            Rule::Heartbeat => write!(out, "HeartbeatTimeout {about} is not within 30 to 7200 seconds"),
            Rule::HookWord => write!(out, "{about} is neither a transition nor a default result of a lifecycle hook"),
            Rule::ActionResult => write!(out, "LifecycleActionResult {about} is neither CONTINUE nor ABANDON"),
            Rule::NoActiveAction => write!(out, "No active Lifecycle Action found with {about}"),
            Rule::Missing => write!(out, "The request must contain the parameter {about}"),
            Rule::NoForm => write!(out, "the request is no form: {about}"),
            Rule::NotServed => write!(out, "the lab's Auto Scaling does not serve {about}"),
        }
    }
}
