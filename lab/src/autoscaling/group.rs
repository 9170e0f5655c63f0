//! A group, its hooks, and where its instances are in their life (UG ec2-auto-scaling-lifecycle).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::ec2::Launch;
use super::form::Form;
use super::rules::{Refusal, Rule};
use super::xml::{element, member, wrap};

/// Where every instance runs.
const ZONE: &str = "eu-west-1a";

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It was launched and waits for its hooks.
    PendingWait,
    /// It serves.
    InService,
    /// It is to go and waits for its hooks.
    TerminatingWait,
    /// Nothing keeps it any more.
    TerminatingProceed,
}

impl Life {
    const fn name(self) -> &'static str {
        match self {
            Self::PendingWait => "Pending:Wait",
            Self::InService => "InService",
            Self::TerminatingWait => "Terminating:Wait",
            Self::TerminatingProceed => "Terminating:Proceed",
        }
    }

    const fn is_going(self) -> bool {
        matches!(self, Self::TerminatingWait | Self::TerminatingProceed)
    }
}

/// What a hook waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// An instance comes.
    Launching,
    /// An instance goes.
    Terminating,
}

impl Transition {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Launching => "autoscaling:EC2_INSTANCE_LAUNCHING",
            Self::Terminating => "autoscaling:EC2_INSTANCE_TERMINATING",
        }
    }
}

/// A lifecycle hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hook {
    pub(super) name: String,
    pub(super) transition: Transition,
    heartbeat_s: u32,
    is_continued: bool,
    pub(super) metadata: String,
}

impl Hook {
    fn read(form: &Form) -> Result<Self, Refusal> {
        let transition = match form.required("LifecycleTransition")? {
            "autoscaling:EC2_INSTANCE_LAUNCHING" => Transition::Launching,
            "autoscaling:EC2_INSTANCE_TERMINATING" => Transition::Terminating,
            other => return Err(Refusal::new(Rule::HookWord, other)),
        };
        // Without a word AWS abandons (API PutLifecycleHook, DefaultResult), after an hour (HeartbeatTimeout).
        let is_continued = match form.text("DefaultResult").unwrap_or("ABANDON") {
            "CONTINUE" => true,
            "ABANDON" => false,
            other => return Err(Refusal::new(Rule::HookWord, other)),
        };
        let heartbeat = form.text("HeartbeatTimeout").unwrap_or("3600");
        let heartbeat_s = heartbeat.parse().ok().filter(|seconds| (30..=7_200).contains(seconds));
        Ok(Self {
            name: form.required("LifecycleHookName")?.to_owned(),
            transition,
            heartbeat_s: heartbeat_s.ok_or_else(|| Refusal::new(Rule::Heartbeat, heartbeat))?,
            is_continued,
            metadata: form.text("NotificationMetadata").unwrap_or_default().to_owned(),
        })
    }

    /// What identifies the action: the lab's own, in the form of a UUID.
    pub(super) fn token(&self, instance: &str) -> String {
        let digits: String = instance.chars().filter(char::is_ascii_hexdigit).take(12).collect();
        let kind = u8::from(self.transition == Transition::Terminating);
        format!("00000000-0000-4000-800{kind}-{digits:0>12}")
    }

    pub(super) fn xml(&self, group: &str) -> String {
        let metadata = Some(&self.metadata).filter(|metadata| !metadata.is_empty());
        element("LifecycleHookName", &self.name)
            + &element("AutoScalingGroupName", group)
            + &element("LifecycleTransition", self.transition.name())
            + &metadata.map(|metadata| element("NotificationMetadata", metadata)).unwrap_or_default()
            + &element("HeartbeatTimeout", &self.heartbeat_s.to_string())
            + &element("DefaultResult", if self.is_continued { "CONTINUE" } else { "ABANDON" })
    }
}

/// An instance of a group.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) life: Life,
    /// The hooks it still waits for, and since when.
    waiting: BTreeMap<String, Instant>,
}

/// What time brings about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Due {
    #[default]
    Nothing,
    Launch(Launch),
    /// The one to go of those in service, when there are too many.
    Leave(String),
    /// Nothing keeps it any more.
    Terminate(String),
}

