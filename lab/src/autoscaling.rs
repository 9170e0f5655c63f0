//! A strict stand-in for Amazon EC2 Auto Scaling, as far as lifecycle hooks go: groups whose instances come and go, wait
//! for their hooks, and time out. The instances are EC2's (moto); its own Auto Scaling has hooks that nobody waits for.
//!
//! What AWS refuses is refused here (`rules`); words and orders are those of the user guide's instance lifecycle.
//! Invariant: no instance is in service, or terminated, before its hooks are answered or have timed out.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;

mod ec2;
mod form;
mod group;
mod rules;
#[cfg(test)]
mod tests;
mod xml;

use crate::aws::{ACCOUNT, REGION};
use crate::ssm::EventSink;
use ec2::Ec2;
use form::Form;
use group::{Due, Group, Hook};
pub use group::{Life, Transition};
use rules::{Refusal, Rule};

/// Time passes at this rate; requests do not advance it.
const TICK: Duration = Duration::from_millis(100);

/// Groups on a page: few, so that callers that do not page are found out.
const PAGE: usize = 1;

/// The stand-in. Clones are the same one.
#[derive(Clone)]
pub struct AutoScaling(Arc<Inner>);

struct Inner {
    groups: Mutex<BTreeMap<String, Group>>,
    /// How long a second of a heartbeat takes.
    second: Mutex<Duration>,
    ec2: Ec2,
    sink: Arc<dyn EventSink>,
    address: SocketAddr,
}

