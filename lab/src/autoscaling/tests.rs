//! Groups over an EC2 that runs whatever it is asked for.
#![allow(clippy::unwrap_used, reason = "a test")]

use serde_json::Value;

use super::*;

/// Remembers events.
#[derive(Default)]
struct Heard(Mutex<Vec<(String, Value)>>);

impl EventSink for Heard {
    fn emit(&self, _source: &str, detail_type: &str, _resources: Vec<String>, detail: Value) {
        lock(&self.0).push((detail_type.to_owned(), detail));
    }
}

struct World {
    scaling: AutoScaling,
    heard: Arc<Heard>,
}

impl World {
    async fn new() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let run = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let app = Router::new().fallback(async move |_: Bytes| {
            let number = run.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            format!("<RunInstancesResponse><instanceId>i-{number:017x}</instanceId></RunInstancesResponse>")
        });
        tokio::spawn(async move { axum::serve(socket, app).await });
        let heard = Arc::<Heard>::default();
        let scaling = AutoScaling::start(&format!("http://{address}"), Arc::clone(&heard) as _).await.unwrap();
        Self { scaling, heard }
    }

    /// A call; the answer, or the code of the refusal.
    async fn call(&self, action: &str, fields: &[(&str, &str)]) -> Result<String, String> {
        let form: Vec<(&str, &str)> = [("Action", action)].into_iter().chain(fields.iter().copied()).collect();
        let url = format!("http://{}", self.scaling.address());
        let answer = reqwest::Client::new().post(url).form(&form).send().await.unwrap();
        let (is_ok, text) = (answer.status().is_success(), answer.text().await.unwrap());
        if is_ok { Ok(text) } else { Err(text) }
    }

    async fn create(&self, hook: &[(&str, &str)]) -> Result<String, String> {
        let prefix = "LifecycleHookSpecificationList.member.";
        let named = [("1.LifecycleHookName", "come"), ("2.LifecycleHookName", "go")];
        let on = [
            ("1.LifecycleTransition", "autoscaling:EC2_INSTANCE_LAUNCHING"),
            ("2.LifecycleTransition", "autoscaling:EC2_INSTANCE_TERMINATING"),
        ];
        let hooks: Vec<(String, &str)> =
            named.iter().chain(&on).chain(hook).map(|(key, value)| (format!("{prefix}{key}"), *value)).collect();
        let mut fields = vec![("AutoScalingGroupName", "web"), ("MinSize", "0"), ("MaxSize", "2")];
        fields.extend([("VPCZoneIdentifier", "subnet-1"), ("LaunchTemplate.LaunchTemplateId", "lt-1")]);
        fields.extend(hooks.iter().map(|(key, value)| (key.as_str(), *value)));
        self.call("CreateAutoScalingGroup", &fields).await
    }

    async fn desire(&self, desired: &str) -> Result<String, String> {
        self.call("SetDesiredCapacity", &[("AutoScalingGroupName", "web"), ("DesiredCapacity", desired)]).await
    }

    async fn answer(&self, hook: &str, instance: &str, result: &str) -> Result<String, String> {
        let named = [("AutoScalingGroupName", "web"), ("LifecycleHookName", hook), ("InstanceId", instance)];
        self.call("CompleteLifecycleAction", &[&named[..], &[("LifecycleActionResult", result)]].concat()).await
    }

    async fn until(&self, wanted: &[Life]) -> Vec<String> {
        for _ in 0..600 {
            let members = self.scaling.members("web");
            if members.iter().map(|(_, life)| *life).eq(wanted.iter().copied()) {
                return members.into_iter().map(|(id, _)| id).collect();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?} and not {wanted:?}", self.scaling.members("web"));
    }
}