/// An Auto Scaling group.
#[derive(Debug, Clone)]
pub(super) struct Group {
    launch: Launch,
    min: usize,
    max: usize,
    desired: usize,
    pub(super) hooks: Vec<Hook>,
    pub(super) members: Vec<Member>,
    is_dissolving: bool,
}

impl Group {
    /// Reads what a group is created from.
    pub(super) fn read(form: &Form) -> Result<Self, Refusal> {
        let template =
            form.text("LaunchTemplate.LaunchTemplateId").ok_or_else(|| Refusal::new(Rule::NoTemplate, ""))?;
        let (min, max) = (form.number("MinSize")?, form.number("MaxSize")?);
        let subnet = form.required("VPCZoneIdentifier")?.split(',').next().unwrap_or_default().to_owned();
        let tags = form.structures("Tags.member").into_iter().filter_map(|tag| {
            let is_handed_on = tag.text("PropagateAtLaunch") == Some("true");
            is_handed_on.then(|| Some((tag.text("Key")?.to_owned(), tag.text("Value")?.to_owned())))?
        });
        let launch = Launch {
            template: template.to_owned(),
            version: form.text("LaunchTemplate.Version").unwrap_or("$Default").to_owned(),
            subnet,
            tags: tags.collect(),
        };
        let hooks = form.structures("LifecycleHookSpecificationList.member");
        let hooks = hooks.iter().map(Hook::read).collect::<Result<_, _>>()?;
        let mut group = Self { launch, min, max, desired: min, hooks, members: Vec::new(), is_dissolving: false };
        if form.text("DesiredCapacity").is_some() {
            group.desire(form.number("DesiredCapacity")?)?;
        }
        Ok(group)
    }

    pub(super) fn desire(&mut self, desired: usize) -> Result<(), Refusal> {
        if !(self.min..=self.max).contains(&desired) {
            return Err(Refusal::new(Rule::Capacity, desired.to_string()));
        }
        self.desired = desired;
        Ok(())
    }

    /// Times out whoever has waited for too long, and says what is to be done next.
    pub(super) fn due(&mut self, now: Instant, second: Duration) -> Due {
        self.time_out(now, second);
        if let Some(member) = self.members.iter().find(|member| member.life == Life::TerminatingProceed) {
            return Due::Terminate(member.id.clone());
        }
        let staying = self.members.iter().filter(|member| !member.life.is_going()).count();
        if staying < self.desired && !self.is_dissolving {
            return Due::Launch(self.launch.clone());
        }
        // The oldest of those in service (UG ec2-auto-scaling-termination-policies: where nothing else decides, any).
        let leaving = self.members.iter().find(|member| member.life == Life::InService);
        leaving.filter(|_| staying > self.desired).map_or(Due::Nothing, |member| Due::Leave(member.id.clone()))
    }

    /// A hook that nobody answered takes its default result (UG lifecycle-hooks-overview).
    fn time_out(&mut self, now: Instant, second: Duration) {
        let late = |hook: &Hook, since: Instant| now.duration_since(since) >= second * hook.heartbeat_s;
        let mut late_ones = Vec::new();
        for member in &self.members {
            for (name, since) in &member.waiting {
                let hook = self.hooks.iter().find(|hook| hook.name == *name && late(hook, *since));
                late_ones.extend(hook.map(|hook| (member.id.clone(), hook.name.clone(), hook.is_continued)));
            }
        }
        for (id, hook, is_continued) in late_ones {
            self.resolve(&id, &hook, is_continued);
        }
    }

    /// An instance runs; the hooks it waits for.
    pub(super) fn launched(&mut self, id: &str, now: Instant) -> Vec<(String, Hook)> {
        self.members.push(Member { id: id.to_owned(), life: Life::PendingWait, waiting: BTreeMap::new() });
        self.wait(id, Transition::Launching, Life::InService, now)
    }

    /// An instance is to go; the hooks it waits for.
    pub(super) fn leave(&mut self, id: &str, now: Instant) -> Vec<(String, Hook)> {
        if let Some(member) = self.member(id) {
            member.life = Life::TerminatingWait;
        }
        self.wait(id, Transition::Terminating, Life::TerminatingProceed, now)
    }