impl AutoScaling {
    /// Serves the API on a loopback port; instances are run by the EC2 at `ec2`, events go to `sink`.
    pub async fn start(ec2: &str, sink: Arc<dyn EventSink>) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let scaling = Self(Arc::new(Inner {
            groups: Mutex::default(),
            second: Mutex::new(Duration::from_secs(1)),
            ec2: Ec2::new(ec2),
            sink,
            address: listener.local_addr()?,
        }));
        let app = Router::new().fallback(answer).with_state(scaling.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        tokio::spawn(scaling.clone().run());
        Ok(scaling)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// From now on a second of a heartbeat's timeout takes so long, also for who waits already.
    pub fn quicken(&self, second: Duration) {
        *lock(&self.0.second) = second;
    }

    /// The instances of a group, oldest first.
    pub fn members(&self, group: &str) -> Vec<(String, Life)> {
        let groups = lock(&self.0.groups);
        let members = groups.get(group).map(|group| group.members.as_slice()).unwrap_or_default();
        members.iter().map(|member| (member.id.clone(), member.life)).collect()
    }

    /// Lets time pass, one step of one group after the other.
    async fn run(self) {
        loop {
            tokio::time::sleep(TICK).await;
            let names: Vec<String> = lock(&self.0.groups).keys().cloned().collect();
            for name in names {
                self.advance(&name).await;
            }
        }
    }

    async fn advance(&self, name: &str) {
        let (now, second) = (Instant::now(), *lock(&self.0.second));
        let due = lock(&self.0.groups).get_mut(name).map(|group| group.due(now, second)).unwrap_or_default();
        match due {
            Due::Nothing => {}
            Due::Launch(launch) => {
                // EC2 that does not answer is asked again at the next tick.
                if let Ok(id) = self.0.ec2.run(&launch).await {
                    self.change(name, |group| group.launched(&id, now));
                }
            }
            Due::Terminate(id) => {
                if self.0.ec2.terminate(&id).await.is_ok() {
                    self.change(name, |group| group.terminated(&id));
                    lock(&self.0.groups).retain(|_, group| !group.is_dissolved());
                }
            }
            Due::Leave(id) => self.change(name, |group| group.leave(&id, now)),
        }
    }

    /// Changes a group, and tells of everybody who came to wait by that.
    fn change(&self, name: &str, change: impl FnOnce(&mut Group) -> Vec<(String, Hook)>) {
        let waiting = lock(&self.0.groups).get_mut(name).map(change).unwrap_or_default();
        for (instance, hook) in waiting {
            self.tell(name, &instance, &hook);
        }
    }

    /// Amazon EC2 Auto Scaling user guide, EventBridge event reference: lifecycle actions.
    fn tell(&self, group: &str, instance: &str, hook: &Hook) {
        let (kind, origin, destination) = match hook.transition {
            Transition::Launching => ("EC2 Instance-launch Lifecycle Action", "EC2", "AutoScalingGroup"),
            Transition::Terminating => ("EC2 Instance-terminate Lifecycle Action", "AutoScalingGroup", "EC2"),
        };
        let detail = json!({
            "LifecycleActionToken": hook.token(instance),
            "AutoScalingGroupName": group,
            "LifecycleHookName": hook.name,
            "EC2InstanceId": instance,
            "LifecycleTransition": hook.transition.name(),
            "NotificationMetadata": hook.metadata,
            "Origin": origin,
            "Destination": destination,
        });
        self.0.sink.emit("aws.autoscaling", kind, vec![arn(group)], detail);
    }

    fn call(&self, form: &Form) -> Result<(String, String), Refusal> {
        let action = form.text("Action").unwrap_or_default().to_owned();
        let answer = match action.as_str() {
            "CreateAutoScalingGroup" => self.create(form),
            "DescribeAutoScalingGroups" => self.describe(form),
            "DescribeLifecycleHooks" => self.describe_hooks(form),
            "CompleteLifecycleAction" => self.complete(form),
            "SetDesiredCapacity" => self.set_desired(form),
            "DeleteAutoScalingGroup" => self.delete(form),
            _ => Err(Refusal::new(Rule::NotServed, &action)),
        };
        answer.map(|inside| (action, inside))
    }

    fn create(&self, form: &Form) -> Result<String, Refusal> {
        let name = form.required("AutoScalingGroupName")?;
        let group = Group::read(form)?;
        let mut groups = lock(&self.0.groups);
        if groups.contains_key(name) {
            return Err(Refusal::new(Rule::GroupExists, name));
        }
        groups.insert(name.to_owned(), group);
        Ok(String::new())
    }

    /// Of names that do not exist nothing is said (API DescribeAutoScalingGroups).
    fn describe(&self, form: &Form) -> Result<String, Refusal> {
        let names = form.list("AutoScalingGroupNames.member");
        let groups = lock(&self.0.groups);
        let after = form.text("NextToken");
        let wanted = groups.iter().filter(|(name, _)| names.is_empty() || names.contains(&name.as_str()));
        let mut wanted = wanted.filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        let page: Vec<_> = wanted.by_ref().take(PAGE).collect();
        let next = wanted.next().and(page.last()).map(|(name, _)| xml::element("NextToken", name));
        let members: String = page.into_iter().map(|(name, group)| xml::member(&group.xml(name, &arn(name)))).collect();
        Ok(xml::wrap("AutoScalingGroups", &members) + &next.unwrap_or_default())
    }

    fn describe_hooks(&self, form: &Form) -> Result<String, Refusal> {
        let name = form.required("AutoScalingGroupName")?;
        let groups = lock(&self.0.groups);
        let group = groups.get(name).ok_or_else(|| Refusal::new(Rule::GroupMissing, name))?;
        let asked = form.list("LifecycleHookNames.member");
        let hooks = group.hooks.iter().filter(|hook| asked.is_empty() || asked.contains(&hook.name.as_str()));
        Ok(xml::wrap("LifecycleHooks", &hooks.map(|hook| xml::member(&hook.xml(name))).collect::<String>()))
    }

    fn complete(&self, form: &Form) -> Result<String, Refusal> {
        let (name, hook) = (form.required("AutoScalingGroupName")?, form.required("LifecycleHookName")?);
        let is_continued = match form.required("LifecycleActionResult")? {
            "CONTINUE" => true,
            "ABANDON" => false,
            other => return Err(Refusal::new(Rule::ActionResult, other)),
        };
        let mut groups = lock(&self.0.groups);
        let group = groups.get_mut(name).ok_or_else(|| Refusal::new(Rule::GroupMissing, name))?;
        group.complete(hook, form.text("InstanceId"), form.text("LifecycleActionToken"), is_continued)?;
        Ok(String::new())
    }

    fn set_desired(&self, form: &Form) -> Result<String, Refusal> {
        let name = form.required("AutoScalingGroupName")?;
        let mut groups = lock(&self.0.groups);
        let group = groups.get_mut(name).ok_or_else(|| Refusal::new(Rule::GroupMissing, name))?;
        group.desire(form.number("DesiredCapacity")?)?;
        Ok(String::new())
    }

    /// By force the instances go with the group, and whoever waits for a hook waits no longer (API
    /// DeleteAutoScalingGroup).
    fn delete(&self, form: &Form) -> Result<String, Refusal> {
        let name = form.required("AutoScalingGroupName")?;
        let mut groups = lock(&self.0.groups);
        let group = groups.get_mut(name).ok_or_else(|| Refusal::new(Rule::GroupMissing, name))?;
        if form.text("ForceDelete") == Some("true") {
            group.dissolve();
        } else if !group.members.is_empty() {
            return Err(Refusal::new(Rule::GroupInUse, name));
        }
        if group.members.is_empty() {
            groups.remove(name);
        }
        Ok(String::new())
    }
}

async fn answer(State(scaling): State<AutoScaling>, body: Bytes) -> Response {
    let called = Form::read(&body).and_then(|form| scaling.call(&form));
    let (status, text) = match called {
        Ok((action, inside)) => (StatusCode::OK, xml::answer(&action, &inside)),
        Err(refusal) => (StatusCode::BAD_REQUEST, xml::refusal(refusal.code(), &refusal.to_string())),
    };
    (status, [("content-type", "text/xml")], text).into_response()
}

fn arn(group: &str) -> String {
    format!(
        "arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:00000000-0000-4000-8000-000000000001:\
         autoScalingGroupName/{group}"
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