#[tokio::test]
async fn instances_wait_for_their_hooks_on_both_ways() {
    let world = World::new().await;
    world.create(&[("1.NotificationMetadata", "espalier:stack=web")]).await.unwrap();
    world.desire("1").await.unwrap();
    let id = world.until(&[Life::PendingWait]).await.remove(0);
    // Nobody waits for this one yet.
    assert!(world.answer("go", &id, "CONTINUE").await.unwrap_err().contains("No active Lifecycle Action"));
    world.answer("come", &id, "CONTINUE").await.unwrap();
    world.until(&[Life::InService]).await;
    assert!(world.answer("come", &id, "CONTINUE").await.unwrap_err().contains("No active Lifecycle Action"));
    world.desire("0").await.unwrap();
    world.until(&[Life::TerminatingWait]).await;
    let described = world.call("DescribeAutoScalingGroups", &[]).await.unwrap();
    assert!(described.contains("<LifecycleState>Terminating:Wait</LifecycleState>"), "{described}");
    world.answer("go", &id, "CONTINUE").await.unwrap();
    world.until(&[]).await;
    let heard = lock(&world.heard.0).clone();
    let told: Vec<_> = heard.iter().map(|(kind, detail)| (kind.as_str(), &detail["EC2InstanceId"])).collect();
    let id = Value::from(id);
    let kinds = ["EC2 Instance-launch Lifecycle Action", "EC2 Instance-terminate Lifecycle Action"];
    assert_eq!(told, kinds.map(|kind| (kind, &id)));
    assert_eq!(heard[0].1["NotificationMetadata"], "espalier:stack=web");
}

#[tokio::test]
async fn a_hook_that_nobody_answers_takes_its_default_and_who_is_abandoned_is_replaced() {
    let world = World::new().await;
    world.create(&[("1.HeartbeatTimeout", "30"), ("2.HeartbeatTimeout", "30")]).await.unwrap();
    world.desire("1").await.unwrap();
    let first = world.until(&[Life::PendingWait]).await;
    world.scaling.quicken(Duration::from_millis(20));
    let mut second = first.clone();
    while second == first || second.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        second = world.scaling.members("web").into_iter().map(|(id, _)| id).collect();
    }
    world.scaling.quicken(Duration::from_secs(1));
    let delete = [("AutoScalingGroupName", "web"), ("ForceDelete", "true")];
    assert!(world.call("DeleteAutoScalingGroup", &delete[..1]).await.unwrap_err().contains("ResourceInUse"));
    world.call("DeleteAutoScalingGroup", &delete).await.unwrap();
    world.until(&[]).await;
}

#[tokio::test]
async fn what_aws_refuses_is_refused() {
    let world = World::new().await;
    for (hook, why) in [
        (("1.HeartbeatTimeout", "29"), "HeartbeatTimeout 29"),
        (("1.HeartbeatTimeout", "7201"), "HeartbeatTimeout 7201"),
        (("1.DefaultResult", "GO"), "GO is neither"),
        (("2.LifecycleTransition", "launching"), "launching is neither"),
        (("1.LifecycleHookName", ""), "MissingParameter"),
    ] {
        assert!(world.create(&[hook]).await.unwrap_err().contains(why), "{hook:?}");
    }
    world.create(&[]).await.unwrap();
    assert!(world.create(&[]).await.unwrap_err().contains("AlreadyExists"));
    assert!(world.desire("3").await.unwrap_err().contains("desired capacity 3"));
    assert!(world.answer("come", "i-1", "YES").await.unwrap_err().contains("neither CONTINUE nor ABANDON"));
    let bare = [("AutoScalingGroupName", "bare"), ("MinSize", "0"), ("MaxSize", "1")];
    assert!(world.call("CreateAutoScalingGroup", &bare).await.unwrap_err().contains("LaunchTemplate"));
    for action in ["DescribeLifecycleHooks", "SetDesiredCapacity", "DeleteAutoScalingGroup"] {
        let missing = world.call(action, &[("AutoScalingGroupName", "gone"), ("DesiredCapacity", "1")]).await;
        assert!(missing.unwrap_err().contains("name not found"), "{action}");
    }
    assert!(world.call("PutLifecycleHook", &[]).await.unwrap_err().contains("InvalidAction"));
}