    /// An instance is gone.
    pub(super) fn terminated(&mut self, id: &str) -> Vec<(String, Hook)> {
        self.members.retain(|member| member.id != id);
        Vec::new()
    }

    /// The group goes, by force.
    pub(super) fn dissolve(&mut self) {
        (self.is_dissolving, self.desired, self.min) = (true, 0, 0);
        for member in &mut self.members {
            member.life = Life::TerminatingProceed;
            member.waiting.clear();
        }
    }

    /// Its last instance went after it was deleted.
    pub(super) fn is_dissolved(&self) -> bool {
        self.is_dissolving && self.members.is_empty()
    }

    fn wait(&mut self, id: &str, transition: Transition, else_life: Life, now: Instant) -> Vec<(String, Hook)> {
        let hooks: Vec<Hook> = self.hooks.iter().filter(|hook| hook.transition == transition).cloned().collect();
        if let Some(member) = self.member(id) {
            member.waiting = hooks.iter().map(|hook| (hook.name.clone(), now)).collect();
            if hooks.is_empty() {
                member.life = else_life;
            }
        }
        hooks.into_iter().map(|hook| (id.to_owned(), hook)).collect()
    }

    /// Answers an instance's hook. By instance, or by the token that the event carried.
    pub(super) fn complete(
        &mut self,
        hook: &str,
        instance: Option<&str>,
        token: Option<&str>,
        is_continued: bool,
    ) -> Result<(), Refusal> {
        let about = || instance.map_or_else(|| format!("token {token:?}"), |id| format!("instance ID {id}"));
        let known = self.hooks.iter().find(|one| one.name == hook);
        let known = known.ok_or_else(|| Refusal::new(Rule::NoActiveAction, about()))?;
        let is_it = |member: &&Member| {
            instance.is_none_or(|id| member.id == id) && token.is_none_or(|token| known.token(&member.id) == token)
        };
        let named = instance.is_some() || token.is_some();
        let waiting = self.members.iter().filter(|member| named && member.waiting.contains_key(hook)).find(is_it);
        let id = waiting.ok_or_else(|| Refusal::new(Rule::NoActiveAction, about()))?.id.clone();
        self.resolve(&id, hook, is_continued);
        Ok(())
    }

    /// One answer less to wait for. Who comes and is abandoned is terminated at once; who goes, goes either way (UG
    /// lifecycle-hooks-overview: "both results allow the instance to terminate").
    fn resolve(&mut self, id: &str, hook: &str, is_continued: bool) {
        let Some(member) = self.member(id) else { return };
        member.waiting.remove(hook);
        if !is_continued {
            member.waiting.clear();
        }
        if member.waiting.is_empty() {
            member.life = match member.life {
                Life::PendingWait if is_continued => Life::InService,
                Life::InService => Life::InService,
                Life::PendingWait | Life::TerminatingWait | Life::TerminatingProceed => Life::TerminatingProceed,
            };
        }
    }

    fn member(&mut self, id: &str) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    /// What DescribeAutoScalingGroups says of it: everything that its model requires.
    pub(super) fn xml(&self, name: &str, arn: &str) -> String {
        let of_member = |one: &Member| {
            member(
                &(element("InstanceId", &one.id)
                    + &element("AvailabilityZone", ZONE)
                    + &element("LifecycleState", one.life.name())
                    + &element("HealthStatus", "Healthy")
                    + &element("ProtectedFromScaleIn", "false")),
            )
        };
        element("AutoScalingGroupName", name)
            + &element("AutoScalingGroupARN", arn)
            + &element("MinSize", &self.min.to_string())
            + &element("MaxSize", &self.max.to_string())
            + &element("DesiredCapacity", &self.desired.to_string())
            + &element("DefaultCooldown", "300")
            + &wrap("AvailabilityZones", &element("member", ZONE))
            + &element("HealthCheckType", "EC2")
            + &element("CreatedTime", "2026-01-01T00:00:00Z")
            + &wrap("Instances", &self.members.iter().map(of_member).collect::<String>())
    }
}
